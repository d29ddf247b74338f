"""Tables from models, fits, draws and measured branches keep what they state."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import lut_samples
import numpy as np
import pytest
from click.testing import CliRunner

from devicelab import Lut, Trace, parameter_set
from devicelab.cli import cli
from devicelab.errors import LutError
from devicelab.lut import Rate, check
from devicelab.lut.measured import branches_of
from devicelab.variability import spread

V_READ = 0.2
NOISE = 0.01
"""Of the largest current, on every measured sample."""


@pytest.mark.parametrize("name", ["stanford_default", "simmons_pickett", "linear_drift_memtorch_paper"])
def test_a_refined_grid_keeps_its_tolerance_with_fewer_nodes_than_an_even_one(name: str) -> None:
    model, tolerance = parameter_set(name), 1e-3
    lut = Lut.from_model(model, 0.8, tolerance=tolerance)
    rng = np.random.default_rng(0)
    v, x = rng.uniform(-0.8, 0.8, 5000), rng.uniform(0, 1, 5000)
    largest = np.maximum(np.abs(model.current(0.8, x)), np.abs(model.current(-0.8, x)))
    assert (np.abs(lut.current(v, x) - model.current(v, x)) / largest).max() <= tolerance
    assert lut.error <= tolerance
    even = round(1.0 / np.diff(lut.state).min()) + 1
    assert lut.state.size <= even


def test_rates_are_those_of_the_model() -> None:
    model = parameter_set("vteam_pt_hf_ti")
    rate = Lut.from_model(model, 0.8, rate=True).rate
    assert isinstance(rate, Rate)
    v, x = np.random.default_rng(0).uniform([[-0.8], [0]], [[0.8], [1]], (2, 2000))
    exact = model.rate(v, x)
    assert (
        np.abs(rate.at(v, x) - exact).max() <= 1.5 * rate.error * np.abs(model.rate(np.array([-0.8, 0.8]), 0.5)).max()
    )
    assert rate.error <= 1e-3


def test_the_spread_of_the_levels_is_that_of_the_devices() -> None:
    """A linear device whose both resistances scale alike: every level has the spread that was drawn."""
    model, cv = parameter_set("stanford_default"), 0.1
    lut = Lut.from_stochastic(
        model, 0.6, v_read=V_READ, levels=4, tolerance=1e-2,
        devices=spread(model, {"i0": cv}, 4000, np.random.default_rng(0)), read_noise=0.02, keep=2,
    )  # fmt: skip
    assert lut.levels is not None
    assert lut.curves is not None
    np.testing.assert_allclose(lut.levels.d2d, cv, rtol=0.06)  # four standard errors of 4000 draws
    np.testing.assert_array_equal(lut.levels.read_noise, 0.02)
    assert lut.curves.current.shape == (8, lut.voltage.size)
    low, high = lut.conductance_range(V_READ)
    np.testing.assert_allclose(lut.levels.conductance, np.linspace(low, high, 4))


def measured(levels: list[float], repeats: int, seed: int = 0) -> tuple[list[Trace], list[int]]:
    """Branches I = g sinh(3 v) / 3 with noise, `repeats` of each level."""
    rng = np.random.default_rng(seed)
    v = np.linspace(-0.4, 0.4, 161)
    out, groups = [], []
    for k, g in enumerate(levels):
        for _ in range(repeats):
            i = g * (1 + 0.05 * rng.normal()) * np.sinh(3 * v) / 3
            out.append(Trace(np.arange(v.size) * 1e-3, v, i + NOISE * np.abs(i).max() * rng.normal(size=v.size)))
            groups.append(k)
    return out, groups


@pytest.mark.parametrize("smoothing", ["pchip", "bspline"])
def test_measured_branches_become_the_curves_beneath_their_noise(smoothing: str, tmp_path: Path) -> None:
    levels = [1e-6, 4e-6, 2e-5]
    branches, groups = measured(levels, repeats=20)
    lut = Lut.from_branches(branches, V_READ, groups=groups, smoothing=smoothing)
    v = np.linspace(lut.voltage[0], lut.voltage[-1], 41)
    for g, x in zip(levels, lut.state, strict=True):
        exact = g * np.sinh(3 * v) / 3
        assert np.abs(lut.current(v, x) - exact).max() < 0.05 * exact.max()  # 4 x 5 % / sqrt(20) and the noise
    assert lut.levels is not None
    np.testing.assert_allclose(lut.levels.c2c, 0.05, atol=0.04)
    assert 0.5 * NOISE < lut.provenance["residual_rms"] < 0.1
    lut.save(tmp_path / "a.h5")
    assert check(tmp_path / "a.h5") == []


def test_branches_are_cut_from_a_loop_where_it_does_not_switch() -> None:
    v = np.concatenate([np.linspace(0, 1, 50), np.linspace(1, -1, 101)[1:], np.linspace(-1, 0, 51)[1:]])
    v = np.concatenate([v, v[1:]])
    trace = Trace(np.arange(v.size) * 1.0, v, 1e-6 * v)
    branches, groups = branches_of(trace, 0.3)
    assert groups == [1, 0, 1]  # falling, rising through 0 V between the cycles, falling
    assert max(float(np.abs(b.v).max()) for b in branches) <= 0.3
    with pytest.raises(LutError, match="no branch"):
        branches_of(Trace(np.arange(9.0), np.linspace(0, 1, 9), np.zeros(9)), 0.3)


def test_a_fit_keeps_its_intervals_and_its_sources() -> None:
    model = parameter_set("vteam_pt_hf_ti")
    trace = Trace([0.0, 1.0], [0.0, 1.0], [0.0, 1.0], meta={"sha256": "ab"})
    result = SimpleNamespace(
        model=model, traces=[trace], seed=7, statistics={"samples": 2.0, "redchi": 1.1},
        estimates=[SimpleNamespace(name="r_on", low=90.0, high=110.0), SimpleNamespace(name="x0_0", low=0.0, high=1.0)],
    )  # fmt: skip
    lut = Lut.from_fit(result, 1.0, v_read=V_READ)
    assert (lut.device["r_on_low"], lut.device["r_on_high"]) == (90.0, 110.0)
    assert (lut.provenance["source_sha256"], lut.provenance["fit_seed"]) == ("ab", 7)


def test_factors_keep_their_error() -> None:
    lut = lut_samples.full()
    for tolerance in (1e-2, 1e-6):
        factors = lut.low_rank(tolerance)
        off = np.abs(factors.amplitude @ factors.shape - lut.table) / np.abs(lut.table).max(axis=1, keepdims=True)
        assert off.max() <= factors.error <= tolerance


def test_the_command_line_checks_compares_and_draws(tmp_path: Path) -> None:
    lut = lut_samples.full()
    lut.save(tmp_path / "a.h5")
    Lut(lut.voltage, lut.state, 1.01 * lut.table).save(tmp_path / "b.h5")
    (tmp_path / "c.h5").write_bytes((tmp_path / "a.h5").read_bytes()[:-9])
    run = CliRunner().invoke
    a, b, c = (str(tmp_path / f"{name}.h5") for name in "abc")
    assert run(cli, ["lut", "check", a]).exit_code == 0
    refused = run(cli, ["lut", "check", a, c])
    assert refused.exit_code == 1
    assert "SHA-256" in refused.output
    assert run(cli, ["lut", "diff", a, a]).output == "the tables are equal\n"
    differs = run(cli, ["lut", "diff", a, b])
    assert differs.exit_code == 1
    assert "0.01 of the largest" in differs.output
    assert "sampled curves" in run(cli, ["lut", "info", a]).output
    assert run(cli, ["lut", "plot", a, "--out", str(tmp_path / "a.png")]).exit_code == 0
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
