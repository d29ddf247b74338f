"""Layers that share tiles: how few there are, what neighbours do to each other, and that nothing else changes."""

from __future__ import annotations

import copy
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from crossbar_oracle import exact
from torch import nn

import crossbar
from crossbar import Config, TiledMatrix, Wires, convert, floorplans, placed, revert, solve
from crossbar.estimate import estimate
from crossbar.floorplan import Floorplan
from crossbar.packing import least_tiles, pack
from devicelab import VTEAM, Lut
from devicelab.errors import ParameterError

V_READ = 0.2
DEVICE = VTEAM(
    r_on=1e4, r_off=2e5, v_on=-0.9, v_off=0.8, k_on=6, k_off=4, b_on=0.5, b_off=2.5, resistance="exponential"
)
LINES = {"r_wl": 3.0, "r_bl": 2.0, "r_source": 5.0, "r_sense": 4.0}
WIRES = Wires(**LINES)
SHARED = Config(rows=16, columns=8, v_read=V_READ, nonlinear=False, share_tiles="layers", rtol=1e-10)
SCHEMES = pytest.mark.parametrize("scheme", ["two arrays", "two columns", "offset", "reference column"])
IDLE = pytest.mark.parametrize("idle", ["grounded", "floating word lines", "floating"])


@pytest.fixture(scope="module")
def lut() -> Lut:
    return Lut.from_model(DEVICE, 1.0)


