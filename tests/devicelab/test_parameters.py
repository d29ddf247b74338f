"""Parameters are declared once and validated where they enter."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from devicelab import VTEAM, WINDOWS, Biolek, Joglekar, LinearIonDrift, parameter_set, parameter_sets, window
from devicelab.errors import FileFormatError, ParameterError
from devicelab.models import model_class
from devicelab.windows import window_name


def vteam(**changes: object) -> VTEAM:
    return parameter_set("vteam_memtorch").replace(**changes)


def test_a_message_says_what_got_allowed_and_unit() -> None:
    with pytest.raises(ParameterError) as caught:
        vteam(r_on=-3.0)
    text = str(caught.value)
    for part in ("r_on", "resistance at x = 1", "-3 ohm", "0.001 to 1e+15 ohm", "SI units"):
        assert part in text


def test_what_is_not_a_number_is_refused() -> None:
    with pytest.raises(ParameterError, match=r"(?s)r_on .* is not a number.*'a'"):
        LinearIonDrift(r_on="a", r_off=1e4, k=1.0)


@pytest.mark.parametrize("value", ["10", None, True, 1j, [1.0, [2.0]], {}], ids=repr)
def test_nothing_but_numbers_is_a_number(value: object) -> None:
    with pytest.raises(ParameterError, match=r"r_on .* is not a number"):
        vteam(r_on=value)
    with pytest.raises(ParameterError, match=r"Joglekar: p .* is not a number"):
        Joglekar(p=value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: vteam(r_onn=3.0), "unknown parameter of VTEAM\n.*'r_onn'\n.*r_on.*\n.*did you mean r_on"),
        (lambda: Joglekar(q=2), "unknown parameter of Joglekar\n.*'q'\n  allowed: p"),
        (lambda: window("joglekar", q=2), "unknown parameter of Joglekar"),
        (
            lambda: VTEAM(r_on=1.0, v_on=-1.0),
            "misses parameters\n.*r_on, v_on\n.*\n.*add r_off, v_off, k_on, k_off;",
        ),
        (lambda: VTEAM(100.0), "VTEAM takes parameters by name\n.*100.0 without a name\n.*write r_on="),
        (lambda: vteam(polarity=np.array([1, -1])), "polarity is a sign"),
        (lambda: parameter_set(3), "found by its name\n.*3"),
    ],
)
def test_what_is_no_parameter_and_what_is_missing_is_named(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        make()


def test_errors_survive_pickling_between_processes() -> None:
    with pytest.raises(ParameterError) as caught:
        vteam(r_on=-3.0)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.mark.parametrize("value", [np.array([50.0, -1.0]), torch.tensor([50.0, -1.0])])
def test_every_member_of_a_batch_is_checked(value: object) -> None:
    with pytest.raises(ParameterError, match=r"r_on .* is out of bounds"):
        vteam(r_on=value)


def test_names_of_models_windows_and_sets_are_corrected() -> None:
    with pytest.raises(ParameterError, match=r"(?s)unknown window.*did you mean joglekar"):
        window("jogelkar")
    with pytest.raises(ParameterError, match=r"(?s)unknown model.*vteam"):
        model_class("vtem")
    with pytest.raises(ParameterError, match=r"(?s)unknown parameter set.*vteam_pt_hf_ti"):
        parameter_set("vteam_pt_hf")


def test_windows_by_name_are_windows() -> None:
    assert window("joglekar", p=2) == Joglekar(p=2)
    assert [window_name(window(name)) for name in WINDOWS] == list(WINDOWS)
    with pytest.raises(ParameterError, match=r"p .* is out of bounds"):
        Biolek(p=0.0)


def test_every_set_that_ships_can_be_made() -> None:
    for name in parameter_sets():
        model = parameter_set(name)
        assert model.replace() == model


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model = 3 =", "not a TOML file"),
        ('title = "x"', "not a parameter set"),
        ("\xff\xfe", "not a"),
    ],
)
def test_a_file_that_is_no_parameter_set_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "set.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(FileFormatError, match=message):
        parameter_set(str(path))
    with pytest.raises(FileFormatError, match="cannot read"):
        parameter_set(str(tmp_path / "none.toml"))
