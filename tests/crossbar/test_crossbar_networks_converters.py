"""DAC, sense circuit and ADC: against the same arithmetic written in numpy, number by number."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import crossbar
from crossbar import ADC, DAC, Config, Sense, TiledMatrix
from devicelab.errors import ParameterError

LOW, HIGH, V_READ = 1e-6, 1e-4, 0.2
BASE = Config(rows=8, columns=5, nonlinear=False, g_low=LOW, g_high=HIGH, v_read=V_READ)
SAME = 1e-9  # float64 on both sides


def tensor(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


WEIGHT, X = tensor(7, 19), tensor(6, 19, seed=1)


def partial_sums(x: np.ndarray) -> np.ndarray:
    """Differences of column currents of every row tile [tiles, b, n_out] for inputs in -1..1; idle rows come first."""
    w = WEIGHT.numpy()
    g = (HIGH - LOW) * w / abs(w).max()
    padded = np.concatenate([np.zeros((len(x), 5)), x], axis=1)
    g = np.concatenate([np.zeros((7, 5)), g], axis=1)
    return np.stack([V_READ * padded[:, k : k + 8] @ g[:, k : k + 8].T for k in (0, 8, 16)])


def as_numbers(i: np.ndarray, peak: Any) -> np.ndarray:
    return i * abs(WEIGHT.numpy()).max() / ((HIGH - LOW) * V_READ) * peak


def found(**changes: Any) -> np.ndarray:
    return TiledMatrix(WEIGHT, None, BASE.but(**changes))(X).numpy()


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_dac_rounds_inputs_and_clips_them(bits: int) -> None:
    n = 2 ** (bits - 1) - 1
    x = np.round(np.clip(X.numpy() / 1.5, -1, 1) * n) / n
    np.testing.assert_allclose(
        found(dac__bits=bits, dac__range=1.5), as_numbers(partial_sums(x).sum(0), 1.5), rtol=SAME, atol=SAME
    )


def test_without_a_range_every_vector_fills_the_dac() -> None:
    peak = abs(X.numpy()).max(1, keepdims=True)
    x = np.round(X.numpy() / peak * 7) / 7
    np.testing.assert_allclose(found(dac__bits=4), as_numbers(partial_sums(x).sum(0), peak), rtol=SAME, atol=SAME)


@pytest.mark.parametrize("slice_bits", [1, 2, 3])
def test_bit_serial_reads_add_up(slice_bits: int) -> None:
    """On linear arrays with continuous ADCs, the reads of a number's bits are the number."""
    whole, serial = found(dac__bits=6), found(dac=DAC(bits=6, encoding="bit-serial", slice_bits=slice_bits))
    np.testing.assert_allclose(serial, whole, rtol=SAME, atol=SAME)


def test_bit_serial_reads_are_converted_one_by_one() -> None:
    full, bits = 0.1 * 8 * V_READ * HIGH, 5
    number = np.round(np.clip(X.numpy() / 2, -1, 1) * 7)  # 4 bits with a sign
    total: Any = 0.0
    for k in range(3):
        i = partial_sums(np.sign(number) * (abs(number).astype(int) >> k & 1))
        total = total + 2**k / 7 * (np.clip(np.round(i / full * 15), -15, 15) * full / 15).sum(0)
    changes = {"dac": DAC(bits=4, encoding="bit-serial", range=2.0), "adc": ADC(bits=bits, range=0.1)}
    np.testing.assert_allclose(found(**changes), as_numbers(total, 2.0), rtol=SAME, atol=SAME)


@pytest.mark.parametrize("analog", [False, True])
def test_linear_adc(analog: bool) -> None:
    full = 0.1 * 8 * V_READ * HIGH
    peak = abs(X.numpy()).max(1, keepdims=True)
    i = partial_sums(X.numpy() / peak)
    i = i.sum(0, keepdims=True) if analog else i
    codes = np.round(i / full * 15)
    assert (abs(codes) > 15).any()  # some are clipped
    where = "analog" if analog else "digital"
    out = found(adc=ADC(bits=5, range=0.1), partial_sums=where)
    np.testing.assert_allclose(out, as_numbers((codes.clip(-15, 15) * full / 15).sum(0), peak), rtol=SAME, atol=SAME)