def tensor(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def network() -> tuple[Any, torch.Tensor]:
    """Blocks of 9 x 2 (two), 16 x 5 (four), 5 x 7 and 7 x 3 on tiles of 16 x 8."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3, groups=2), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5), nn.Linear(5, 7), nn.Linear(7, 3)
    )
    return net.double(), tensor(3, 2, 6, 6)


def plan(net: nn.Module) -> Floorplan:
    (found,) = floorplans(net)
    return found


# packing


def cut(rows: int, columns: int, tiles: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Tiles cut into pieces of 3 lines or more: they fit that number again, and no smaller one."""
    out, todo = [], [(rows, columns)] * tiles
    while todo:
        h, w = todo.pop()
        if max(h, w) < 6 or (h * w < rows * columns / 4 and rng.random() < 0.5):
            out.append((h, w))
        elif h >= w:
            at = int(rng.integers(3, h - 2))
            todo += [(at, w), (h - at, w)]
        else:
            at = int(rng.integers(3, w - 2))
            todo += [(h, at), (h, w - at)]
    return out


@pytest.mark.parametrize("tiles", [1, 2, 5, 12])
@pytest.mark.parametrize(("rows", "columns"), [(64, 64), (32, 48)])
def test_pieces_of_tiles_are_packed_into_nearly_as_many(tiles: int, rows: int, columns: int) -> None:
    pieces = cut(rows, columns, tiles, np.random.default_rng(tiles))
    h, w = (np.array(side) for side in zip(*pieces, strict=True))
    found = pack(h, w, rows, columns)
    assert found.least == tiles  # their area is that of the tiles: no bound can be higher, and area alone reaches it
    assert tiles <= found.tiles <= tiles + 1
    filled = np.zeros((found.tiles, rows, columns), dtype=int)
    for k, (tile, up, along) in enumerate(zip(found.tile, found.up, found.along, strict=True)):
        assert up + h[k] <= rows
        assert along + w[k] <= columns
        filled[tile, up : up + h[k], along : along + w[k]] += 1
    assert filled.max() == 1  # no two on one cell
    assert filled.sum() == tiles * rows * columns


def test_what_cannot_lie_side_by_side_needs_tiles_of_its_own() -> None:
    # 33 x 33 on 64 x 64: neither beside nor above each other, though each fills a quarter; 31 x 31 fit beside them
    assert least_tiles([33] * 7, [33] * 7, 64, 64) == 7
    assert pack([33] * 7, [33] * 7, 64, 64).tiles == 7
    assert pack([33] * 7 + [31] * 21, [33] * 7 + [31] * 21, 64, 64).tiles == 7
    assert least_tiles([40] * 4, [20] * 4, 64, 64) == 2  # three beside each other
    with pytest.raises(ParameterError, match="does not fit"):
        pack([65], [1], 64, 64)


# limits


@SCHEMES
@pytest.mark.parametrize("partial_sums", ["digital", "analog"])
@pytest.mark.parametrize("subtraction", ["digital", "analog"])
@pytest.mark.parametrize("extra", [{}, {"permute": True}, {"devices__levels": 6, "devices__d2d": 0.2}], ids=str)
def test_on_ideal_lines_neighbours_do_not_matter(scheme: Any, partial_sums: Any, subtraction: Any, extra: Any) -> None:
    """As without sharing to rounding, spread of the devices included; and as torch where the devices are ideal."""
    net, x = network()
    config = SHARED.but(g_low=1e-6, g_high=1e-4, scheme=scheme, partial_sums=partial_sums, subtraction=subtraction)
    bits = {"adc__bits": 8, "adc__range": 1.0, "dac__bits": 8}
    for one in ({}, bits, {"idle_lines": "floating word lines"}):
        shared = convert(net, None, config.but(**extra, **one))(x)
        alone = convert(net, None, config.but(**extra, **one | {"share_tiles": False, "idle_lines": "grounded"}))(x)
        torch.testing.assert_close(shared, alone, rtol=1e-9, atol=1e-9)
    if "devices__d2d" not in extra:
        torch.testing.assert_close(convert(net, None, config.but(**extra))(x), net(x), rtol=1e-9, atol=1e-9)


@SCHEMES
@pytest.mark.parametrize("idle", ["grounded", "floating word lines"])
def test_vanishing_lines_are_torch(scheme: Any, idle: Any) -> None:
    net, x = network()
    config = SHARED.but(scheme=scheme, idle_lines=idle, wires=Wires(1e-4, 1e-4, 1e-4, 1e-4), g_low=1e-7, g_high=1e-5)
    torch.testing.assert_close(convert(net, None, config)(x), net(x), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("layer", [
    nn.Conv1d(4, 6, 3, groups=2), nn.ConvTranspose2d(4, 3, 3, stride=2), nn.LSTM(4, 6, bidirectional=True),
    nn.GRU(4, 5, 2), nn.MultiheadAttention(8, 2), nn.Embedding(30, 6), nn.RNNCell(4, 6),
], ids=str)  # fmt: skip
def test_every_kind_of_layer_shares(layer: Any) -> None:
    layer = layer.double().eval()
    shape = {"Conv1d": (2, 4, 7), "ConvTranspose2d": (2, 4, 3, 3), "RNNCell": (3, 4)}.get(
        type(layer).__name__, (3, 2, 4)
    )
    args: tuple[torch.Tensor, ...] = (tensor(*shape),)
    if isinstance(layer, nn.MultiheadAttention):
        args = (tensor(3, 2, 8),) * 3
    elif isinstance(layer, nn.Embedding):
        args = (torch.tensor([[0, 29, 7]]),)
    config = SHARED.but(g_low=1e-7, g_high=1e-5, wires=Wires(1e-4, 1e-4, 1e-4, 1e-4))
    mapped = convert(layer, None, config)
    torch.testing.assert_close(mapped(*args), layer(*args), rtol=1e-6, atol=1e-6)
    assert plan(mapped).tiles <= plan(mapped).alone[0]


# physics


def by_hand(matrix: TiledMatrix, x: torch.Tensor, answer: Any) -> torch.Tensor:
    """The product of "two arrays", block after block; `answer` gives the currents of a tile's bit lines.

    Args:
        matrix: On shared tiles.
        x: Inputs.
        answer: From tile, array (0 plus, 1 minus), voltages of word lines, own word lines and own bit lines.
    """
    place, lay, c = matrix.place, matrix.layout, matrix.config
    assert place is not None
    packing = place.floor.packing
    assert packing is not None
    before = 0
    for chip in place.floor.tenants[: place.floor.tenants.index(matrix)]:
        before += chip.layout.matrices * chip.layout.row_tiles * chip.layout.column_tiles
    peak = x.abs().amax(1, keepdim=True)
    out = torch.zeros(len(x), matrix.n_out, dtype=x.dtype)
    first = 0
    for row in range(lay.row_tiles):
        height = matrix.n_in - (lay.row_tiles - 1) * c.rows if row == 0 else c.rows
        for column in range(lay.column_tiles):
            left = column * c.columns
            width = min(c.columns, matrix.n_out - left)
            k = before + row * lay.column_tiles + column
            tile, up, along = int(packing.tile[k]), int(packing.up[k]), int(packing.along[k])
            words = list(range(c.rows - up - height, c.rows - up))  # counted from the far end of the sense nodes
            bits = list(range(along, along + width))
            v = torch.zeros(len(x), c.rows, dtype=x.dtype)
            v[:, words] = x[:, first : first + height] / peak * V_READ
            i = answer(tile, 0, v, words, bits)[:, bits] - answer(tile, 1, v, words, bits)[:, bits]
            out[:, left : left + width] += i
        first += height
    span = matrix.devices_on_chip.high - matrix.devices_on_chip.low
    return out * peak * matrix.top / (span * V_READ)


@IDLE
@pytest.mark.parametrize("lines", [LINES, None], ids=["lines", "ideal lines"])
def test_linear_tiles_are_the_exact_sparse_solution(idle: Any, lines: dict[str, float] | None) -> None:
    """Nodal analysis, independent of the engine, of the whole tile with all neighbours' devices on it."""
    net, _ = network()
    wires = None if lines is None else WIRES
    mapped = convert(net, None, SHARED.but(g_low=5e-6, g_high=1e-4, wires=wires, idle_lines=idle))
    floor = plan(mapped)

    def answer(tile: int, array: int, v: torch.Tensor, words: list[int], bits: list[int]) -> torch.Tensor:
        g = floor.cells[tile, 0, array].numpy()
        floating_wl = [] if idle == "grounded" else [k for k in range(16) if k not in words]
        floating_bl = [k for k in range(8) if k not in bits] if idle == "floating" else []
        zero = dict.fromkeys(LINES, 0.0)
        found = [
            exact(
                lambda u, g=g: g * u, lambda u, g=g: g, lines or zero, one.numpy(), g.shape, floating_wl=floating_wl,
                floating_bl=floating_bl,
            )[1]
            for one in v
        ]  # fmt: skip
        return torch.from_numpy(np.array(found))

    for k in (3, 4, 5):  # 64 x 5 on all word lines of four tiles, the others on some
        matrix = mapped[k].matrix
        x = tensor(2, matrix.n_in, seed=1)
        torch.testing.assert_close(matrix(x), by_hand(matrix, x, answer), rtol=1e-8, atol=1e-8)
    used = sum(chip.layout.n_in * chip.layout.n_out * chip.layout.matrices for chip in floor.tenants)
    assert floor.used == 2 * used  # plus and minus
    if idle == "grounded" and lines is not None:  # neighbours matter: without their devices it would be another result
        alone = convert(net, None, SHARED.but(g_low=5e-6, g_high=1e-4, wires=wires, share_tiles=False))
        x = tensor(2, 64, seed=1)
        assert (alone[3].matrix(x) - mapped[3].matrix(x)).abs().max() > 1e-4


@IDLE
def test_non_linear_tiles_equal_solve_of_the_composed_tile(idle: Any, lut: Lut) -> None:
    net, _ = network()
    mapped = convert(net, lut, SHARED.but(nonlinear=True, wires=WIRES, idle_lines=idle))
    floor = plan(mapped)
    matrix, x = mapped[4].matrix, tensor(4, 5, seed=1)

    def answer(tile: int, array: int, v: torch.Tensor, words: list[int], bits: list[int]) -> torch.Tensor:
        state = lut.state_for(floor.cells[tile, 0, array].numpy(), V_READ)
        masks = (torch.tensor([k not in own for k in range(n)]) for own, n in ((words, 16), (bits, 8)))
        floating_wl, floating_bl = (None if idle == "grounded" else mask for mask in masks)
        bias = crossbar.Bias(v, None, floating_wl, floating_bl if idle == "floating" else None)
        return solve(crossbar.LutCells(lut, torch.from_numpy(state)), bias, WIRES, rtol=1e-10).i_out

    torch.testing.assert_close(matrix(x), by_hand(matrix, x, answer), rtol=1e-7, atol=1e-7)
    # what the matrix itself offers for `solve` is the same tile
    assert matrix.place is not None
    u = 0.01 * torch.nn.functional.pad(x, (11, 0))
    words, bits = matrix.place.word[0][-5:].tolist(), matrix.bit_lines().tolist()
    v = torch.zeros(4, 16, dtype=x.dtype)
    v[:, words] = u[:, -5:]
    expected = answer(int(matrix.place.tile[0]), 1, v, words, bits)[:, bits]
    found = solve(matrix.cells(-1), matrix.drive(u), WIRES, rtol=1e-10).i_out[:, bits]
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=0)


@pytest.mark.parametrize("nonlinear", [False, True], ids=["ohmic", "table"])
def test_neighbours_feel_what_is_written(nonlinear: bool, lut: Lut) -> None:
    """After one layer is programmed anew, all answer as in a network converted with these weights at once."""
    net, x = network()
    config = SHARED.but(nonlinear=nonlinear, wires=WIRES)
    mapped = convert(net, lut, config)
    before = [mapped[k].matrix(tensor(2, mapped[k].matrix.n_in)) for k in (3, 4, 5)]
    with torch.no_grad():
        for changed in (net[5], mapped[5]):
            changed.weight.copy_(0.3 * tensor(3, 7, seed=9))
    mapped[5].program()
    fresh = convert(net, lut, config)
    after = [mapped[k].matrix(tensor(2, mapped[k].matrix.n_in)) for k in (3, 4, 5)]
    for k, now in zip((3, 4, 5), after, strict=True):
        torch.testing.assert_close(now, fresh[k].matrix(tensor(2, fresh[k].matrix.n_in)), rtol=1e-9, atol=1e-9)
    assert (after[0] - before[0]).abs().max() > 1e-6  # of a layer that was not written
    torch.testing.assert_close(mapped(x), fresh(x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("nonlinear", [False, True], ids=["ohmic", "table"])
def test_gradients_go_through_the_shared_tile(nonlinear: bool, lut: Lut) -> None:
    net = nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 3)).double()
    mapped: Any = convert(net, lut, SHARED.but(nonlinear=nonlinear, wires=WIRES, rtol=1e-11)).train()
    assert plan(mapped).tiles == 2
    x, weight = tensor(2, 5), mapped[0].weight
    loss = mapped[0](x).square().sum()
    loss.backward()
    row, column, step = 1, 2, 1e-5
    ends = []
    for sign in (1, -1):
        with torch.no_grad():
            weight[row, column] += sign * step
            ends.append(mapped[0](x).square().sum())
            weight[row, column] -= sign * step
    found, expected = weight.grad[row, column], (ends[0] - ends[1]) / (2 * step)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-8)


