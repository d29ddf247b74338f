"""The guide to ngspice shows what is emitted, and its example runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import netlists
from devicelab import parameter_set

GUIDE = Path(__file__).parents[2] / "docs" / "ngspice.md"


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    return found[1]


def test_the_sub_circuit_shown_is_the_one_emitted() -> None:
    text = netlists.subckt(parameter_set("strukov_2008_team"))
    assert block("spice") == text


@pytest.mark.spice
@pytest.mark.skipif(not netlists.available(), reason="ngspice is not installed")
def test_the_example_runs() -> None:
    names: dict[str, object] = {}
    exec(compile(block("python"), str(GUIDE), "exec"), names)
    assert abs(names["trace"].i).max() == pytest.approx(5e-3, rel=1e-4)  # type: ignore[attr-defined]  # the compliance
