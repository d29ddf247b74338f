"""The round trip through SPICE: ngspice runs the sub-circuit of a device, a fit finds its parameters.

Each case states what its experiment (sines of two amplitudes, 1 % noise) identifies. Parameters that are not varied
stay at their published values: of a product only one factor can be found (`r_off` and the state's scale where a loop
ends short of x = 0, as that of TEAM does while v / r_off stays below i_off, `beta` likewise, `b` of a sinh that is
still a straight line, attempt speed and activation energy at one temperature, the share phi of MMS and what it scales).
A TEAM device whose i_off is below that limit reaches x = 0, and shows its r_off.

The published drive of the MemTorch device is lowered: it brings x to 1 - 2e-9 of a Joglekar window, from where the
device returns by what is left of 1 - x, and the sub-circuit stops at 1 - 1e-6 (docs/ngspice.md). At 0.5 V both give the
same current to 2e-5.

ngspice's own error needs no slack: against steps ten times as fine, at most 0.09 standard deviations of the noise.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from scipy.stats import chi2

import netlists
from devicelab import MODELS, TEAM, Model, Trace, parameter_set, sine
from devicelab.parameter_sets import parameter_set_info
from fits import fit

pytestmark = pytest.mark.skipif(not netlists.available(), reason="needs ngspice")
NOISE = 0.01
LIKELY = 0.999  # of the joint region of all parameters in which the truth must lie


@dataclass(frozen=True)
class Case:
    """A published device, and what is fitted of it."""

    device: str
    vary: tuple[str, ...]
    rel: float = 0.1
    changes: dict[str, float] = field(default_factory=dict)
    amplitudes: tuple[float, float] = (1.0, 0.8)
    series: float = 0.0

    def make(self) -> tuple[Model, float, float, float]:
        """Device, amplitude [V], frequency [Hz], initial state."""
        if self.device == "team":
            made = TEAM(r_on=1e3, r_off=1e4, i_on=-8e-5, i_off=1e-4, k_on=20.0, k_off=15.0, a_on=2.0, a_off=2.0)
            return made.replace(**self.changes), 1.0, 1.0, 0.3
        drive = parameter_set_info(self.device)["drive"]
        model = parameter_set(self.device).replace(**self.changes)
        return model, drive["amplitude"], drive["frequency"], drive["x0"]


QUICK = [
    Case("vteam_pt_hf_ti", ("r_on", "r_off", "v_on", "v_off", "k_on", "k_off", "a_on", "a_off"), 0.25, {"k_on": 6.0}),
    Case("vteam_asymmetric_example", ("r_off", "v_on", "v_off", "k_on", "k_off", "a_p", "a_n", "b_p", "b_n"), 0.15),
    Case("nonlinear_drift_team_paper", ("alpha", "gamma", "n", "a", "m"), 0.15),
    Case("mms_knowm", ("r_on", "r_off", "v_on", "v_off", "k"), 0.05),
    Case("linear_drift_memtorch_paper", ("r_on", "r_off", "k"), amplitudes=(0.5, 0.35)),
    Case("stanford_default", ("i0", "g0", "v0", "vel0"), 0.1),
]
SLOW = [
    Case("strukov_2008_team", ("r_off", "k")),
    Case("team", ("r_on", "i_on", "i_off", "k_on", "k_off"), 0.15),
    Case("team", ("r_on", "r_off", "i_on", "i_off", "k_on", "k_off"), 0.15, {"i_off": 4e-5}),
    Case("yakopcic_oblea", ("v_p", "v_n", "a_p", "a_n", "x_p", "x_n", "alpha_n", "a1", "a2"), 0.15),
    Case("yakopcic_two_branch_example", ("v_p", "v_n", "a_p", "a_n", "x_n", "gmax_p", "gmax_n", "bmax_p", "bmax_n")),
    Case("pku_default", ("v_t", "j0", "f"), 0.1),
    Case("data_driven_tiox_dut2", ("a_p", "a_n", "b_p", "b_n", "areset")),
    Case("data_driven_2021", ("a_p", "a_n", "b_p", "b_n", "areset", "aset")),
    Case("mms_pdwo3w", ("r_on", "r_off", "v_on", "v_off", "k", "af", "bf", "ar", "br"), 0.15),
    Case("jart_vcm_v1b", ("nu", "r_tiox", "phi_n")),
    Case("simmons_pickett", ("j0", "i_off", "i_on"), 0.1, series=215.0),
]


def measure(case: Case) -> list[Trace]:
    """What an instrument with 1 % noise sees of the sub-circuit."""
    model, amplitude, frequency, x0 = case.make()
    rng = np.random.default_rng(3)
    out = []
    for factor in case.amplitudes:
        drive = sine(factor * amplitude, frequency, periods=1.25, points=960)
        run = netlists.simulate(model, drive, x0=x0, series_resistance=case.series)
        t, v = drive.t[::6], drive.v[::6]
        i = np.interp(t, run.t, run.i)
        out.append(Trace(t, v, i * (1 + NOISE * rng.normal(size=i.size))))
    return out


def check(case: Case) -> None:
    model, _, _, _ = case.make()
    rng = np.random.default_rng(5)
    varied = [entry for entry in model.parameters() if entry.name in case.vary]
    assert len(varied) == len(case.vary)
    template = model
    for entry in varied:  # the fit must not be handed the answer as its template
        moved = float(getattr(model, entry.name)) * float(np.exp(0.2 * rng.normal()))
        template = template.bind(**{entry.name: float(np.clip(moved, entry.low, entry.high))})
    traces = measure(case)
    floor = 1e-4 * max(float(np.abs(trace.i).max()) for trace in traces)
    result = fit(
        template, traces, vary=case.vary, noise=(NOISE, floor), screen=512, starts=3, series_resistance=case.series
    )
    print(result.report())
    assert result.statistics["redchi"] < 1.5, result.report()
    x0 = case.make()[3]
    truth = result.problem.space.encode(model, [x0] * len(traces), case.series)
    rise = result.problem.chisqr(truth) - result.problem.chisqr(result.theta)
    assert rise < chi2.ppf(LIKELY, truth.size), "the device that ngspice ran is outside the joint region"
    for e in result.estimates:
        if e.name in case.vary and "not symmetric" not in e.note:  # twice the 95 % interval: four standard deviations
            true = float(getattr(model, e.name))
            assert e.value - 2 * (e.value - e.low) <= true <= e.value + 2 * (e.high - e.value), e
    for name in case.vary:
        assert float(getattr(result.model, name)) == pytest.approx(getattr(model, name), rel=case.rel), name


@pytest.mark.parametrize("case", QUICK, ids=lambda case: case.device)
def test_a_fit_recovers_what_ngspice_ran(case: Case) -> None:
    check(case)


@pytest.mark.slow
@pytest.mark.parametrize("case", SLOW, ids=lambda case: f"{case.device}-{len(case.vary)}")
def test_a_fit_recovers_what_ngspice_ran_of_the_rest(case: Case) -> None:
    check(case)


def test_every_model_of_the_family_makes_the_round_trip() -> None:
    covered = {"team" if c.device == "team" else str(parameter_set_info(c.device)["model"]) for c in QUICK + SLOW}
    assert covered >= set(MODELS) - {"pku_growing"}  # at a width that is held it is pku
