"""Figures draw what they were given, and `devicelab plot` refuses before it works and leaves nothing half written."""

from __future__ import annotations

import contextlib
import io
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from matplotlib.text import Annotation

from devicelab import Trace, plots
from devicelab.cli import main
from devicelab.errors import ParameterError, ShapeError


def loop(cycle: int | None = None, *, side: str = "both", peak: float = 1.0) -> Trace:
    """A loop that sets at positive and resets at negative voltage, or one side of it."""
    up, down = np.linspace(0, peak, 50), np.linspace(peak, 0, 50)[1:]
    v = np.concatenate([up, down, -up[1:], -down])
    i = v * np.concatenate([np.full(50, 1e-5), np.full(49, 1e-3), np.full(49, 1e-3), np.full(49, 1e-5)])
    part = {"both": slice(None), "set": slice(0, 99), "reset": slice(98, None)}[side]
    meta = {} if cycle is None else {"cycle": cycle}
    return Trace(np.arange(v.size)[part] * 1e-3, v[part], i[part], meta=meta)


@pytest.mark.parametrize(
    ("meta", "place"),
    [
        ({"row": 3, "column": 5}, (5, 3)),
        ({"x": -2, "y": 4}, (-2, 4)),
        ({"die_x": 1, "die_y": 2, "device": "R9C9"}, (1, 2)),
        ({"address": 515, "array_columns": 256}, (3, 2)),
        ({"device": "R3C5"}, (5, 3)),
        ({"device": "lot7_row12_col4"}, None),  # a word goes before: no name of its own
        ({"device": "row12_col4"}, (4, 12)),
        ({"site": "X-2Y4"}, (-2, 4)),
        ({"device": "WL3_BL17"}, (17, 3)),
        ({"device": "(2, 5)"}, (2, 5)),
        ({"device": "M12", "file": "R3C5.csv"}, None),
        ({"address": 515}, None),
    ],
)
def test_position_is_told_by_metadata_and_names(meta: dict[str, object], place: tuple[int, int] | None) -> None:
    assert plots.position(meta) == place


def test_device_without_a_position_is_named() -> None:
    with pytest.raises(ParameterError, match=r"device='M12'(?s:.*)R3C5"):
        plots.positions_of([{"row": 1, "column": 1}, {"device": "M12"}])


def test_map_shows_the_median_of_each_place_and_leaves_gaps_blank() -> None:
    ax = plots.wafer([(0, 0), (2, 0), (2, 0), (2, 0), (4, 3)], [1.0, 2.0, 3.0, 50.0, np.nan], label="r [ohm]")
    (mesh,) = ax.collections
    table = mesh.get_array()
    assert table is not None
    assert table.shape == (2, 3)  # rows 0 and 3; columns 0, 2, 4 in steps of two
    assert table.tolist() == [[1.0, 3.0, None], [None, None, None]]
    assert ax.yaxis_inverted()
    assert ax.figure.axes[1].get_ylabel() == "r [ohm]" or ax.figure.axes[1].get_xlabel() == "r [ohm]"


def test_map_without_numbers_is_refused() -> None:
    with pytest.raises(ShapeError, match="a number for each position"):
        plots.wafer([(0, 0), (1, 0)], [1.0])


@pytest.mark.parametrize("sides", [["both"], ["set", "set", "set", "reset", "reset"]])
def test_every_branch_of_the_loops_has_an_arrow_along_the_sweep(sides: list[str]) -> None:
    ax = plots.loops([loop(k, side=side) for k, side in enumerate(sides)])
    marks = [text for text in ax.texts if isinstance(text, Annotation)]
    arrows = [(mark.xy[0] - mark.xyann[0], mark.xy[0] + mark.xyann[0]) for mark in marks]
    assert len(arrows) == 4
    assert sorted((int(np.sign(dv)), int(np.sign(at))) for dv, at in arrows) == [(-1, -1), (-1, 1), (1, -1), (1, 1)]


def test_colour_is_the_cycle_that_the_files_state() -> None:
    ax = plots.loops([loop(k, side=side) for side in ("set", "reset") for k in (7, 8, 9)])
    assert ax.figure.axes[1].get_ylim() == (7, 9)
    colours = [line.get_color() for line in ax.lines[:6]]
    assert colours[:3] == colours[3:6]
    assert plots.loops([loop(), loop()]).figure.axes[1].get_ylim() == (1, 2)


def test_correlation_map_says_its_values() -> None:
    rng = np.random.default_rng(1)
    a = rng.normal(size=30)
    ax = plots.correlation({"a": a, "b": -a, "c": rng.normal(size=30)})
    said = {(int(text.get_position()[0]), int(text.get_position()[1])): text.get_text() for text in ax.texts}
    assert said[(0, 1)] == said[(1, 0)] == "\u22121.0"
    assert (0, 0) not in said


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    data = tmp_path / "data"
    data.mkdir()
    for row in range(2):
        for column in range(3):
            trace = loop()
            rows = "".join(f"{t},{v},{i * (1 + row)}\n" for t, v, i in zip(trace.t, trace.v, trace.i, strict=True))
            (data / f"R{row}C{column}.csv").write_text("t (s),V (V),I (A)\n" + rows)
    profile = "[detect]\npath = 'R(?P<row>\\d+)C(?P<column>\\d+)\\.csv$'\n"
    (data / "devicelab-profile.toml").write_text(profile)
    return data


