"""Non-linear arrays with lines by their series: against exact solutions, and against the same network that solves."""

from __future__ import annotations

import copy
import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from crossbar_oracle import Prepared
from torch import Tensor, nn

from crossbar import Config, LutCells, TiledMatrix, Wires, convert, expansion, solve
from crossbar.mapping import Written
from devicelab import VTEAM, Lut

EXACT = 1e-10
FEW = 2e-2  # share of outputs of which a partial sum lies so near the edge of a step that `rtol` decides

pytestmark = pytest.mark.skipif(expansion.kernel() is None, reason="numba cannot compile here")


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    """The same weights in every run."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def tensor(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def sinh() -> Lut:
    """One shape for all states: rank 1."""
    v, g = np.linspace(-1, 1, 201), np.linspace(1e-5, 1e-4, 9)
    return Lut(v, np.linspace(0, 1, 9), g[:, None] * np.sinh(3 * v) / 3, device={"model": "sinh"})


def vteam() -> Lut:
    """Another shape in every state: rank 3 and more."""
    model = VTEAM(
        r_on=1e4, r_off=2e5, v_on=-0.9, v_off=0.8, k_on=6, k_off=4, b_on=0.5, b_off=2.5, resistance="exponential"
    )
    return Lut.from_model(model, 1.0)


def corner() -> Lut:
    v = np.linspace(-1, 1, 21)
    bent = np.where(v > 0.1, 1e-5 * v + 1e-3 * (v - 0.1), 1e-5 * v)
    return Lut(v, np.array([0.0, 1.0]), np.stack([bent, 2 * bent]), device={"model": "corner"})


LUTS: dict[str, Callable[[], Lut]] = {"sinh": sinh, "vteam": vteam}


def same(ohm: float) -> Wires:
    return Wires(ohm, ohm, ohm, ohm)


def arrays(lut: Lut, weight: Tensor, rows: int = 16, columns: int = 16, **options: Any) -> TiledMatrix:
    options = {"v_read": 0.2, "wires": same(1.0)} | options
    return TiledMatrix(weight, lut, Config(rows=rows, columns=columns).but(**options))


def inputs(b: int, n_in: int) -> Tensor:
    """Full scale, of one sign, and of both."""
    u = torch.rand(b, n_in, generator=torch.Generator().manual_seed(1)) * 2 - 1
    u[: b // 3].abs_()
    u[0] = 1
    u[1] = torch.tensor([1.0, -1.0]).repeat(n_in)[:n_in]
    return u


def largest_line(cells: LutCells, v: Tensor) -> Tensor:
    """Largest sum of |current| over a line, [*tiles, b]."""
    i = cells.current(v).abs()
    return torch.maximum(i.sum(-1).amax(-1), i.sum(-2).amax(-1))


def error(matrix: TiledMatrix, b: int = 40) -> float:
    """Largest error of the series' column currents relative to the largest line's."""
    u = inputs(b, matrix.n_in)
    series = expansion.series(matrix, u, Written(matrix.g, None))
    assert series is not None
    u = by_tile(matrix, u)
    return off(matrix, u, expansion.currents(matrix, u, series))


def by_tile(matrix: TiledMatrix, u: Tensor) -> Tensor:
    """Inputs [b, n_in] as those of the tiles below each other, [1, R, b, rows]."""
    lay = matrix.layout
    return nn.functional.pad(u, (lay.idle_rows, 0)).unsqueeze(0).unflatten(-1, (lay.row_tiles, -1)).transpose(1, 2)


def off(matrix: TiledMatrix, u: Tensor, found: Tensor) -> float:
    """Largest error of column currents for inputs `by_tile`, relative to the largest line's."""
    lay, c = matrix.layout, matrix.config
    cells = matrix._lut_cells(matrix.g, 2 * c.v_read)
    v = (u.double() * c.v_read)[:, None, None, :, None].expand(*lay.shape[:5], u.shape[2], c.rows)
    exact = solve(cells, v, c.wires, rtol=EXACT)
    scale = largest_line(cells, exact.v_cell).sum((1, 2))  # of the arrays of a pair
    scale = scale.movedim(-1, 2).repeat_interleave(lay.outputs, -1).unsqueeze(-2)
    return float(((found - lay.sensed(exact.i_out)).abs() / scale).max())


