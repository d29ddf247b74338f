"""`devicelab fit` with its modes, on files as instruments write them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from devicelab import VTEAM, simulate, triangle
from devicelab.cli import cli

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
