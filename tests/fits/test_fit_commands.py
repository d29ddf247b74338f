"""`devicelab fit` with its modes, on files as instruments write them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from devicelab import VTEAM, CurrentDrive, simulate, triangle
from devicelab.cli import cli
from devicelab.commands.fit_out import UNFINISHED, Out
from devicelab.errors import DevicelabError, FileFormatError

TRUTH = VTEAM(r_on=1e3, r_off=2e4, v_on=-0.5, v_off=0.5, k_on=60.0, k_off=40.0, a_on=2.0, a_off=2.0)
HOLD = [word for name, value in (("a_on", 2), ("a_off", 2), ("b_on", 0), ("b_off", 0)) for word in ("--fix", f"{name}={value}")]  # fmt: skip # noqa: E501


def write(path: Path, seed: int, r_on: float = 1e3, v_on: float = -0.5, amplitude: float = 1.0) -> Path:
    drive = triangle(-amplitude, 1.0, points=100)
    ideal = simulate(TRUTH.replace(r_on=r_on, v_on=v_on), drive, x0=0.05)
    rng = np.random.default_rng(seed)
    i = ideal.i + np.hypot(0.02 * ideal.i, 2e-6) * rng.normal(size=len(ideal))
    lines = ["Time (s),Voltage (V),Current (A)"]
    lines += [f"{t:.9g},{v:.9g},{a:.9g}" for t, v, a in zip(ideal.t, ideal.v, i, strict=True)]
    path.write_text("\n".join(lines) + "\n")
    return path


def run(*arguments: object, ok: bool = True) -> Result:
    result = CliRunner().invoke(cli, [str(word) for word in arguments])
    assert (result.exit_code == 0) == ok, result.output + repr(result.exception)
    return result


@pytest.mark.slow
def test_models_are_compared_and_the_best_is_written(tmp_path: Path) -> None:
    files = [write(tmp_path / f"{k}.csv", k) for k in range(2)]
    out = tmp_path / "out"
    text = run(
        "fit",
        *files,
        "--compare",
        *HOLD,
        "--resistance",
        "linear",
        "--workers",
        1,
        "--starts",
        2,
        "--out",
        out,
        "--profiles",
    ).output
    assert "NRMSE % held-out cycles" in text
    assert "vteam linear biolek:p=4" in text
    assert "profile likelihood" in text
    assert json.loads((out / "fit.json").read_text())["device"]["window"] == "none"  # as the traces were made
    assert {path.name for path in out.iterdir()} >= {
        "comparison.txt",
        "comparison.png",
        "profiles.png",
        "device.subckt",
    }


def test_a_folder_is_fitted_file_by_file_with_a_bad_one(tmp_path: Path) -> None:
    folder, out = tmp_path / "wafer", tmp_path / "out"
    folder.mkdir()
    for k in range(3):
        write(folder / f"die{k}.csv", k, r_on=1e3 * (1 + 0.2 * k))
    (folder / "notes.txt").write_text("operator: me\n")
    (folder / "die3.csv").write_text(
        "Time (s),Voltage (V),Current (A)\n" + "".join(f"{t},{t % 3},0\n" for t in range(30))
    )
    text = run("fit", folder, "--each", *HOLD, "--out", out, "--workers", 1).output
    assert "3 fitted (0 of them by an earlier run), 1 failed" in text
    assert "no current" in text
    assert "not read" in text
    rows = (out / "results.csv").read_text().splitlines()
    assert len(rows) == 5
    again = run("fit", folder, "--each", *HOLD, "--out", out, "--workers", 1).output
    assert "3 fitted (3 of them by an earlier run), 1 failed" in again


def test_cycles_give_their_spread(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    files = [
        write(
            tmp_path / f"{k:02d}.csv",
            k,
            r_on=1e3 * np.exp(0.05 * rng.normal()),
            v_on=-0.5 * np.exp(0.05 * rng.normal()),
        )
        for k in range(12)
    ]
    text = run("fit", *files, "--cycles", *HOLD, "--workers", 1, "--out", tmp_path / "out").output
    assert "12 cycles" in text
    assert "CV true" in text
    assert "v_set.threshold" in text
    assert (tmp_path / "out" / "agreement.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--each", "--cycles"], "cannot go together"),
        (["--each"], "--each needs a folder"),
        (["--cycles"], "too few cycles"),
        (["--advise", "nothing"], "unknown fitted parameter"),
        (["--bootstrap", 5], "at least 20 draws"),
    ],
)
def test_impossible_requests_are_refused(tmp_path: Path, arguments: list[object], message: str) -> None:
    result = run("fit", write(tmp_path / "a.csv", 1), *HOLD, *arguments, ok=False)
    assert message in str(result.exception)


QUICK = ("--starts", 1, *HOLD)


def test_a_series_resistance_is_fitted_and_given(tmp_path: Path) -> None:
    """A divider: the source's voltage falls over 200 ohm and the device."""
    drive = triangle(-1.2, 1.0, points=120)
    behind = simulate(TRUTH, drive, x0=0.05, series_resistance=200.0)
    file = save(tmp_path / "a.csv", drive.t, drive.v, noisy(behind.i))
    given = json.loads(run("fit", file, *QUICK, "--series-resistance", "200", "--json").stdout)
    assert given["series_resistance"] == 200.0
    assert given["device"]["r_on"] == pytest.approx(1e3, rel=0.05)
    free = json.loads(run("fit", file, *QUICK, "--series-resistance", "fit", "--json").stdout)
    assert free["series_resistance"] == pytest.approx(200.0, rel=0.3)