# what one does with a network


ROUGH = SHARED.but(
    g_low=5e-6, g_high=1e-4, wires=WIRES, devices__d2d=0.2, devices__c2c=0.05, devices__stuck_on=0.02, adc__bits=8,
    adc__per="column", dac__bits=8, permute=True,
)  # fmt: skip


def test_the_report_counts_tiles_before_and_after() -> None:
    net, _ = network()
    mapped = convert(net, None, SHARED.but(g_low=1e-6, g_high=1e-4))
    lines = crossbar.report(mapped).splitlines()
    rows = {line.split()[0]: line.split() for line in lines}
    # 2 of 9 x 2, 4 of 16 x 5, 5 x 7, 7 x 3 cells: 412 of 128 a tile; 5 + 5 columns do not fit 8: four tiles for the
    # second alone, into which three columns the others go but for one tile; plus and minus arrays
    assert rows["total"][-2:] == ["10", "1,280"]
    assert rows["without"][-2:] == ["16", "2,048"]
    assert rows["4"][-2:] == ["2", "70"]  # its own cells
    floor = plan(mapped)
    assert floor.used == 2 * (2 * 18 + 320 + 35 + 21)
    assert floor.least <= floor.tiles < floor.alone[0]
    assert "64 % of the devices hold weights, 40 % without" in lines[-1]