def test_logarithmic_adc() -> None:
    full = 0.5 * 8 * V_READ * HIGH
    peak = abs(X.numpy()).max(1, keepdims=True)
    i = partial_sums(X.numpy() / peak)
    values = np.concatenate([[0.0], full * 10 ** np.linspace(-2, 0, 15)])  # zero and 15 sizes over two decades
    size = np.minimum(abs(i), full)
    edges = np.sqrt(values[1:-1] * values[2:])  # between neighbours in the logarithm
    code = np.where(size < values[1] / 2, 0, 1 + np.searchsorted(edges, size))
    expected = as_numbers((np.sign(i) * values[code]).sum(0), peak)
    out = found(adc=ADC(bits=5, law="log", decades=2.0, range=0.5))
    np.testing.assert_allclose(out, expected, rtol=SAME, atol=SAME)


@pytest.mark.parametrize("per", ["layer", "tile", "column"])
def test_calibration_spans_a_percentile_of_the_currents(per: Any) -> None:
    x = tensor(1000, 19, seed=2)
    matrix = TiledMatrix(WEIGHT, None, BASE.but(adc=ADC(bits=6, per=per, percentile=90.0), dac=DAC(range=3.0)))
    matrix.watching, matrix.has_adc_range = True, False
    matrix(x)
    i = np.abs(partial_sums(np.clip(x.numpy() / 3.0, -1, 1)))  # [3, 1000, 7]
    columns = np.concatenate([i, np.zeros((3, 1000, 3))], axis=2)  # 10 columns on two tiles
    samples = {
        "layer": lambda t, k: columns,
        "tile": lambda t, k: columns[t, :, 5 * (k // 5) : 5 * (k // 5) + 5],
        "column": lambda t, k: columns[t, :, k],
    }[per]
    full = matrix.adc_range.expand(1, 3, 1, 10).numpy()[0, :, 0]
    for t in range(3):
        for k in range(10):
            expected = np.sort(samples(t, k), axis=None)
            assert full[t, k] == pytest.approx(expected[round(0.9 * expected.size) - 1], rel=1e-12)


def test_converter_without_data_spans_what_can_occur() -> None:
    w = WEIGHT.numpy()
    g = (HIGH - LOW) * abs(w) / abs(w).max()
    largest = max(V_READ * part.sum(1).max() for part in (g[:, :3], g[:, 3:11], g[:, 11:]))
    matrix = TiledMatrix(WEIGHT, None, BASE.but(adc__bits=6))
    assert float(matrix.adc_range) == pytest.approx(largest, rel=1e-12)


def test_sense_gain_and_offset_differ_between_columns() -> None:
    peak = abs(X.numpy()).max(1, keepdims=True)
    i = partial_sums(X.numpy() / peak)
    matrix = TiledMatrix(WEIGHT, None, BASE.but(sense=Sense(gain=0.1, offset=0.01, gain_error=0.2, offset_error=-0.03)))
    gain, offset = (a.numpy()[0, :, 0, :7] for a in (matrix.gain, matrix.offset))
    expected = as_numbers((i * gain[:, None] + offset[:, None]).sum(0), peak)
    np.testing.assert_allclose(matrix(X).numpy(), expected, rtol=SAME, atol=SAME)

    many = TiledMatrix(tensor(2000, 8), None, BASE.but(sense=matrix.config.sense))
    # 2000 draws: means within 4 sd / sqrt(2000), deviations within 4 / sqrt(4000)
    assert float(many.gain.mean()) == pytest.approx(1.2, abs=1.2 * 0.1 * 4 / 2000**0.5)
    assert float(many.gain.std()) == pytest.approx(1.2 * 0.1, rel=4 / 4000**0.5)
    full = 8 * V_READ * HIGH
    assert float(many.offset.mean()) == pytest.approx(-0.03 * full, abs=0.01 * full * 4 / 2000**0.5)
    assert float(many.offset.std()) == pytest.approx(0.01 * full, rel=4 / 4000**0.5)


def test_integrator_saturates() -> None:
    limit = 0.05 * 8 * V_READ * HIGH
    peak = abs(X.numpy()).max(1, keepdims=True)
    i = partial_sums(X.numpy() / peak)
    assert (abs(i) > limit).any()
    out = found(sense__saturation=0.05)
    np.testing.assert_allclose(out, as_numbers(i.clip(-limit, limit).sum(0), peak), rtol=SAME, atol=SAME)


def test_digital_subtraction_converts_both_columns() -> None:
    w = WEIGHT.numpy()
    full = 0.2 * 8 * V_READ * HIGH
    peak = abs(X.numpy()).max(1, keepdims=True)
    x = np.concatenate([np.zeros((6, 5)), X.numpy() / peak], axis=1)
    total: Any = 0.0
    for sign in (1, -1):
        g = LOW + (HIGH - LOW) * np.maximum(sign * w, 0) / abs(w).max()
        g = np.concatenate([np.full((7, 5), LOW), g], axis=1)
        for k in (0, 8, 16):
            i = V_READ * x[:, k : k + 8] @ g[:, k : k + 8].T
            total = total + sign * np.clip(np.round(i / full * 31), -31, 31) * full / 31
    out = found(adc=ADC(bits=6, range=0.2), subtraction="digital")
    np.testing.assert_allclose(out, as_numbers(total, peak), rtol=SAME, atol=SAME)


def test_a_matrix_that_calibration_brings_nothing_keeps_its_range() -> None:
    """The state of a recurrent cell is zero at its first step, and not at its second."""
    torch.manual_seed(0)
    cell, x = torch.nn.LSTMCell(5, 7).double(), tensor(3, 5)
    state = tensor(3, 7, seed=1), tensor(3, 7, seed=2)
    mapped = crossbar.convert(cell, None, BASE.but(adc__bits=12), calibration=x)
    with torch.no_grad():
        for a, b in zip(mapped(x, state), cell(x, state), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=5e-3)


def test_gradients_pass_straight_through_converters() -> None:
    matrix = TiledMatrix(WEIGHT, None, BASE.but(adc__bits=4, dac__bits=4, adc__law="log", dac__encoding="bit-serial"))
    x = X.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(matrix(x).sum(), x)
    torch.testing.assert_close(gradient, WEIGHT.sum(0).expand_as(X), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"adc__bits": 1}, "unusable bits"),
        ({"adc__bits": 6.5}, "unusable bits"),
        ({"adc__law": "cubic"}, "unknown law"),
        ({"adc__per": "row"}, "unknown per"),
        ({"dac__encoding": "bitserial"}, "did you mean bit-serial"),
        ({"dac__encoding": "bit-serial"}, "bit-serial inputs need bits"),
        ({"dac__percentile": 0.0}, "unusable percentile"),
        ({"dac__range": -1.0}, "range must be positive"),
        ({"sense__saturation": 0.0}, "saturation must be positive"),
        ({"sense__gain": -0.1}, "gain must not be negative"),
        ({"scheme": "two colums"}, "did you mean two columns"),
        ({"slices": 2}, "slices need slice_bits"),
        ({"slices": 5, "slice_bits": 5}, "too many bits"),
        ({"columns": 1, "scheme": "two columns"}, "need two columns"),
        ({"rows": 2.5}, "whole number"),
        ({"share_tiles": "layer"}, "did you mean layers"),
        ({"idle_lines": "floating"}, "only tiles that layers share"),
        ({"share_tiles": "layers", "idle_lines": "ground"}, "did you mean grounded"),
        ({"g_low": 1e-4, "g_high": 1e-5}, "g_low must be below g_high"),
        ({"devices__levels": 1}, "unusable levels"),
        ({"devices__d2d": "LUT"}, "unusable d2d"),
        ({"devices__stuck_on": 0.7, "devices__stuck_off": 0.7}, "impossible shares"),
        ({"adcs__bits": 6}, "did you mean adc"),
        ({"adc__bit": 6}, "did you mean bits"),
    ],
    ids=str,
)
def test_nonsense_is_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ParameterError, match=words):
        Config().but(**change)


def test_each_non_ideality_can_be_switched_alone() -> None:
    from devicelab.noise import Wear

    wear = Wear(p0=1.0, p1=0.0, p2=0.0, p3=0.1, stable=1e5)
    everything = Config(
        wires=crossbar.Wires(1.0, 1.0, 1.0, 1.0),
        share_tiles="layers",
        idle_lines="floating",
        clip=99.0,
        dac=DAC(bits=6),
        adc=ADC(bits=6),
        sense=Sense(gain=0.1, offset=0.1, saturation=0.5),
        devices=crossbar.Devices(
            levels=6, d2d=0.1, c2c=0.1, stuck_on=0.1, stuck_off=0.1, read_noise=0.1, time=10.0, drift=0.1,
            retention_on=wear, e_on=0.1,
        ),
    )  # fmt: skip
    names = list(crossbar.NON_IDEALITIES)
    assert everything.active() == names
    for name in names:
        assert everything.only(name).active() == [name]
        assert everything.without(name).active() == [other for other in names if other != name]
    assert everything.without(*names).active() == []
    with pytest.raises(ParameterError, match="did you mean dac or adc"):
        everything.without("acd")