def test_a_current_drive_fits_the_voltage(tmp_path: Path) -> None:
    drive = triangle(-2e-4, 1.0, points=120)
    driven = simulate(TRUTH, CurrentDrive(drive.t, drive.v), x0=0.05)
    file = save(tmp_path / "a.csv", driven.t, noisy(driven.v), driven.i)
    result = json.loads(run("fit", file, *QUICK, "--drive", "current", "--json").stdout)
    assert result["bench"]["drive"] == "current"
    assert result["device"]["r_off"] == pytest.approx(2e4, rel=0.1)


def test_a_loop_that_repeats_begins_where_it_ends(tmp_path: Path) -> None:
    drive = triangle(-1.0, 1.0, points=100)
    x0 = 0.05
    for _ in range(6):
        loop = simulate(TRUTH, drive, x0=x0)
        x0 = float(loop.x[-1])
    file = save(tmp_path / "a.csv", loop.t, loop.v, noisy(loop.i))
    result = json.loads(run("fit", file, *QUICK, "--periodic", "--json").stdout)
    assert result["bench"]["periodic"]
    assert result["x0"][0] == pytest.approx(x0, abs=0.02)


def test_outliers_do_not_move_a_robust_fit(tmp_path: Path) -> None:
    loop = simulate(TRUTH, triangle(-1.0, 1.0, points=100), x0=0.05)
    i = noisy(loop.i)
    i[7::20] *= 2.0
    file = save(tmp_path / "a.csv", loop.t, loop.v, i)
    result = json.loads(run("fit", file, *QUICK, "--robust", "--json").stdout)
    assert result["loss"] == "huber"
    assert result["device"]["r_on"] == pytest.approx(1e3, rel=0.04)


def save(path: Path, t: np.ndarray, v: np.ndarray, i: np.ndarray) -> Path:
    rows = [f"{a:.9g},{b:.9g},{c:.9g}" for a, b, c in zip(t, v, i, strict=True)]
    path.write_text("\n".join(["Time (s),Voltage (V),Current (A)", *rows]) + "\n")
    return path