def run(*words: object) -> tuple[int, str]:
    """Exit status and everything that was said."""
    said, code = io.StringIO(), 0
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            main(["plot", *map(str, words)])
        except SystemExit as stop:
            code = int(stop.code or 0)
    return code, said.getvalue()


def test_wafer_of_a_folder_of_devices(folder: Path, tmp_path: Path) -> None:
    for suffix in ("png", "pdf", "svg", "PNG"):
        code, said = run("wafer", folder, "--out", tmp_path / f"map.{suffix}", "--number", "r_on", "--style", "one")
        assert code == 0, said
    assert (tmp_path / "map.pdf").read_bytes().startswith(b"%PDF")
    assert (tmp_path / "map.PNG").read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in (tmp_path / "map.svg").read_bytes()


def test_one_bad_file_of_a_folder_is_said_and_not_fatal(folder: Path, tmp_path: Path) -> None:
    (folder / "R9C9.csv").write_text("no numbers here\n")
    code, said = run("loops", folder, "--out", tmp_path / "loops.png")
    assert (code, "left out: R9C9.csv" in said) == (0, True)


ABSURD = {
    "style": (["loops", "{data}", "--out", "{out}.png", "--style", "three"], "unknown style"),
    "kind": (["lops", "{data}", "--out", "{out}.png"], "did you mean loops"),
    "suffix": (["loops", "{data}", "--out", "{out}.docx"], r".png, .pdf, .svg"),
    "no suffix": (["loops", "{data}", "--out", "{out}"], r".png, .pdf, .svg"),
    "folder": (["loops", "{data}", "--out", "{out}/no/figure.png"], "folder does not exist"),
    "folder as file": (["loops", "{data}", "--out", "{data}.png"], "a folder stands where"),
    "trace": (["{one}", "--out", "{out}.png", "--trace", "99"], "no such trace"),
    "cycles": (["loops", "{data}", "--out", "{out}.png", "--cycles", "0"], "no such cycles"),
    "cycles, words": (["loops", "{data}", "--out", "{out}.png", "--cycles", "all"], "numbers and ranges: 1-10,20"),
    "number": (["wafer", "{data}", "--out", "{out}.png", "--number", "r_onn"], "did you mean r_on"),
    "two numbers": (["wafer", "{data}", "--out", "{out}.png", "--number", "r_on", "--number", "r_off"], "one number"),
    "no files": (["loops", "--out", "{out}.png"], "no files to plot"),
    "empty glob": (["loops", "{data}/*.xyz", "--out", "{out}.png"], "no files in"),
    "readings": (["pulses", "{one}", "--out", "{out}.png"], "no pulses in"),
}


@pytest.mark.parametrize("case", ABSURD)
def test_absurd_wish_is_refused_with_the_way_out(case: str, folder: Path, tmp_path: Path) -> None:
    words, said = ABSURD[case]
    (tmp_path / "data.png").mkdir()
    places = {"data": folder, "one": folder / "R0C0.csv", "out": tmp_path / "out"}
    before = sorted(tmp_path.iterdir())
    code, output = run(*(word.format(**places) for word in words))
    assert code == 1, output
    assert said in output
    assert "Traceback" not in output
    assert sorted(tmp_path.iterdir()) == before


def test_figure_that_exists_is_kept_unless_forced(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "loops.png"
    out.write_text("mine")
    code, said = run("loops", folder, "--out", out)
    assert (code, out.read_text()) == (1, "mine"), said
    assert "R0C0" not in said  # refused before anything was read
    assert run("loops", folder, "--out", out, "--force")[0] == 0
    assert out.read_bytes().startswith(b"\x89PNG")


def test_interrupt_leaves_the_old_figure_and_nothing_else(folder: Path, tmp_path: Path) -> None:
    """The program is interrupted while it draws; the picture is then half written at most in a temporary file."""
    out = tmp_path / "figure.png"
    out.write_text("old")
    before = sorted(tmp_path.iterdir())
    slow = (
        "import sys, time, matplotlib.figure as f\n"
        "def savefig(self, path, **k):\n"
        "    open(path, 'wb').write(b'half'); print('drawing', flush=True); time.sleep(60)\n"
        "f.Figure.savefig = savefig\n"
        "from devicelab.cli import main\n"
        f"sys.argv = ['devicelab', 'plot', 'loops', {str(folder)!r}, '--out', {str(out)!r}, '--force']\n"
        "sys.exit(main())\n"
    )
    with subprocess.Popen([sys.executable, "-c", slow], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == b"drawing"
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode != 0
    assert b"Traceback" not in errors
    assert out.read_text() == "old"
    assert sorted(tmp_path.iterdir()) == before