def test_same_seed_same_devices() -> None:
    net, x = network()
    one, two = (convert(net, None, ROUGH, calibration=x) for _ in range(2))
    assert torch.equal(one(x), two(x))
    assert torch.equal(plan(one).cells, plan(two).cells)
    assert not torch.equal(plan(convert(net, None, ROUGH.but(seed=1))).cells, plan(one).cells)
    spare = plan(one).cells[plan(one).cells < 2e-5]
    assert spare.std() > 1e-7  # cells without a weight are devices as well


def test_state_goes_into_a_fresh_conversion() -> None:
    net, x = network()
    one = convert(net, None, ROUGH, calibration=x)
    crossbar.tune(one, x)
    other = copy.deepcopy(net)
    for p in other.parameters():
        p.data.normal_(generator=torch.Generator().manual_seed(1))
    two = convert(other, None, ROUGH)
    buffer = io.BytesIO()
    torch.save(one.state_dict(), buffer)
    buffer.seek(0)
    two.load_state_dict(torch.load(buffer, weights_only=True))
    torch.testing.assert_close(two(x), one(x), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(plan(two).cells, plan(one).cells, rtol=1e-12, atol=0)
    # the state of a network that shares nothing: same devices, other surroundings
    alone = convert(net, None, ROUGH.but(share_tiles=False), calibration=x)
    three = convert(other, None, ROUGH)
    three.load_state_dict(alone.state_dict())
    assert torch.equal(three[3].matrix.g, alone[3].matrix.g)
    assert not torch.allclose(three[3].matrix.matrix, alone[3].matrix.matrix, rtol=1e-6)


@pytest.mark.parametrize("nonlinear", [False, True], ids=["ohmic", "table"])
def test_copies_and_files_have_tiles_of_their_own(nonlinear: bool, lut: Lut, tmp_path: Path) -> None:
    net, x = network()
    mapped: Any = convert(net, lut, ROUGH.but(nonlinear=nonlinear, g_low=None, g_high=None, rtol=1e-6), calibration=x)
    expected = mapped(x)
    torch.save(mapped, tmp_path / "net.pt")
    for other in (copy.deepcopy(mapped), torch.load(tmp_path / "net.pt", weights_only=False)):
        torch.testing.assert_close(other(x), expected, rtol=1e-9, atol=1e-9)
        assert plan(other) is not plan(mapped)
        assert plan(other).tenants[0] is other[0].matrix
        with torch.no_grad():
            other[4].weight.zero_()[0, 0] = 1.0
        other[4].program()
    torch.testing.assert_close(mapped(x), expected, rtol=0, atol=0)
    layer = copy.deepcopy(mapped[4])  # alone, it keeps its surroundings
    u = tensor(2, 5)
    torch.testing.assert_close(layer(u), mapped[4](u), rtol=1e-9, atol=1e-9)


def test_revert_and_other_types_and_places() -> None:
    net, x = network()
    mapped = convert(net, None, ROUGH, calibration=x)
    back = revert(mapped)
    torch.testing.assert_close(back(x), net(x), rtol=1e-12, atol=1e-12)
    assert [type(m) for m in back.modules()] == [type(m) for m in net.modules()]
    single = copy.deepcopy(mapped).float()
    assert (single(x.float()) - mapped(x)).norm() < 0.05 * mapped(x).norm()
    single[4].program()
    assert plan(single).cells.dtype == torch.float32
    assert convert(net, None, ROUGH).to("meta")(x.to("meta")).shape == (3, 3)


def test_compiled_and_autocast() -> None:
    net, x = network()
    mapped = convert(net, None, ROUGH, calibration=x)
    torch._dynamo.reset()
    with torch.no_grad():
        compiled = torch.compile(mapped, backend="aot_eager", fullgraph=True)
        torch.testing.assert_close(compiled(x), mapped(x), rtol=1e-9, atol=1e-9)
    plain = convert(net.float(), None, SHARED.but(g_low=1e-6, g_high=1e-4))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = plain(x.float())
    torch.testing.assert_close(out.float(), net(x.float()), rtol=1e-4, atol=1e-4)


def test_training_ends_with_the_arrays_written() -> None:
    net, x = network()
    mapped: Any = convert(net, None, ROUGH.but(devices__c2c=0.0), calibration=x).train()
    optimiser = torch.optim.Adam(mapped.parameters(), lr=1e-2)
    first = None
    for _ in range(8):
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(mapped(x), torch.tensor([0, 1, 2]))
        first = loss.detach() if first is None else first
        loss.backward()
        optimiser.step()
    mapped.eval()
    assert first is not None
    assert nn.functional.cross_entropy(mapped(x), torch.tensor([0, 1, 2])) < first
    for k in (0, 3, 4, 5):  # nothing stale: every layer answers as if worked out from all cells now
        before = mapped[k].matrix.matrix.clone()
        mapped[k].matrix.refresh()
        torch.testing.assert_close(mapped[k].matrix.matrix, before, rtol=1e-10, atol=0)


def test_shared_and_skipped_and_own_layers() -> None:
    """A module used twice lies on the tiles once; layers with other arrays have tiles of their own."""
    shared = nn.Linear(5, 5)
    net = nn.Sequential(shared, nn.ReLU(), nn.Sequential(shared), nn.Linear(5, 4), nn.Linear(4, 3), nn.PReLU())
    net, x = net.double(), tensor(2, 5)
    config = SHARED.but(g_low=1e-6, g_high=1e-4)
    mapped: Any = convert(net, None, config, own={"3": config.but(rows=8)}, skip=("4",))
    assert mapped[0] is mapped[2][0]
    assert [len(floor.tenants) for floor in floorplans(mapped)] == [1, 1]
    torch.testing.assert_close(mapped(x), net(x), rtol=1e-9, atol=1e-9)
    left = crossbar.report(mapped).split("left digital")[1]
    assert "skipped" in left
    assert "PReLU" in left


def test_a_matrix_alone_packs_its_own_blocks() -> None:
    """19 x 8 on 16 x 8 tiles: 3 and 16 inputs, which do not share; 9 groups of 4 x 2 fit one tile, not nine."""
    config = SHARED.but(g_low=1e-6, g_high=1e-4, wires=Wires(1e-4, 1e-4, 1e-4, 1e-4))
    matrix, x = TiledMatrix(tensor(8, 19), None, config), tensor(3, 19, seed=1)
    torch.testing.assert_close(matrix(x), x @ tensor(8, 19).T, rtol=1e-5, atol=1e-5)
    assert matrix.tiles == 4
    groups = convert(nn.Conv1d(36, 18, 1, groups=9), None, config)
    assert plan(groups).tiles == 2
    assert plan(groups).alone[0] == 18


# costs


def test_costs_of_shared_tiles_add_up() -> None:
    net, x = network()
    config = SHARED.but(g_low=1e-6, g_high=1e-4, adc__bits=6)
    shared, alone = (convert(net, None, config.but(share_tiles=s)) for s in ("layers", False))
    found, apart = estimate(shared, x), estimate(alone, x)
    floor = plan(shared)
    assert sum(layer.arrays for layer in found.layers) == pytest.approx(floor.tiles, rel=1e-12)
    assert sum(layer.devices for layer in found.layers) == pytest.approx(floor.devices, rel=1e-12)
    ratio = floor.tiles / floor.alone[0]
    for part in ("array", "dac", "adc", "sample and hold"):  # every tile has them once
        assert found.area[part] == pytest.approx(ratio * apart.area[part], rel=1e-12), part
    for part in ("adc", "dac", "buffers"):  # as many conversions and driven lines as before
        assert found.energy[part] == pytest.approx(apart.energy[part], rel=1e-12), part


def test_blocks_of_one_layer_on_one_tile_take_turns() -> None:
    """Sixteen groups of 4 x 2 fill a tile of 16 x 8: sixteen reads instead of one."""
    layer = nn.Conv1d(64, 32, 1, groups=16).double()
    config = SHARED.but(g_low=1e-6, g_high=1e-4)
    shared, alone = (convert(layer, None, config.but(share_tiles=s)) for s in ("layers", False))
    assert plan(shared).tiles == 2
    x = tensor(1, 64, 5)
    ratio = estimate(shared, x).latency / estimate(alone, x).latency
    assert ratio == pytest.approx(16)


def test_the_figure_shows_every_block() -> None:
    net, _ = network()
    mapped = convert(net, None, SHARED.but(g_low=1e-6, g_high=1e-4))
    ((floor, names),) = floorplans(mapped).items()
    figure = floor.figure(names)
    blocks = [p for ax in figure.axes for p in ax.patches]
    assert len(blocks) == 5 + 8  # five tiles, eight blocks
    assert sum(p.get_width() * p.get_height() for p in blocks) == 5 * 128 + floor.used / 2
    assert {t.get_text() for t in figure.legends[0].get_texts()} == {"0", "3", "4", "5"}
    assert [p.matrix.place is not None for p in placed(mapped)] == [True] * 4


def test_the_command_shows_shared_tiles(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from devicelab.cli import main

    def status(*args: str) -> Any:
        with pytest.raises(SystemExit) as ended:
            main(list(args))
        return ended.value.code

    (tmp_path / "e.toml").write_text(
        '[data]\nname = "digits"\nimages = 20\n[network]\nname = "digits-mlp"\n[device]\nr_on = 1e4\nr_off = 1e5\n'
        "[config]\nrows = 64\ncolumns = 96\nnonlinear = false\n",
        encoding="utf-8",
    )
    arguments = "infer", "--config", str(tmp_path / "e.toml"), "--share-tiles", "layers"
    assert status(*arguments, "--out", str(tmp_path / "out")) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = {line.split()[0]: line.split() for line in lines if line}
    # 64 x 64 and 64 x 10 on 64 x 96: one tile, plus and minus
    assert rows["total"][1:] == ["2", "12,288"]
    assert rows["without"][-2:] == ["4", "24,576"]
    assert (tmp_path / "out" / "on_arrays.png").stat().st_size > 5000
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "Blocks of the layers on shared tiles" in page
    bad = tmp_path / "bad.toml"
    bad.write_text((tmp_path / "e.toml").read_text() + 'share_tiles = "layer"\n')
    assert status("infer", "--config", str(bad)) == 1
    assert "layers" in capsys.readouterr().err
    bad.write_text((tmp_path / "e.toml").read_text() + 'idle_lines = "floating"\n')
    assert status("infer", "--config", str(bad)) == 1
    assert "only tiles that layers share" in capsys.readouterr().err


@pytest.mark.parametrize("nonlinear", [False, True], ids=["ohmic", "table"])
def test_the_same_on_every_device(nonlinear: bool, device: torch.device, lut: Lut) -> None:
    """Converted there, moved there, and written anew there: the devices and the answers of the CPU."""
    net, x = network()
    config = ROUGH.but(nonlinear=nonlinear, g_low=None, g_high=None, adc__bits=None, rtol=1e-9)
    here = convert(net, lut, config, calibration=x)
    there = convert(copy.deepcopy(net).to(device), lut, config, calibration=x.to(device))
    moved = copy.deepcopy(here).to(device)
    for other in (there, moved):
        torch.testing.assert_close(plan(other).cells.cpu(), plan(here).cells, rtol=1e-12, atol=0)
        torch.testing.assert_close(other(x.to(device)).cpu(), here(x), rtol=1e-6, atol=1e-6)
        assert other(x.to(device)).device.type == device.type
    for one in (here, moved):
        one[5].program()
    torch.testing.assert_close(moved(x.to(device)).cpu(), here(x), rtol=1e-6, atol=1e-6)
