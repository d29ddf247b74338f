"""What current and rate obey, whatever the model and the window."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch
from contract_cases import EVERY, FIRST, SETS, STATES, Case, names

from devicelab import MODELS, Model, parameter_set
from devicelab.models import TwoStateModel
from devicelab.parameter_sets import parameter_set_info
from devicelab.parameters import Role

ROUNDING = 1e-12  # two libraries, each a few ulp per elementary function
every_case = pytest.mark.parametrize("case", EVERY, ids=names(EVERY))
every_set = pytest.mark.parametrize("case", SETS, ids=names(SETS))


def grid(case: Case, factor: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    return case.voltages(factor)[:, None], STATES[None, :]


def test_every_model_has_a_parameter_set_to_be_tried_on() -> None:
    assert [name for name, case in FIRST.items() if case is None] == []


@every_set
def test_a_parameter_set_names_its_source_and_what_it_was_fitted_to(case: Case) -> None:
    info = parameter_set_info(case.name.removesuffix("-own"))
    assert len(info["title"]) > 5
    assert len(info["source"]) > 10
    assert len(info["fitted_to"]) > 10


@every_set
def test_no_current_at_zero_volts(case: Case) -> None:
    assert (np.asarray(case.model.current(0.0, STATES)) == 0.0).all()


@every_set
def test_the_device_is_passive(case: Case) -> None:
    v, x = grid(case, 3.0)
    power = v * case.model.current(v, x)
    assert (power >= 0).all(), f"least power {power.min()} W"


@every_set
def test_current_rises_with_voltage(case: Case) -> None:
    v, x = grid(case)
    i = np.broadcast_to(case.model.current(v, x), (v.size, x.size))
    conducting = np.abs(i).max(axis=0) > 0  # the 2011 Yakopcic model carries nothing at all at x = 0
    assert conducting[1:].all()
    assert (np.diff(i, axis=0)[:, conducting] > 0).all()


@every_set
def test_x_1_is_the_low_resistance(case: Case) -> None:
    v, x = grid(case, 0.5)
    i = np.abs(np.broadcast_to(case.model.current(v, x), (v.size, x.size)))
    assert (np.diff(i[np.abs(v[:, 0]) > 1e-9], axis=1) > 0).all()


@every_case
def test_set_sign_says_which_voltage_sets(case: Case) -> None:
    sign = case.model.polarity * case.model.set_sign
    assert float(case.model.rate(sign * case.amplitude, 0.5)) > 0
    assert float(case.model.rate(-sign * case.amplitude, 0.5)) < 0


@every_case
def test_polarity_swaps_the_terminals(case: Case) -> None:
    v, x = grid(case)
    swapped = case.model.replace(polarity=-case.model.polarity)
    np.testing.assert_array_equal(swapped.current(v, x), -np.asarray(case.model.current(-v, x)))
    np.testing.assert_array_equal(swapped.rate(v, x), case.model.rate(-v, x))


@every_case
def test_numpy_and_torch_agree(case: Case) -> None:
    rng = np.random.default_rng(1)
    v = rng.uniform(-case.amplitude, case.amplitude, 200)
    x = rng.uniform(0, 1, 200)
    for law in (case.model.current, case.model.rate):
        mine, theirs = np.asarray(law(v, x)), law(torch.as_tensor(v), torch.as_tensor(x)).numpy()
        assert np.abs(mine - theirs).max() <= ROUNDING * np.abs(mine).max()


@every_case
def test_a_batch_of_parameters_is_a_loop_over_devices(case: Case) -> None:
    v, factors = np.linspace(-1, 1, 7) * case.amplitude, np.array([0.9, 1.0, 1.1])
    spread = {name: value * factors[:, None] for name, value in case.model.values().items()}
    together = case.model.bind(**spread)
    for k, factor in enumerate(factors):
        one = case.model.bind(**{name: value * factor for name, value in case.model.values().items()})
        for law in ("current", "rate"):
            batch, single = getattr(together, law)(v, 0.3), getattr(one, law)(v, 0.3)
            np.testing.assert_allclose(np.broadcast_to(batch, (3, 7))[k], single, rtol=ROUNDING)


@every_case
def test_each_parameter_moved_one_percent_changes_some_output(case: Case) -> None:
    """Arguments that are accepted and dropped show up here."""
    if case.model.name == "mms":  # its first set has no diode
        case = replace(case, model=case.model.replace(phi=0.55))
    v, x = case.voltages(1.5, 61)[:, None], np.linspace(0.01, 0.99, 23)

    def outputs(model: Model) -> np.ndarray:
        ones = np.ones((v.size, x.size))
        second = [model.second_rate(v, 1.0, x) * ones] if isinstance(model, TwoStateModel) else []
        return np.stack([model.current(v, x) * ones, model.rate(v, x) * ones, *second])

    reference = outputs(case.model)
    window = case.model.window
    moved = {name: case.model.replace(**{name: moved_by_a_percent(v)}) for name, v in case.model.values().items()}
    for name, value in window.values().items():
        moved[f"window.{name}"] = case.model.replace(window=window.replace(**{name: moved_by_a_percent(value)}))
    dead = [name for name, model in moved.items() if np.array_equal(outputs(model), reference)]
    assert dead == []


def moved_by_a_percent(value: float) -> float:
    return value * 1.01 if value != 0 else 0.01


ODD = {
    "linear_ion_drift",
    "team",
    "vteam",
    "stanford",
    "pku",
    "mms",
    "simmons",
}
"""Models whose current has no preferred sign; in the others a parameter or a branch belongs to each sign."""

WITH_DIODE = {"mms_pdwo3w-own"}


@pytest.mark.parametrize(
    "case", [c for c in SETS if c.model.name in ODD and c.name not in WITH_DIODE], ids=lambda case: case.name
)
def test_current_is_odd_in_the_voltage_where_the_model_says_so(case: Case) -> None:
    v, x = grid(case)
    here, there = np.asarray(case.model.current(v, x)), np.asarray(case.model.current(-v, x))
    np.testing.assert_allclose(there, -here, rtol=ROUNDING)


@every_set
def test_slope_of_the_current_is_its_derivative(case: Case) -> None:
    """Newton's method on arrays and in ngspice rests on it."""
    v = torch.linspace(-0.97, 1.0, 23, dtype=torch.float64) * case.amplitude
    v.requires_grad_(True)
    x = torch.full_like(v, 0.37)
    (slope,) = torch.autograd.grad(case.model.current(v, x).sum(), v)
    step = 1e-6 * case.amplitude
    numeric = (case.model.current(v + step, x) - case.model.current(v - step, x)) / (2 * step)
    worst = float(((slope - numeric).abs() / slope.abs().max()).max().detach())
    assert worst < 1e-7  # central differences with a relative step of 1e-6


@pytest.mark.parametrize("name", list(MODELS))
def test_declared_parameters_have_unit_meaning_bounds_and_role(name: str) -> None:
    for entry in MODELS[name].parameters():
        assert entry.unit
        assert entry.meaning
        assert entry.low < entry.high
        assert entry.role in get_args(Role)
    assert "x = 1" in (MODELS[name].__doc__ or ""), "say which end is the low resistance"
    source = re.search(r"Source:.*(19|20)\d\d|doi:|arXiv:", MODELS[name].__doc__ or "", re.DOTALL)
    assert source, "say where the equations come from"


def test_a_set_is_found_by_its_name_only() -> None:
    with pytest.raises(Exception, match="vteam_memtorch"):
        parameter_set("vteam_memtorc")
