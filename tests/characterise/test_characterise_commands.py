"""The commands as a user meets them."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import pytest
from characterise_cases import R_ON, abrupt

from devicelab.cli import main
from devicelab.tracefile import write_csv

KINDS = ("loops", "band", "cdf", "box", "endurance", "correlation", "mechanisms")


def run(*args: object) -> tuple[int, str, str]:
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main([str(arg) for arg in args])
        except SystemExit as stop:
            code = int(stop.code or 0)
    return code, out.getvalue(), err.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lab")
    for k in range(10):
        loop = abrupt(v_set=0.7 + 0.01 * ((7 * k) % 10), v_reset=-0.6 - 0.01 * ((3 * k) % 10), noise=1e-7, seed=k)
        write_csv(path / f"loop{k}.csv", loop)
    return path


def test_characterize_writes_table_csv_json_and_page(folder: Path, tmp_path: Path) -> None:
    code, out, err = run("characterize", folder, "--out", tmp_path / "report")
    assert code == 0, err
    assert out.startswith("10 cycles, 0 of them forming; positive voltage sets")
    assert "v_set.charge_flux" in out
    assert "does not prove a mechanism" in out
    assert len((tmp_path / "report" / "cycles.csv").read_text().splitlines()) == 11
    summary = json.loads((tmp_path / "report" / "summary.json").read_text())["summary"]
    assert summary["r_on"]["median"]["value"] == pytest.approx(R_ON, rel=0.01)
    assert summary["r_on"]["unit"] == "ohm"
    assert "<img" in (tmp_path / "report" / "index.html").read_text()
    code, _, err = run("characterize", folder, "--out", tmp_path / "report")
    assert code == 1
    assert "folder is not empty" in err


def test_json_gives_every_number_with_unit_method_and_interval(folder: Path) -> None:
    code, out, _ = run("characterize", folder / "loop0.csv", "--json")
    assert code == 0
    (cycle,) = json.loads(out)["cycles"]
    for number in cycle["numbers"].values():
        assert number["unit"]
        assert number["method"]
        assert number["interval"]


def test_a_bad_file_is_reported_and_the_others_are_characterised(folder: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_text("this is no table\n")
    code, out, err = run("characterize", folder, bad)
    assert code == 0
    assert "left out: bad.csv" in err
    assert out.startswith("10 cycles")


def test_one_unreadable_file_is_an_error_without_a_traceback(tmp_path: Path) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_text("this is no table\n")
    code, _, err = run("characterize", bad)
    assert code == 1
    assert err.startswith("error:")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_figure_is_drawn(kind: str, folder: Path, tmp_path: Path) -> None:
    code, _, err = run("plot", kind, folder, "--out", tmp_path / "figure.pdf", "--style", "one")
    assert code == 0, err
    assert (tmp_path / "figure.pdf").read_bytes().startswith(b"%PDF")


def test_plot_without_a_kind_still_draws_loops(folder: Path, tmp_path: Path) -> None:
    code, _, err = run("plot", folder / "loop0.csv", "--out", tmp_path / "loop.png")
    assert code == 0, err


def test_an_unknown_style_names_the_known_ones(folder: Path, tmp_path: Path) -> None:
    code, _, err = run("plot", "loops", folder, "--out", tmp_path / "x.pdf", "--style", "three")
    assert code == 1
    assert "unknown style" in err
