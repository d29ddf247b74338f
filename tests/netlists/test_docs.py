"""The guide to ngspice shows what is emitted, and its example runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import netlists
from devicelab import WINDOWS, parameter_set
from netlists.conformance import KINDS, conformance_devices

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


def conformance_rows() -> list[dict[str, str]]:
    """The rows of the guide's table, by column."""
    head, _, *lines = [
        [cell.strip() for cell in line.strip().strip("|").split("|")]
        for line in GUIDE.read_text(encoding="utf-8").split("Each of them:")[1].strip().splitlines()
    ]
    return [dict(zip(head, line, strict=True)) for line in lines]


def test_the_conformance_table_has_every_model_window_and_drive() -> None:
    found = [(row["model"], row["window"], row["drive"]) for row in conformance_rows()]
    wanted = [(name, window, kind) for name in conformance_devices() for window in WINDOWS for kind in KINDS]
    assert found == wanted, "run devicelab spice --conformance"


def test_the_guide_says_which_rows_are_over_their_limits() -> None:
    rows = conformance_rows()
    over = [row for row in rows if not max(float(row["state"]), float(row["current"])) <= float(row["limit"])]
    assert [(row["model"], row["window"], row["drive"]) for row in over] == [
        ("pku", "none", "triangle"),
        ("pku_growing", "none", "triangle"),
    ]
    assert all("over the limit" in row[""] for row in over)
    text = GUIDE.read_text(encoding="utf-8")
    assert f"{len(rows) - len(over)} of {len(rows)} cases are within their limits" in text
    usual = [row for row in rows if row["reltol"] == ("1e-09" if row["window"] == "none" else "1e-08")]
    assert f"{len(usual)} of {len(rows)} cases needed nothing but the usual settings" in text
    assert [row["model"] for row in rows if "gear" in row[""]] == ["pku_growing"]
    assert not [row for row in usual if row[""]]
