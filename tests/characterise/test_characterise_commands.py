"""The commands as a user meets them."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from characterise_cases import R_ON, abrupt

from devicelab import Trace
from devicelab.characterise.number import engineering
from devicelab.cli import main
from devicelab.report import Report
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


@pytest.mark.parametrize(
    ("value", "text"),
    [(-0.99999, "-1 V"), (0.99994, "999.9 mV"), (999.96, "1 kV"), (9.9996e-7, "1 µV"), (3.02e-4, "302 µV")],
)
def test_the_prefix_is_that_of_the_rounded_value(value: float, text: str) -> None:
    assert engineering(value, "V") == text


def test_cycles_under_different_conditions_are_named_before_the_table(tmp_path: Path) -> None:
    for k in range(6):
        loop = abrupt(v_set=0.7 + 0.01 * k, noise=1e-7, seed=k)
        write_csv(tmp_path / f"{k}.csv", Trace(loop.t, (1 + k % 2) * loop.v, loop.i))
    code, out, _ = run("characterize", tmp_path)
    assert code == 0
    assert "different conditions are pooled (largest voltage 1.2 to 2.4 V; smallest voltage -2.4 to -1.2 V)" in out
    code, out, _ = run("characterize", *(tmp_path / f"{k}.csv" for k in (0, 2, 4)))
    assert "pooled" not in out


def test_forming_is_left_out_of_whole_curves_and_conduction(folder: Path, tmp_path: Path) -> None:
    """The forming sweep sets at twice the voltage out of a hundred times the resistance."""
    write_csv(tmp_path / "00 forming.csv", abrupt(v_set=1.15, noise=1e-7))
    for part in folder.iterdir():
        (tmp_path / part.name).write_bytes(part.read_bytes())
    found, clean = (json.loads(run("characterize", path, "--json")[1]) for path in (tmp_path, folder))
    assert sum(cycle["forming"] for cycle in found["cycles"]) == 1
    for name, number in clean["whole_curves"].items():
        assert found["whole_curves"][name]["value"] == pytest.approx(number["value"], rel=1e-9)
    assert [[law["rms"] for law in laws] for laws in found["conduction"].values()] == [
        [law["rms"] for law in laws] for laws in clean["conduction"].values()
    ]


def test_an_interrupted_report_leaves_no_half_written_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure keeps the old figure whole and leaves nothing beside it."""
    import matplotlib.pyplot as plt

    (tmp_path / "loops.png").write_bytes(b"old")

    def cut(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[:10])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", cut)
    with pytest.raises(KeyboardInterrupt):
        Report("page", tmp_path).figure(plt.figure(), "loops")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("loops.png", b"old")]


def test_several_measurements_are_drawn_side_by_side(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    time = np.geomspace(1, 1e4, 40)
    for k in range(3):
        rows = zip(time, 1e4 * time**0.02 * np.exp(0.01 * rng.standard_normal(40)), strict=True)
        text = "\n".join(f"{t:.6g},{r:.6g}" for t, r in rows)
        (tmp_path / f"r{k}.csv").write_text(f"Time (s),Resistance (ohm)\n{text}\n")
    sizes = []
    for extra in ((), ("--trace", 1)):
        code, _, err = run("plot", "retention", tmp_path, "--out", tmp_path / "r.svg", "--force", *extra)
        assert code == 0, err
        sizes.append((tmp_path / "r.svg").read_text().count("<!-- time [s] -->"))
    assert sizes == [3, 1]
    code, _, err = run("plot", "retention", tmp_path, "--out", tmp_path / "r.svg", "--force", "--trace", 3)
    assert code == 1
    assert "no such measurement" in err


LAY_DOWN = """
import ctypes, os
import devicelab.characterise.survey, devicelab.commands.characterize
if os.getuid() == 0:
    header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert ctypes.CDLL(None).capset(header, data) == 0
"""
"""All capabilities laid down (capset, version 3): root without CAP_DAC_OVERRIDE is a user as any other."""
READ = """
import sys
from devicelab.cli import main
main(sys.argv[1:])
"""


@pytest.mark.skipif(sys.platform != "linux" and os.getuid() == 0, reason="root lays its rights down on Linux only")
def test_a_folder_that_may_not_be_opened_is_reported_and_the_others_are_characterised(
    folder: Path, tmp_path: Path
) -> None:
    """As a user without rights: root may open everything, so a child process lays its rights down."""
    lab = tmp_path / "lab"
    (lab / "closed").mkdir(parents=True)
    (lab / "good.csv").write_bytes((folder / "loop0.csv").read_bytes())
    (lab / "closed" / "hidden.csv").write_bytes((folder / "loop1.csv").read_bytes())
    (lab / "closed.csv").write_bytes((folder / "loop2.csv").read_bytes())
    (lab / "closed").chmod(0)
    (lab / "closed.csv").chmod(0)
    try:
        found = subprocess.run([sys.executable, "-c", LAY_DOWN + READ, "characterize", str(lab), "--json"],
                               capture_output=True, text=True, check=False, cwd="/")  # fmt: skip
    finally:
        (lab / "closed").chmod(0o755)
    assert found.returncode == 0, found.stderr
    assert "left out: closed: folder" in found.stderr
    assert "cannot be opened" in found.stderr
    assert "left out: closed.csv: cannot read" in found.stderr
    assert [cycle["file"] for cycle in json.loads(found.stdout)["cycles"]] == ["good.csv"]