@pytest.mark.parametrize(
    ("rtol", "size", "ohm"),
    [
        (1e-2, (16, 16), 4.0),
        (1e-3, (16, 16), 1.0),
        (1e-3, (16, 16), 2.5),
        (1e-4, (16, 16), 1.0),
        (1e-5, (16, 16), 0.3),
        (1e-3, (7, 5), 5.0),
        (1e-2, (40, 24), 1.0),
        (1e-3, (40, 24), 0.5),
        (1e-3, (64, 64), 0.5),
    ],
    ids=str,
)
@pytest.mark.parametrize("law", LUTS)
@pytest.mark.parametrize("weights", ["random", "all on"])
def test_the_error_is_below_the_tolerance(
    weights: str, law: str, rtol: float, size: tuple[int, int], ohm: float
) -> None:
    weight = tensor(30, 50) if weights == "random" else torch.ones(30, 50)
    assert error(arrays(LUTS[law](), weight, *size, wires=same(ohm), rtol=rtol)) <= rtol


@pytest.mark.parametrize(("ohm", "rtol", "sweeps"), [(1.5, 1e-3, 2), (1.0, 1e-4, 2), (2.0, 1e-3, 2)])
def test_the_bound_asks_for_no_more_than_it_takes(ohm: float, rtol: float, sweeps: int, monkeypatch: Any) -> None:
    """On arrays that are all on, one sweep fewer would miss a third of the tolerance."""
    made, of = [], expansion.Expansion.of

    def fewer(*args: Any) -> expansion.Expansion | None:
        series = of(*args)
        assert series is not None
        made.append(int(series.sweeps.max()))
        series.sweeps.sub_(1)
        return series

    matrix = arrays(sinh(), torch.ones(16, 16), wires=same(ohm), rtol=rtol)
    assert error(matrix) <= rtol
    with monkeypatch.context() as patch:
        patch.setattr(expansion.Expansion, "of", fewer)
        assert error(copy.deepcopy(matrix)) > rtol / 3
    assert made == [sweeps]


def test_a_tile_against_sparse_newton() -> None:
    matrix = arrays(sinh(), torch.ones(16, 16) * torch.linspace(0.1, 1, 16), scheme="offset")
    u = inputs(3, 16)
    series = expansion.series(matrix, u, Written(matrix.g, None))
    assert series is not None
    found = expansion.currents(matrix, u[None, None], series)[0, 0, :, 0].double()
    g = matrix.g[0, 0, 0, 0, 0].double().numpy() / (math.sinh(0.6) / 0.6)  # at 0 V
    ohm = dict.fromkeys(("r_wl", "r_bl", "r_source", "r_sense"), 1.0)
    for k in range(3):
        system = Prepared.build((16, 16), ohm, 0.2 * u[k].double().numpy())
        exact = system.newton(lambda v: g * np.sinh(3 * v) / 3, lambda v: g * np.cosh(3 * v))[1]
        # the largest line carries at least the largest column's current
        assert np.abs(found[k].numpy() - exact).max() <= 1e-3 * np.abs(exact).max()


OPTIONS: list[dict[str, Any]] = [
    {},
    {"subtraction": "digital"},
    {"scheme": "two columns"},
    {"scheme": "reference column", "subtraction": "digital"},
    {"scheme": "reference column", "columns": 7},
    {"scheme": "offset"},
    {"partial_sums": "analog"},
    {"permute": True, "adc__per": "column", "sense__gain": 0.1, "sense__offset": 0.01},
    {"adc__per": "tile", "rows": 7, "columns": 5},
    {"slices": 2, "slice_bits": 3, "sense__saturation": 0.05},
    {"dac__encoding": "bit-serial"},
    {"share_tiles": True},
    {"share_tiles": "layers"},
    {"adc__bits": None, "sense__gain": 0.1},
    {"adc__law": "log", "adc__decades": 3},
    {"devices__read_noise": 0.01},
    {"wires": Wires(1.0, 2.0, torch.inf, torch.inf, r_source_right=3.0, r_sense_top=1.0)},
    {"wires": Wires(torch.linspace(0, 2, 16), torch.linspace(0, 2, 16), torch.linspace(1, 3, 16), 2.0)},
    {"wires": Wires(6.0, 5.0, 1.0, 1.0), "devices__levels": 6, "devices__d2d": 0.1},
]


