"""Products of networks against the arrays they are made of: tile by tile with `crossbar.solve`, and ngspice."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from crossbar_spice import needs_ngspice, output_currents
from torch import nn

import netlists
from crossbar import Config, TiledMatrix, Wires, convert, placed, solve
from devicelab import VTEAM, Lut

V_READ = 0.2
TIGHT = 1e-10
ROUNDING = (
    1e-7  # of a sum over tiles, each solved to TIGHT, of differences some hundred times smaller than the currents
)
DEVICE = VTEAM(
    r_on=1e4, r_off=2e5, v_on=-0.9, v_off=0.8, k_on=6, k_off=4, b_on=0.5, b_off=2.5, resistance="exponential"
)
WIRES = Wires(3.0, 2.0, 5.0, 4.0)
SCHEMES = pytest.mark.parametrize("scheme", ["two arrays", "two columns", "reference column"])


@pytest.fixture(scope="module")
def lut() -> Lut:
    return Lut.from_model(DEVICE, 1.0)


def tensor(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_hand(matrix: TiledMatrix, x: torch.Tensor, wires: Wires | None) -> torch.Tensor:
    """The product, one tile at a time: inputs at the near rows, differences of columns, sums over row tiles."""
    c, lay = matrix.config, matrix.layout
    peak = x.abs().amax(1, keepdim=True)
    idle = lay.row_tiles * c.rows - matrix.n_in
    v = torch.cat([torch.zeros(len(x), idle, dtype=x.dtype), x / peak * V_READ], dim=1)
    out = []
    for column in range(lay.column_tiles):
        total: Any = 0.0
        for row in range(lay.row_tiles):
            part = v[:, row * c.rows : (row + 1) * c.rows]
            i = solve(matrix.cells(1, row, column), part, wires, rtol=TIGHT).i_out
            if c.scheme == "two arrays":
                total = total + i - solve(matrix.cells(-1, row, column), part, wires, rtol=TIGHT).i_out
            elif c.scheme == "two columns":
                total = total + i[:, 0::2] - i[:, 1::2]
            else:
                total = total + 2 * (i[:, :-1] - i[:, -1:])  # half the range on each side of zero
        out.append(total)
    span = matrix.devices_on_chip.high - matrix.devices_on_chip.low
    return torch.cat(out, dim=1)[:, : matrix.n_out] * peak * matrix.top / (span * V_READ)


@SCHEMES
@pytest.mark.parametrize("nonlinear", [False, True], ids=["ohmic", "table"])
@pytest.mark.parametrize("wires", [None, WIRES], ids=["ideal lines", "lines"])
def test_tile_by_tile(scheme: Any, nonlinear: bool, wires: Wires | None, lut: Lut) -> None:
    config = Config(rows=7, columns=6, v_read=V_READ, nonlinear=nonlinear, wires=wires, rtol=TIGHT, scheme=scheme)
    matrix, x = TiledMatrix(tensor(8, 19), lut, config), tensor(3, 19, seed=1)
    torch.testing.assert_close(matrix(x), by_hand(matrix, x, wires), rtol=ROUNDING, atol=ROUNDING)


@pytest.mark.parametrize("nonlinear", [False, True], ids=["ohmic", "table"])
def test_a_convolution_is_its_windows_on_the_same_arrays(nonlinear: bool, lut: Lut) -> None:
    config = Config(rows=7, columns=6, v_read=V_READ, nonlinear=nonlinear, wires=WIRES, rtol=TIGHT)
    config = config.but(dac__range=4.0)
    conv, x = nn.Conv2d(2, 5, 3, stride=2, bias=False).double(), tensor(2, 2, 7, 5)
    mapped = convert(conv, lut, config)
    windows = nn.functional.unfold(x, 3, stride=2).transpose(1, 2)
    alone = TiledMatrix(conv.weight.flatten(1), lut, config)
    expected = alone(windows).transpose(1, 2).unflatten(2, (3, 2))
    torch.testing.assert_close(mapped(x), expected, rtol=ROUNDING, atol=ROUNDING)


@needs_ngspice[0]
@needs_ngspice[1]
@pytest.mark.parametrize("nonlinear", [False, True], ids=["ohmic", "table"])
@SCHEMES
def test_a_converted_layer_in_ngspice(nonlinear: bool, scheme: Any, lut: Lut) -> None:
    """A whole layer, 6 inputs and 3 outputs on tiles of 4 x 4, each tile an emitted netlist."""
    config = Config(rows=4, columns=4, v_read=V_READ, nonlinear=nonlinear, wires=WIRES, rtol=TIGHT, scheme=scheme)
    layer, x = nn.Linear(6, 3, bias=False).double(), tensor(1, 6, seed=1)
    mapped: Any = convert(layer, lut, config)
    matrix = mapped.matrix
    v = np.concatenate([np.zeros(2), (x / x.abs().max() * V_READ).numpy()[0]])
    signs = (1, -1) if scheme == "two arrays" else (1,)
    columns: Any = 0.0
    for row in range(2):
        for sign in signs:
            found = []
            for column in range(matrix.layout.column_tiles):
                part = torch.tensor(v[4 * row : 4 * row + 4])
                i = output_currents(netlists.crossbar(matrix.cells(sign, row, column), part, WIRES), 4)
                if scheme == "two columns":
                    i = i[0::2] - i[1::2]
                elif scheme == "reference column":
                    i = 2 * (i[:-1] - i[-1:])
                found.append(i)
            columns = columns + sign * np.concatenate(found)
    low, high = lut.conductance_range(V_READ)
    scale = float(layer.weight.detach().abs().max() * x.abs().max()) / ((high - low) * V_READ)
    # ngspice solves a non-linear circuit to 1e-9 of a current; differences of columns are some ten times smaller
    np.testing.assert_allclose(mapped(x).detach().numpy()[0], columns[:3] * scale, rtol=1e-6, atol=1e-7)


def test_bit_serial_and_pulse_width_inputs_through_lines(lut: Lut) -> None:
    """Pulses of one height that end at different times: their charge is the mean over time of solved currents."""
    base = Config(rows=5, columns=4, v_read=V_READ, wires=WIRES, rtol=TIGHT).but(dac__bits=3, dac__range=1.0)
    matrix = TiledMatrix(tensor(4, 5), lut, base.but(dac__encoding="pulse-width"))
    x = torch.tensor([[1.0, -2 / 3, 1 / 3, 0.0, 2 / 3]], dtype=torch.float64)  # in thirds: 3 bits with a sign
    expected: Any = 0.0
    for slot in range(3):
        on = x.sign() * (x.abs() * 3 > slot + 0.5)
        for sign in (1, -1):
            expected = expected + sign * solve(matrix.cells(sign), on * V_READ, WIRES, rtol=TIGHT).i_out / 3
    span = matrix.devices_on_chip.high - matrix.devices_on_chip.low
    torch.testing.assert_close(matrix(x), expected * matrix.top / (span * V_READ), rtol=ROUNDING, atol=ROUNDING)

    serial = TiledMatrix(tensor(4, 5), lut, base.but(dac__encoding="bit-serial"))
    expected = 0.0
    for bit in range(2):
        on = x.sign() * ((x.abs() * 3).round().long() >> bit & 1)
        for sign in (1, -1):
            expected = expected + sign * 2**bit / 3 * solve(serial.cells(sign), on * V_READ, WIRES, rtol=TIGHT).i_out
    torch.testing.assert_close(serial(x), expected * serial.top / (span * V_READ), rtol=ROUNDING, atol=ROUNDING)


def test_pulse_widths_spare_the_non_linearity(lut: Lut) -> None:
    """Every device is read at one voltage, so that on ideal lines its charge is proportional to the input."""
    weight, x = tensor(6, 20), tensor(4, 20, seed=1)
    base = Config(rows=16, columns=8, v_read=0.8)
    wide, high = (TiledMatrix(weight, lut, base.but(dac__encoding=e)) for e in ("pulse-width", "amplitude"))
    exact = x @ weight.T
    assert (high(x) - exact).norm() > 0.01 * exact.norm()
    # the device is odd in v up to the table's interpolation, 1e-4
    torch.testing.assert_close(wide(x), exact, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("scheme", ["two arrays", "two columns"])
def test_permuted_lines_lose_less(scheme: Any) -> None:
    """Outputs of very different sizes: with the large ones next to the drivers, the error of a linear array falls."""
    generator = torch.Generator().manual_seed(0)
    sizes = 10 ** -torch.rand(32, 1, generator=generator, dtype=torch.float64) * 1.5
    weight = torch.randn(32, 32, generator=generator, dtype=torch.float64) * sizes
    x = torch.rand(64, 32, generator=generator, dtype=torch.float64)
    base = Config(rows=32, columns=66, nonlinear=False, g_low=1e-6, g_high=1e-4, wires=Wires(20.0, 20.0, 20.0, 20.0))
    base = base.but(scheme=scheme)
    exact = x @ weight.T
    plain, ordered = (float((TiledMatrix(weight, None, c)(x) - exact).norm()) for c in (base, base.but(permute=True)))
    assert ordered < 0.9 * plain


def test_neighbours_in_a_shared_tile_leak(lut: Lut) -> None:
    """Groups on the diagonal of one tile: exact with ideal lines; with lines, each sees the others' cells."""
    conv, x = nn.Conv2d(4, 4, 2, groups=4, bias=False).double(), tensor(1, 4, 3, 3)
    base = Config(rows=16, columns=8, v_read=V_READ, nonlinear=False, share_tiles=True)
    shared: Any = convert(conv, lut, base)
    torch.testing.assert_close(shared(x), conv(x), rtol=1e-9, atol=1e-9)
    assert next(placed(shared)).matrix.tiles == 2
    lined: Any = convert(conv, lut, base.but(wires=Wires(50.0, 50.0, 50.0, 50.0)))
    quiet = x.clone()
    quiet[:, 1:] = 0
    assert lined(quiet)[:, 1:].abs().max() > 1e-6  # driven through the neighbours' lines


def test_analog_partial_sums_are_converted_once() -> None:
    """With a coarse converter, adding currents first leaves one rounding error, not one a tile."""
    weight, x = tensor(8, 64), tensor(50, 64, seed=1)
    base = Config(rows=8, columns=8, nonlinear=False, g_low=1e-6, g_high=1e-4).but(adc__bits=8, adc__range=1.0)
    exact = x @ weight.T
    step = {}
    for where in ("digital", "analog"):
        matrix = TiledMatrix(weight, None, base.but(partial_sums=where))
        scale = x.abs().amax(1, keepdim=True) * matrix.top / ((1e-4 - 1e-6) * 0.2)
        lsb = matrix.adc_range / 127 * scale
        step[where] = (matrix(x) - exact) / lsb
    assert step["analog"].abs().max() <= 0.5 + 1e-9
    # eight independent errors, uniform in +-1/2: standard deviation sqrt(8 / 12); 400 of them
    assert float(step["digital"].std()) == pytest.approx((8 / 12) ** 0.5, rel=0.15)