def noisy(values: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(2)
    return values + np.hypot(0.01 * values, 1e-3 * np.abs(values).max()) * rng.normal(size=values.shape)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--starts", 0], "--starts"),
        (["--starts", "nan"], "--starts"),
        (["--seed", -1], "--seed"),
        (["--model", "vteamm"], "vteam"),
        (["--window", "bioleck"], "biolek"),
        (["--window", "biolek:q=2"], "q"),
        (["--fix", "r_onn=3"], "r_on"),
        (["--fix", "r_on"], "r_on"),
        (["--fix", "r_on=nan"], "r_on"),
        (["--fix", "r_on=-5"], "r_on"),
        (["--series-resistance", "nan"], "series"),
        (["--series-resistance", "-3"], "series"),
        (["--drive", "current", "--series-resistance", "5"], "series resistance"),
        (["--trace", 7], "trace"),
        (["--duration", "nan"], "uration"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else "",
)
def test_absurd_values_end_with_one_message_and_no_traceback(
    tmp_path: Path, arguments: list[object], message: str
) -> None:
    file, out = write(tmp_path / "a.csv", 1), tmp_path / "out"
    assert message in refusal("fit", file, *QUICK, "--out", out, *arguments)
    assert not out.exists()


def test_an_empty_folder_and_a_missing_file_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for arguments in ((tmp_path / "empty",), (tmp_path / "empty", "--each", "--out", tmp_path / "o"), (tmp_path / "no.csv",)):  # fmt: skip # noqa: E501
        message = refusal("fit", *arguments, *QUICK)
        assert "empty" in message or "no.csv" in message or "no trace" in message


def test_a_file_without_switching_says_so(tmp_path: Path) -> None:
    drive = triangle(-1.0, 1.0, points=100)
    file = save(tmp_path / "a.csv", drive.t, drive.v, noisy(drive.v / 1e3))
    assert "no switching" in run("fit", file, *QUICK).output


def test_an_interrupt_ends_a_fit_at_once_and_leaves_nothing(tmp_path: Path) -> None:
    loop = simulate(TRUTH, triangle(-1.0, 1.0, points=2000), x0=0.05)
    file, out = save(tmp_path / "a.csv", loop.t, loop.v, noisy(loop.i)), tmp_path / "out"
    begin = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"  # a shell's & ignores it
    script = f"{begin}; from devicelab.cli import main; main()"
    words = [sys.executable, "-c", script, "fit", file, "--model", "stanford", "--starts", 50, "--out", out]
    process = subprocess.Popen(
        [str(word) for word in words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    seen = ""
    for line in process.stderr:  # the fit has begun
        seen += line
        if "screening" in line:
            break
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 1, seen + errors
    assert "Traceback" not in seen + errors
    assert output == ""
    assert not out.exists()


def test_an_interrupt_that_compiled_code_forgets_ends_a_fit_too(tmp_path: Path) -> None:
    """Scipy reads the numbers of its Sobol sequences in a function that lets no exception out."""
    loop = simulate(TRUTH, triangle(-1.0, 1.0, points=50), x0=0.05)
    file, out = save(tmp_path / "a.csv", loop.t, loop.v, noisy(loop.i)), tmp_path / "out"
    script = """
import numpy
load = numpy.load
def interrupted(*args, **options):
    numpy.load = load
    raise KeyboardInterrupt
numpy.load = interrupted
from devicelab.cli import main
main()
"""
    words = [sys.executable, "-c", script, "fit", str(file), "--model", "vteam", "--out", str(out)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert not out.exists()


def test_a_stopped_run_replaces_its_own_files_only(tmp_path: Path) -> None:
    """What it wrote and nobody changed is its own; what lay there, or was changed since, stays without --force."""
    first = Out(tmp_path, False, "a", ["fit.json", "device.toml"])
    first.text("fit.json", "1")
    first.text("device.toml", "1")
    (tmp_path / "notes.txt").write_text("mine")
    again = Out(tmp_path, False, "a", ["fit.json", "device.toml"])
    again.text("fit.json", "2")
    assert (tmp_path / "fit.json").read_text() == "2"
    with pytest.raises(FileFormatError, match=r"notes\.txt"):
        Out(tmp_path, False, "a", ["fit.json", "notes.txt"])
    (tmp_path / "device.toml").write_text("changed by hand")
    with pytest.raises(FileFormatError, match=r"device\.toml"):
        Out(tmp_path, False, "a", ["fit.json", "device.toml"])
    with pytest.raises(FileFormatError, match="another command was stopped"):
        Out(tmp_path, False, "b", ["other.json"])
    Out(tmp_path, True, "b", ["fit.json", "device.toml"]).done()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["device.toml", "fit.json", "notes.txt"]
    with pytest.raises(FileFormatError, match="holds a fit already"):  # done: nothing is the own of anyone
        Out(tmp_path, False, "a", ["fit.json"])


def test_a_stop_while_a_file_is_replaced_loses_neither_content(tmp_path: Path) -> None:
    out = Out(tmp_path, False, "a", ["fit.json"])
    out.text("fit.json", "old")
    with suppress(KeyboardInterrupt), out.replacing("fit.json") as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert (tmp_path / "fit.json").read_text() == "old"
    Out(tmp_path, False, "a", ["fit.json"]).text("fit.json", "new")
    assert (tmp_path / "fit.json").read_text() == "new"


def test_files_beside_an_unfinished_run_are_kept(tmp_path: Path) -> None:
    """The table of another comparison is refused before the fits, not replaced after them."""
    file, out = write(tmp_path / "a.csv", 1), tmp_path / "out"
    (out / UNFINISHED).mkdir(parents=True)
    (out / "comparison.txt").write_text("of last week")
    message = refusal("fit", file, "--compare", *QUICK, "--out", out)
    assert "comparison.txt" in message
    assert (out / "comparison.txt").read_text() == "of last week"
    assert not (out / "fit.json").exists()


ROOT = Path(__file__).parents[2]


def refusal(*arguments: object) -> str:
    """The message of a command that the program ends with status 1 (its own errors) or 2 (wrong usage)."""
    result = CliRunner().invoke(cli, [str(word) for word in arguments])
    assert isinstance(result.exception, DevicelabError | SystemExit), repr(result.exception) + result.output
    assert result.exit_code in (1, 2)
    return str(result.exception) + result.output


def test_a_file_of_many_cycles_is_fitted_cycle_by_cycle() -> None:
    file = Path(__file__).parents[2] / "data" / "oxide_cycles.csv"
    text = run("fit", file, "--window", "biolek:p=1", "--resistance", "exponential", "--cycles", "--workers", 1).output
    assert "simulated cycles against measured ones" in text
    assert "too few" not in text