def both(net: nn.Module, x: Tensor, monkeypatch: Any) -> tuple[Tensor, Tensor]:
    """By the series, and solved; two copies, for reads with noise are counted."""
    other = copy.deepcopy(net)
    with torch.no_grad():
        fast = net(x)
        with monkeypatch.context() as patch:
            patch.setattr(expansion, "suits", lambda chip, u: False)
            return fast, other(x)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_it_finds_what_solving_finds(options: dict[str, Any], monkeypatch: Any) -> None:
    net, x = nn.Conv2d(4, 12, 3, groups=2, padding=1), tensor(3, 4, 9, 9)
    config = Config(rows=16, columns=16, v_read=0.2, wires=same(1.0), rtol=1e-4).but(adc__bits=6, dac__bits=7)
    net = convert(net, sinh(), config.but(**options), calibration=x)
    found, expected = both(net, x, monkeypatch)
    off = (found - expected).abs() > 1e-3 * expected.abs().max()
    assert float(off.float().mean()) < FEW
    assert float((found - expected).abs().max()) < 0.2 * float(expected.abs().max())


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv2d(3, 7, 3), (5, 3, 10, 10)),  # runs of 8
        (nn.Conv2d(3, 5, 3, dilation=2), (9, 3, 8, 8)),  # runs of 4
        (nn.Conv2d(3, 13, (3, 1), stride=2), (3, 3, 9, 7)),  # none
        (nn.Conv2d(2, 3, 3, padding=1), (3, 2, 16, 16)),  # runs of 16
        (nn.Conv1d(5, 6, 4), (2, 5, 40)),
        (nn.Conv3d(2, 3, 2), (2, 2, 4, 5, 5)),
        (nn.Linear(50, 21), (150, 50)),
    ],
    ids=str,
)
@pytest.mark.parametrize("law", LUTS)
def test_layers(layer: nn.Module, shape: tuple[int, ...], law: str, monkeypatch: Any) -> None:
    layer.reset_parameters()  # type: ignore[operator]
    x = tensor(*shape)
    config = Config(rows=16, columns=16, v_read=0.2, wires=same(1.0), rtol=1e-5, adc=Config().adc)
    found, expected = both(convert(layer, LUTS[law](), config), x, monkeypatch)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


def test_no_result_depends_on_what_else_is_in_the_batch_or_on_threads() -> None:
    x = tensor(70, 50)
    matrix = arrays(sinh(), tensor(20, 50), adc__bits=6, wires=same(4.0))
    with torch.no_grad():
        whole = matrix(x)
        parts = torch.cat([matrix(part) for part in x.split([1, 33, 36])])
        threads = torch.get_num_threads()
        torch.set_num_threads(2)
        try:
            threaded = matrix(torch.cat([x] * 4))
        finally:
            torch.set_num_threads(threads)
    assert bool((whole == parts).all())
    assert bool((threaded == torch.cat([whole] * 4)).all())


def test_what_is_not_a_number_stays_so_and_alone() -> None:
    matrix = arrays(sinh(), tensor(20, 50), adc__bits=6, dac__range=1.0)
    x = tensor(5, 50).clamp(-1, 1)
    with torch.no_grad():
        expected = matrix(x)
        x[2, 7] = torch.nan
        found = matrix(x)
    assert bool(found[2].isnan().all())
    kept = [0, 1, 3, 4]
    torch.testing.assert_close(found[kept], expected[kept], rtol=0, atol=0)


def test_a_new_write_is_seen(monkeypatch: Any) -> None:
    matrix, x = arrays(sinh(), tensor(20, 50)), tensor(5, 50)
    before, _ = both(matrix, x, monkeypatch)
    matrix.program(tensor(20, 50, seed=1))
    written, solved = both(matrix, x, monkeypatch)
    matrix.g.mul_(0.9)
    changed, solved_too = both(matrix, x, monkeypatch)
    scale = float(before.abs().max())
    for found, expected in ((written, solved), (changed, solved_too)):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-2 * scale)
    assert float((written - before).abs().max()) > 0.5 * scale
    assert float((written - changed).abs().max()) > 0.03 * scale


def test_where_it_does_not_stand_for_the_solution() -> None:
    weight, u = tensor(20, 50), inputs(3, 50)

    def stands(lut: Lut, u: Tensor = u, weight: Tensor = weight, **options: Any) -> bool:
        matrix = arrays(lut, weight, **options)
        return expansion.series(matrix, u, Written(matrix.g, None)) is not None

    assert stands(sinh())
    assert not stands(sinh(), wires=same(100.0))  # the lines take too much
    assert not stands(sinh(), wires=None)
    assert not stands(sinh(), wires=Wires(1.0, 1.0, 1.0, 1.0, r_source_right=1.0))  # driven at both ends
    assert not stands(sinh(), rtol=1e-6)
    assert not stands(sinh(), u.double(), weight.double())
    assert not stands(sinh(), u.clone().requires_grad_())
    assert not stands(sinh(), dac__encoding="pulse-width", dac__bits=4)
    assert not stands(corner())  # Taylor's series knows nothing of what comes behind a corner


