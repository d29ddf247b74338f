"""The journeys of the three users on the command line; runs on an installed wheel as well as in the checkout."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import netlists
from devicelab import VTEAM, Biolek, Lut, Trace, parameter_set, simulate, triangle
from devicelab.cli import COMMANDS, main
from devicelab.tracefile import write_csv

spice = pytest.mark.skipif(not netlists.available(), reason="ngspice is not installed")
TRUE = VTEAM(
    r_on=1e4, r_off=2e5, v_on=-0.6, v_off=0.5, k_on=20.0, k_off=8.0, a_on=3.0, a_off=2.0, b_on=0.5, b_off=2.5,
    window=Biolek(p=1), resistance="exponential",
)  # fmt: skip


@dataclass
class Done:
    returncode: int
    stdout: str
    stderr: str


def run(*args: object, ok: bool = True) -> Done:
    """The entry point in this process; an exception that gets out of it fails the test."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main([str(arg) for arg in args])
        except SystemExit as stop:
            code = int(stop.code or 0)
    if ok:
        assert code == 0, err.getvalue()
    return Done(code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def measurement(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    clean = simulate(TRUE, triangle(-1.2, 1.0, negative=1.2, points=400), x0=0.05)
    noisy = clean.i * (1 + 0.02 * rng.standard_normal(clean.i.size)) + 2e-8 * rng.standard_normal(clean.i.size)
    path = tmp_path_factory.mktemp("lab") / "loop.csv"
    write_csv(path, Trace(clean.t, clean.v, noisy))
    return path


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lut") / "device.h5"
    run("lut", "make", "--set", "vteam_pt_hf_ti", "--v-max", "0.4", "--out", path)
    return path


@pytest.mark.parametrize("command", list(COMMANDS))
def test_every_command_explains_itself_with_an_example(command: str) -> None:
    text = run(command, "--help").stdout
    assert f"Example: devicelab {command}" in " ".join(text.split())


def test_the_installed_program_answers() -> None:
    done = subprocess.run([sys.executable, "-m", "devicelab.cli", "--version"], capture_output=True, text=True)
    assert done.stdout.startswith("devicelab, version")


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['devicelab', '--help']\n"
        "from devicelab.cli import cli\n"
        "try: cli.main(standalone_mode=False)\n"
        "finally: sys.exit(bool({'torch', 'PySpice', 'matplotlib', 'numba', 'scipy', 'h5py'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_packages_depend_one_way() -> None:
    others = {"netlists", "fits", "crossbar"}
    for name in ("devicelab", *sorted(others)):
        code = f"import sys, {name}; print(*({others!r} & set(sys.modules)))"
        found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert set(found.stdout.split()) <= {name} - {"devicelab"}, name


def test_doctor_finds_this_installation_healthy() -> None:
    findings = json.loads(run("doctor", "--json").stdout)
    assert {entry["what"] for entry in findings} >= {"devicelab", "torch", "ngspice", "CUDA", "crossbar"}
    assert not [entry for entry in findings if entry["state"] == "bad"]


def test_simulate_writes_what_it_simulated(tmp_path: Path) -> None:
    out = tmp_path / "trace.csv"
    done = run("simulate", "--set", "vteam_pt_hf_ti", "--drive", "sine", "--out", out, "--json")
    assert json.loads(done.stdout)["largest current [A]"] <= 1.0 / 100.0 + 1e-12  # 1 V over r_on = 100 ohm
    again = run("simulate", "--set", "vteam_pt_hf_ti", "--drive", "sine", "--out", out, ok=False)
    assert again.returncode == 1
    assert "exists already" in again.stderr


@spice
def test_spice_agrees_with_python(tmp_path: Path) -> None:
    done = run("spice", "--set", "vteam_memtorch", "--window", "biolek:p=2", "--drive", "sine", "--period", "20e-9",
               "--out", tmp_path / "device.subckt", "--json")  # fmt: skip
    assert json.loads(done.stdout)["largest difference in state"] < 1e-4  # the target for smooth windows
    assert ".subckt" in (tmp_path / "device.subckt").read_text()


@spice
def test_spice_agrees_on_an_array() -> None:
    done = run("spice", "--set", "vteam_pt_hf_ti", "--crossbar", 6, "--line-resistance", "5", "--json")
    assert json.loads(done.stdout)["largest difference in output current, relative"] < 1e-6  # ngspice's own tolerance


def test_fit_recovers_the_device_and_writes_it_down(measurement: Path, tmp_path: Path) -> None:
    out = tmp_path / "fit"
    arguments = ["--window", "biolek:p=1", "--resistance", "exponential", "--out", out]
    report = run("fit", measurement, *arguments).stdout
    assert "95 % interval" in report
    fitted = parameter_set(str(out / "device.toml"))
    assert fitted.r_on == pytest.approx(TRUE.r_on, rel=0.05)
    assert fitted.r_off == pytest.approx(TRUE.r_off, rel=0.2)
    assert {path.name for path in out.iterdir()} == {"fit.json", "device.toml", "device.subckt", "fit_1.png"}
    assert json.loads((out / "fit.json").read_text())["metrics"]["nrmse"] < 0.03  # 2 % noise was put in


def test_plot_makes_a_picture(measurement: Path, tmp_path: Path) -> None:
    run("plot", measurement, "--out", tmp_path / "loop.png")
    assert (tmp_path / "loop.png").read_bytes().startswith(b"\x89PNG")


def test_table_is_verified_when_it_is_described(table: Path, tmp_path: Path) -> None:
    described = json.loads(run("lut", "info", table, "--json").stdout)
    assert described["conductance at 0.2 V [S]"] == pytest.approx([1 / 2500, 1 / 100])  # r_off and r_on of the set
    damaged = bytearray(table.read_bytes())
    place = bytes(damaged).find(Lut.load(table).table[1].tobytes())
    damaged[place + 50] ^= 1
    (tmp_path / "damaged.h5").write_bytes(damaged)
    done = run("lut", "info", tmp_path / "damaged.h5", ok=False)
    assert done.returncode == 1
    assert "SHA-256" in done.stderr


def test_infer_says_what_arrays_cost(table: Path) -> None:
    pytest.importorskip("sklearn", reason="scikit-learn, which ships the digits, is not installed")
    done = run("infer", "--lut", table, "--hidden", "16", "--rows", "32", "--columns", "32", "--json")
    rows = {row["arrays"]: row for row in json.loads(done.stdout)}
    assert rows["ohmic cells"]["error"] < 1e-4  # float32
    assert rows["ohmic, 1 ohm lines"]["error"] > 10 * rows["ohmic cells"]["error"]
    # the cells of this set are ohmic, so their table is too
    assert rows["non-linear, 1 ohm lines"]["error"] == pytest.approx(rows["ohmic, 1 ohm lines"]["error"], rel=0.02)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ("", "empty"),
        ("time (s),voltage (V)\n0,0\n1,1\n2,0\n", "current"),
        ("t (s),v (V),i (A)\n0,0,0\n1,nan,1\n2,0,0\n", "finite"),
    ],
    ids=["empty", "without current", "NaN"],
)
def test_unusable_files_are_explained(content: str, word: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(content)
    done = run("fit", path, "--out", tmp_path / "out", ok=False)
    assert done.returncode == 1
    assert word in done.stderr.lower()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("args", "code", "word"),
    [
        (["simulate", "--set", "vteam_ptt"], 1, "vteam_pt_hf_ti"),
        (["simulate", "-p", "r_on=-5"], 1, "out of bounds"),
        (["simulate", "--window", "joglecar"], 1, "joglekar"),
        (["fit", "nowhere.csv"], 1, "nowhere.csv"),
        (["lut", "info", "nowhere.h5"], 1, "nowhere.h5"),
        (["infer", "--lut", "nowhere.h5"], 1, "nowhere.h5"),
        (["simulat"], 2, "simulate"),
        (["fit"], 2, "missing argument"),
    ],
)
def test_wrong_arguments_are_explained(args: list[str], code: int, word: str) -> None:
    done = run(*args, ok=False)
    assert done.returncode == code
    assert word in done.stderr.lower()
