"""What devices do to a network: laws, statistics, seeds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from crossbar import Config, TiledMatrix, convert
from devicelab import VTEAM, Lut
from devicelab.errors import LutError, ParameterError
from devicelab.lut import Levels
from devicelab.noise import Wear, read_noise

LOW, HIGH = 1e-5, 1e-4
BASE = Config(rows=50, columns=50, nonlinear=False, g_low=LOW, g_high=HIGH)
N = 200 * 200
SIGMAS = 5  # of every statistic below: fails once in a million


def weights(*shape: int, seed: int = 0) -> torch.Tensor:
    w = torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2 - 1
    w[0, 0] = 1.0
    return w


WEIGHT = weights(200, 200)
ASKED = LOW + (HIGH - LOW) * torch.stack([WEIGHT.clamp(min=0), (-WEIGHT).clamp(min=0)])


def written(weight: torch.Tensor = WEIGHT, lut: Lut | None = None, base: Config = BASE, **devices: Any) -> torch.Tensor:
    """Conductances of the plus and minus cells, [2, n_out, n_in]."""
    config = base.but(**{f"devices__{name}": value for name, value in devices.items()})
    return unpacked(TiledMatrix(weight, lut, config))


def unpacked(matrix: TiledMatrix) -> torch.Tensor:
    g = matrix.g[0, 0]  # [2, R, K, rows, columns]
    return g.permute(0, 2, 4, 1, 3).flatten(3).flatten(1, 2)[:, : matrix.n_out, -matrix.n_in :]


def test_exact_devices_hold_what_was_asked() -> None:
    torch.testing.assert_close(written(), ASKED, rtol=1e-12, atol=0)


@pytest.mark.parametrize("even_in", ["G", "R"])
def test_levels_are_the_nearest_of_an_even_set(even_in: Any) -> None:
    levels = np.linspace(LOW, HIGH, 6) if even_in == "G" else 1 / np.linspace(1 / LOW, 1 / HIGH, 6)
    nearest = levels[np.abs(ASKED.numpy()[..., None] - levels).argmin(-1)]
    np.testing.assert_allclose(written(levels=6, even_in=even_in).numpy(), nearest, rtol=1e-12)


def test_levels_of_the_table() -> None:
    device = VTEAM(r_on=1e4, r_off=2e5, v_on=-0.9, v_off=0.8, k_on=6, k_off=4, b_on=0.5, b_off=2.5)
    plain = Lut.from_model(device, 1.0)
    low, high = plain.conductance_range(0.2)
    targets = low + (high - low) * np.array([0.0, 0.1, 0.4, 1.0])
    spread = np.array([0.3, 0.2, 0.1, 0.05])
    lut = Lut(plain.voltage, plain.state, plain.table, levels=Levels(0.2, targets, d2d=spread, c2c=2 * spread))
    base = BASE.but(g_low=None, g_high=None)
    g = written(lut=lut, base=base, levels="lut").numpy()
    assert np.allclose(np.unique(g.round(12)), targets.round(12))
    for name, factor in (("d2d", 1), ("c2c", 2)):
        strayed = written(lut=lut, base=base, levels="lut", **{name: "lut"}).numpy()
        for target, cv in zip(targets, spread * factor, strict=True):
            found = strayed[np.isclose(g, target)]
            assert found.mean() == pytest.approx(target, rel=SIGMAS * cv / found.size**0.5)
            assert found.std() == pytest.approx(cv * target, rel=0.1)
    with pytest.raises(LutError, match="no read_noise"):
        TiledMatrix(WEIGHT, lut, base.but(devices__read_noise="lut"))(WEIGHT)
    with pytest.raises(LutError, match="no levels"):
        written(d2d="lut")


def test_devices_differ_by_a_lognormal_of_mean_one() -> None:
    ratio = (written(d2d=0.3) / ASKED).numpy().ravel()
    assert ratio.mean() == pytest.approx(1.0, abs=SIGMAS * 0.3 / ratio.size**0.5)
    logs = np.log(ratio)
    assert logs.std() == pytest.approx(np.log1p(0.09) ** 0.5, rel=SIGMAS / (2 * ratio.size) ** 0.5)
    assert abs(((logs - logs.mean()) ** 3).mean()) < SIGMAS * logs.std() ** 3 * (6 / ratio.size) ** 0.5  # no skew left


def test_device_to_device_stays_and_cycle_to_cycle_changes() -> None:
    for name, changes in (("d2d", False), ("c2c", True)):
        matrix = TiledMatrix(WEIGHT, None, BASE.but(**{f"devices__{name}": 0.2}))
        before = matrix.g.clone()
        matrix.program(WEIGHT)
        assert torch.equal(matrix.g, before) != changes
    ratio = matrix.g / before  # two independent cycles: variance of the logarithm doubles
    assert float(ratio.log().std()) == pytest.approx((2 * np.log1p(0.04)) ** 0.5, rel=SIGMAS / N**0.5)


def test_devices_have_their_own_range() -> None:
    """As the survey has it: r_on 10 kohm +- 1, r_off 100 kohm +- 10."""
    extremes = torch.ones(200, 200, dtype=torch.float64)
    g = written(extremes, r_on_spread=0.1, r_off_spread=0.1).numpy()
    on, off = 1 / g[0], 1 / g[1]
    assert np.log(on).std() == pytest.approx(np.log1p(0.01) ** 0.5, rel=SIGMAS / (2 * N) ** 0.5)
    assert np.median(on) == pytest.approx(1e4, rel=SIGMAS * 0.1 * (np.pi / 2 / N) ** 0.5)
    assert (off > 0).all()
    ratio = written(WEIGHT, r_on_spread=0.1, r_off_spread=0.3)
    assert not torch.allclose(ratio, ASKED, rtol=0.05)


def test_stuck_devices_never_overlap() -> None:
    g = written(stuck_on=0.1, stuck_off=0.2, pristine=0.05).numpy()
    asked = ASKED.numpy()
    free = (asked > LOW * 1.001) & (asked < HIGH * 0.999)
    shares = [np.isclose(g, value, rtol=1e-9)[free].mean() for value in (HIGH, LOW, LOW / 10)]
    for share, wanted in zip(shares, (0.1, 0.2, 0.05), strict=True):
        assert share == pytest.approx(wanted, abs=SIGMAS * (wanted / free.sum()) ** 0.5)
    assert np.isclose(g, asked, rtol=1e-9)[free].mean() == pytest.approx(0.65, abs=SIGMAS * (0.25 / free.sum()) ** 0.5)
    config = BASE.but(devices__stuck_on=0.1, devices__stuck_off=0.2)
    kind = TiledMatrix(WEIGHT, None, config).devices_on_chip.kind
    assert kind is not None
    assert kind.shape == TiledMatrix(WEIGHT, None, config).g.shape  # one fault a device: maps are disjoint
    # the faults stay where they are, whatever is written
    again = unpacked(TiledMatrix(-WEIGHT, None, config))
    both = np.isclose(written(stuck_on=0.1, stuck_off=0.2).numpy(), HIGH) & free
    assert np.allclose(again.numpy()[both], HIGH)


def test_drift_and_retention() -> None:
    torch.testing.assert_close(written(time=1e4, drift=0.06), ASKED * 1e4**-0.06, rtol=1e-12, atol=0)
    torch.testing.assert_close(written(time=0.5, drift=0.06), ASKED, rtol=1e-12, atol=0)  # before t0
    nu = -np.log((written(time=1e4, drift=0.06, drift_spread=0.02) / ASKED).numpy()) / np.log(1e4)
    assert nu.mean() == pytest.approx(0.06, abs=SIGMAS * 0.02 / nu.size**0.5)
    assert nu.std() == pytest.approx(0.02, rel=SIGMAS / (2 * nu.size) ** 0.5)
    wear = Wear(p0=10.0, p1=0.0, p2=0.5, p3=0.3, stable=3e5)
    asked = ASKED.numpy()
    worn = 1 / wear.resistance(1 / asked, 1e4, temperature=350.0)
    lower = asked <= 0.5 * (LOW + HIGH)
    g = written(time=1e4, temperature=350.0, retention_off=wear).numpy()
    np.testing.assert_allclose(g, np.where(lower, worn, asked), rtol=1e-9)


def test_temperature_follows_arrhenius() -> None:
    g = written(weights(20, 20), temperature=350.0, e_on=-0.01, e_off=0.1)
    at_room = written(weights(20, 20))
    per_kelvin = 8.617333262e-5  # eV/K
    for conductance in (LOW, HIGH, (LOW * HIGH) ** 0.5):
        k = (at_room - conductance).abs().argmin()
        place = float(np.log(float(at_room.flatten()[k]) / LOW) / np.log(HIGH / LOW))
        energy = 0.1 + place * (-0.01 - 0.1)
        expected = np.exp(-energy / per_kelvin * (1 / 350 - 1 / 300))
        assert float(g.flatten()[k] / at_room.flatten()[k]) == pytest.approx(expected, rel=1e-9)


def test_read_noise_of_a_column_is_that_of_its_cells() -> None:
    """Variance over reads against cell-by-cell samples of `devicelab.noise.read_noise`."""
    weight, reads = weights(3, 20), 4000
    noise = {"relative": 0.1, "bandwidth": 1e9, "temperature": 350.0}
    x = torch.linspace(-1, 1, 20, dtype=torch.float64)
    config = BASE.but(devices__read_noise=0.1, devices__bandwidth=1e9, devices__temperature=350.0)
    matrix = TiledMatrix(weight, None, config)
    out = matrix(x.expand(reads, 20)).numpy()
    rng = np.random.default_rng(0)
    g, v = unpacked(matrix).numpy(), 0.2 * x.numpy()
    cells = read_noise(np.broadcast_to(g * v, (reads, *g.shape)), v, rng, **noise)
    expected = (cells[:, 0] - cells[:, 1]).sum(-1) / ((HIGH - LOW) * 0.2)
    np.testing.assert_allclose(out.mean(0), (weight @ x).numpy(), atol=SIGMAS * expected.std() / reads**0.5)
    ratio = out.std(0) / expected.std(0)
    assert (abs(ratio - 1) < SIGMAS / reads**0.5).all()
    assert np.abs(np.corrcoef(out.T) - np.eye(3)).max() < SIGMAS / reads**0.5


def test_same_seed_same_result() -> None:
    config = BASE.but(
        devices__d2d=0.1, devices__c2c=0.1, devices__stuck_on=0.02, devices__read_noise=0.05, sense__offset=0.01
    )
    net, x = nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 20)).double(), weights(5, 20)
    torch.manual_seed(1)
    one = convert(net, None, config)
    torch.manual_seed(2)  # of no consequence
    two, other = convert(net, None, config), convert(net, None, config.but(seed=1))
    first = one(x)
    assert torch.equal(two(x), first)
    assert not torch.allclose(one(x), first)  # the next read has its own noise
    assert not torch.allclose(other(x), first)
    a, b = (layer.matrix.devices_on_chip.deviation for layer in (one[0], one[2]))
    assert not torch.allclose(a.flatten()[:100], b.flatten()[:100])  # layers have devices of their own


def test_single_precision_changes_no_draw() -> None:
    config = BASE.but(devices__d2d=0.1, devices__stuck_on=0.02)
    wide, narrow = (TiledMatrix(w, None, config).g for w in (WEIGHT, WEIGHT.float()))
    torch.testing.assert_close(narrow.double(), wide, rtol=1e-6, atol=0)


def test_clipping_spares_the_range_for_most_weights() -> None:
    weight = WEIGHT.clone()
    weight[0, 0] = 100.0
    matrix = TiledMatrix(weight, None, BASE.but(clip=99.0))
    assert float(matrix.top) == pytest.approx(float(weight.abs().flatten().quantile(0.99)), rel=1e-3)
    assert float(unpacked(matrix)[0, 0, 0]) == pytest.approx(HIGH)


def test_strayed_devices_follow_their_table_scaled() -> None:
    """Beyond what the table's device can do, a cell keeps the shape of its curve."""
    device = VTEAM(r_on=1e4, r_off=2e5, v_on=-0.9, v_off=0.8, k_on=6, k_off=4, b_on=0.5, b_off=2.5)
    lut = Lut.from_model(device, 1.0)
    matrix = TiledMatrix(weights(6, 6), lut, Config(rows=6, columns=6, v_read=0.2).but(devices__d2d=0.5))
    cells = matrix.cells()
    v = torch.full((1, 6, 6), 0.2, dtype=torch.float64)
    torch.testing.assert_close(cells.current(v)[0] / 0.2, matrix.g[0, 0, 0, 0, 0], rtol=1e-6, atol=0)
    low, high = lut.conductance_range(0.2)
    assert ((matrix.g < low) | (matrix.g > high)).any()


def test_what_a_device_cannot_do_is_refused() -> None:
    device = VTEAM(r_on=1e4, r_off=2e5, v_on=-0.9, v_off=0.8, k_on=6, k_off=4, b_on=0.5, b_off=2.5)
    lut = Lut.from_model(device, 1.0)
    with pytest.raises(LutError, match="outside what the device can do"):
        TiledMatrix(WEIGHT, lut, BASE.but(g_high=1.0))
    with pytest.raises(ParameterError, match="range of conductances is needed"):
        TiledMatrix(WEIGHT, None, BASE.but(g_high=None))
    with pytest.raises(ParameterError, match="need a lookup table"):
        TiledMatrix(WEIGHT, None, BASE.but(nonlinear=True))