def test_gradients_are_those_of_the_solution() -> None:
    matrix = arrays(sinh(), tensor(5, 20)).train()
    x = tensor(3, 20).requires_grad_()
    assert matrix(x).grad_fn is not None


@pytest.mark.parametrize("law", [*LUTS, "corner"])
def test_bounds_of_cells_hold(law: str) -> None:
    lut = corner() if law == "corner" else LUTS[law]()
    cells = LutCells(lut, torch.linspace(0, 1, 5, dtype=torch.float64).view(1, 5), scale=torch.full((1, 5), 0.7))
    v = torch.linspace(-0.3, 0.3, 20001, dtype=torch.float64)
    steps = [0.05, 0.01]
    current, slope, bend, *changes = cells.bounds(0.3, steps)
    i, d = (a[:, 0] for a in cells.current_and_conductance(v.view(-1, 1, 1).expand(-1, 1, 5)))
    second = d.diff(dim=0) / (v[1] - v[0])
    rounding = 1 + 1e-9
    assert bool((i.abs().amax(0) <= rounding * current[0]).all())
    assert bool((d.amax(0) <= rounding * slope[0]).all())
    inner = second[2:-2]
    if law == "corner":  # where conductance jumps there is no second derivative
        return
    assert bool((inner.abs().amax(0) <= rounding * bend[0]).all())
    third = inner.diff(dim=0) / (v[1] - v[0])
    for step, change in zip(steps, changes, strict=True):
        most = int(step / (v[1] - v[0])) - 2
        for k in (1, most // 2, most):  # samples apart
            ahead = inner[k:-1] - inner[: -k - 1] - (v[k] - v[0]) * third[:-k]
            behind = inner[1 : len(inner) - k] - inner[k + 1 :] + (v[k] - v[0]) * third[k:]
            usual = third.abs() < 3 * third.abs().median(0).values  # no jump of the second derivative there
            for off, smooth in ((ahead, usual[:-k]), (behind, usual[k:])):
                assert bool(
                    (torch.where(smooth, off.abs(), 0.0).amax(0) <= rounding * change[0] + 1e-3 * bend[0]).all()
                )


def test_bounds_of_polynomials_hold() -> None:
    cells = LutCells(sinh(), torch.linspace(0, 1, 5, dtype=torch.float64).view(1, 5), tolerance=1e-4)
    smooth = cells.polynomial(-0.3, 0.3, 1e-3)
    assert smooth is not None
    current, slope, bend, off = cells.smooth_bounds(smooth, 0.3, [0.05])[:, 0]
    v, h = np.linspace(-0.25, 0.25, 1001), 0.05
    for k, amplitudes in enumerate(cells.amplitudes()[:, 0].T.numpy()):
        law_of = np.polynomial.Polynomial((amplitudes @ smooth.numpy()) / 0.3 ** np.arange(smooth.shape[1]))
        second, third = law_of.deriv(2), law_of.deriv(3)
        for largest, bound in (
            (law_of(v), current),
            (law_of.deriv()(v), slope),
            (second(v), bend),
            (second(v + h) - second(v) - h * third(v), off),
            (second(v - h) - second(v) + h * third(v), off),
        ):
            assert np.abs(largest).max() <= (1 + 1e-9) * float(bound[k])
            assert np.abs(largest).max() >= 0.3 * float(bound[k])


SOURCES = ("simd.py", "kernel_cells.py", "tile_kernel.py", "expansion_kernel.py")


@pytest.mark.parametrize("file", SOURCES)
def test_the_key_of_the_kernel_on_disk_covers(file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from crossbar import expansion_kernel

    (key,) = (cell.cell_contents for cell in expansion_kernel.product.py_func.__closure__)
    for name in SOURCES:
        shutil.copy(Path(expansion_kernel.__file__).with_name(name), tmp_path / name)
    monkeypatch.setattr(expansion_kernel, "__file__", str(tmp_path / "expansion_kernel.py"))
    assert expansion_kernel.sources() == key
    (tmp_path / file).write_text((tmp_path / file).read_text() + "\n")
    assert expansion_kernel.sources() != key
