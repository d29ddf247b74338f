"""The sub-circuit of a model, in every analysis, against the model itself."""

from __future__ import annotations

import numpy as np
import pytest

import netlists
from devicelab import VTEAM, Biolek, Joglekar, Model, NoWindow, parameter_set, triangle
from devicelab.errors import ParameterError
from netlists.subckt import WIDTH, wrap

spice = [
    pytest.mark.spice,
    pytest.mark.skipif(not netlists.available(), reason="ngspice is not installed"),
]

DIGITS = 1e-9
"""ngspice reprints the numbers of a B-source with 11 digits."""

STATE = 3e-5
"""What trap at reltol 1e-8 leaves in the state (see the conformance table)."""

DRIFT = parameter_set("strukov_2008_team")
THRESHOLD = VTEAM(
    r_on=1e4, r_off=2e5, v_on=-0.9, v_off=0.8, k_on=50.0, k_off=20.0, b_on=0.5, b_off=2.5, window=Biolek(p=2.0)
)


def operating_point(model: Model, v: float, instance: str) -> float:
    text = f"* op\n{netlists.subckt(model, 'dut')}V1 a 0 {v!r}\nX1 a 0 x dut {instance}\n.op\n.end\n"
    return float(-netlists.run(text)["i(v1)"][0])


def test_parameters_are_symbols_with_the_models_values_as_defaults() -> None:
    text = netlists.subckt(THRESHOLD)
    assert text.startswith(
        "* vteam, window Biolek; x = 1 is the low resistance\n.subckt vteam plus minus x params: x0=0.0"
    )
    for name, value in THRESHOLD.values().items():
        assert f"{name}={value!r}" in text.replace("\n+", "")
        assert f"{{{name}}}" in text
    assert "window_p=2.0" in text.replace("\n+", "")
    assert "{window_p}" in text


def test_lines_are_short_and_wrapping_loses_nothing() -> None:
    text = netlists.subckt(THRESHOLD)
    assert max(map(len, text.splitlines())) <= WIDTH
    words = [f"word{k}" for k in range(100)]
    assert wrap(" ".join(words)).replace("\n+ ", " ").split(" ") == words


@pytest.mark.parametrize("name", ["1st", "a b", "", "x;y"])
def test_a_bad_name_is_refused(name: str) -> None:
    with pytest.raises(ParameterError, match="not a name for a sub-circuit"):
        netlists.subckt(DRIFT, name or "*")


def test_a_batch_is_refused_with_a_way_out() -> None:
    batch = DRIFT.replace(r_on=np.array([100.0, 110.0]))
    with pytest.raises(ParameterError, match=r"(?s)r_on with 2 values.*instance_parameters"):
        netlists.subckt(batch)


def test_a_rate_written_in_the_current_senses_it_instead_of_repeating_it() -> None:
    text = netlists.subckt(parameter_set("team_fit_to_simmons")).replace("\n+", "")
    assert "Vi plus inside 0\nBi inside minus I=" in text
    rate = next(line for line in text.splitlines() if line.startswith("Br"))
    assert "I(Vi)" in rate
    assert "V(plus,minus)" not in rate
    assert "Vi " not in netlists.subckt(THRESHOLD)


class TestNgspice:
    pytestmark = spice

    @pytest.mark.parametrize("polarity", [1, -1])
    @pytest.mark.parametrize("v", [-1.3, -0.2, 0.0, 0.2, 1.3])
    @pytest.mark.parametrize("x", [0.0, 0.3, 1.0])
    def test_operating_point_is_the_current_at_the_initial_state(self, v: float, x: float, polarity: int) -> None:
        model = THRESHOLD.replace(polarity=polarity)
        expected = float(model.current(v, x))
        assert operating_point(model, v, f"x0={x}") == pytest.approx(expected, rel=DIGITS, abs=1e-20)

    def test_one_sub_circuit_serves_other_parameters(self) -> None:
        other = THRESHOLD.replace(r_on=777.0, r_off=9e4, b_off=1.25, window=Biolek(p=5.0))
        found = operating_point(THRESHOLD, 0.4, f"x0=0.6 {netlists.instance_parameters(other)}")
        assert found == pytest.approx(float(other.current(0.4, 0.6)), rel=DIGITS)

    @pytest.mark.parametrize("uic", ["", " uic"])
    def test_transient_starts_at_the_initial_state_with_and_without_uic(self, uic: str) -> None:
        text = f"* t\n{netlists.subckt(DRIFT)}V1 a 0 SIN(0 1 1)\nX1 a 0 x linear_ion_drift x0=0.42\n"
        result = netlists.run(f"{text}.tran 1m 10m{uic}\n.end\n")
        after = result["time"] > 0  # with uic the first point is before any node was solved
        assert result["v(x)"][after][0] == pytest.approx(0.42, abs=1e-6)

    def test_state_holds_while_nothing_drives_it(self) -> None:
        text = f"* t\n{netlists.subckt(THRESHOLD)}V1 a 0 0.5\nX1 a 0 x vteam x0=0.42\n.tran 1 1000\n.end\n"
        assert np.ptp(netlists.run(text)["v(x)"]) == 0.0  # 0.5 V is below both thresholds, for 1000 s

    @pytest.mark.parametrize("sign", [1, -1])
    def test_hard_bound_holds_and_lets_go(self, sign: int) -> None:
        model = THRESHOLD.replace(window=NoWindow())
        drive = triangle(3.0 * sign, 1.0, cycles=2)  # a hundred times what it takes to go across
        trace = netlists.simulate(model, drive, x0=0.5)
        assert 0.0 <= trace.x.min() < 1e-4
        assert 1.0 - 1e-4 < trace.x.max() <= 1.0
        assert (trace.x > 0.999).any()
        assert (trace.x < 0.001).any()
        last = trace.t > 0.5
        assert np.ptp(trace.x[last]) > 0.999  # it left the bound and came back

    def test_many_instances_in_one_netlist_keep_their_own_state(self) -> None:
        starts = np.linspace(0.05, 0.95, 10)
        devices = "".join(
            f"V{k} a{k} 0 SIN(0 1 1)\nX{k} a{k} 0 x{k} linear_ion_drift x0={x}\n" for k, x in enumerate(starts)
        )
        together = netlists.run(
            f"* t\n{netlists.subckt(DRIFT.replace(window=Joglekar()))}{devices}"
            ".options reltol=1e-8 vntol=1e-9\n.tran 1m 1 0 1m\n.end\n"
        )
        for k in (0, 4, 9):
            alone = netlists.run(
                f"* t\n{netlists.subckt(DRIFT.replace(window=Joglekar()))}V1 a 0 SIN(0 1 1)\n"
                f"X1 a 0 x linear_ion_drift x0={starts[k]}\n.options reltol=1e-8 vntol=1e-9\n.tran 1m 1 0 1m\n.end\n"
            )
            peak = np.interp(0.5, together["time"], together[f"v(x{k})"])
            assert peak == pytest.approx(np.interp(0.5, alone["time"], alone["v(x)"]), abs=STATE)
