"""A wafer: bad traces fail alone, a run that was killed goes on, the tables hold what the fits found."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from devicelab import VTEAM, Trace, simulate, triangle
from devicelab.errors import FileFormatError, ParameterError
from fits.batch import batch

TRUTH = VTEAM(r_on=1e3, r_off=2e4, v_on=-0.5, v_off=0.5, k_on=60.0, k_off=40.0, a_on=2.0, a_off=2.0)
QUICK = {"fixed": ["b_on", "b_off", "a_on", "a_off"], "screen": 128, "starts": 2, "noise": (0.02, 2e-6)}


def wafer(count: int) -> dict[str, Trace]:
    rng = np.random.default_rng(0)
    out = {}
    for k in range(count):
        ideal = simulate(TRUTH.replace(r_on=1e3 + 10 * k), triangle(-1.0, 1.0, points=120), x0=0.05)
        sigma = np.hypot(0.02 * ideal.i, 2e-6)
        out[f"die {k}/A"] = Trace(ideal.t, ideal.v, ideal.i + sigma * rng.normal(size=len(ideal)))
    return out


def test_one_bad_trace_is_reported_and_the_others_are_fitted(tmp_path: Path) -> None:
    jobs = wafer(4)
    dead = jobs["die 1/A"]
    jobs["die 1/A"] = Trace(dead.t, dead.v, 0 * dead.i)
    lines: list[tuple[int, int]] = []
    found = batch(
        TRUTH, jobs, tmp_path, workers=2, progress=lambda done, total, line: lines.append((done, total)), **QUICK
    )
    assert [entry.status for entry in found.entries] == ["fitted", "failed", "fitted", "fitted"]
    assert "no current" in found.failed[0].message
    assert lines[-1] == (4, 4)
    for k, value in zip((0, 2, 3), found.column("r_on")[[0, 2, 3]], strict=True):
        assert value == pytest.approx(1e3 + 10 * k, rel=0.02)
    with (tmp_path / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == list(jobs)
    assert rows[1]["status"] == "failed"
    with h5py.File(tmp_path / "results.h5") as file:
        np.testing.assert_array_equal(file["values/r_on"][:], found.column("r_on"))
        assert file["name"][0] == b"die 0/A"
    text = json.loads((tmp_path / "fits" / "die_0_A.json").read_text())
    assert text["estimates"][0]["value"] == found.entries[0].values["r_on"]
    assert "die 1/A: the trace carries no current" in found.report()


def test_a_second_run_fits_nothing_twice_and_what_changed_anew(tmp_path: Path) -> None:
    jobs = wafer(3)
    first = batch(TRUTH, jobs, tmp_path, workers=1, **QUICK)
    before = (tmp_path / "fits" / "die_0_A.json").stat().st_mtime_ns
    jobs["die 2/A"] = wafer(4)["die 3/A"]
    second = batch(TRUTH, jobs, tmp_path, workers=1, **QUICK)
    assert [entry.status for entry in second.entries] == ["kept", "kept", "fitted"]
    assert (tmp_path / "fits" / "die_0_A.json").stat().st_mtime_ns == before
    assert second.entries[0].values == first.entries[0].values
    other = batch(TRUTH, jobs, tmp_path, workers=1, **{**QUICK, "seed": 7})
    assert {entry.status for entry in other.entries} == {"fitted"}


def test_a_failure_is_kept_unless_a_retry_is_asked_for(tmp_path: Path) -> None:
    short = {"a": wafer(1)["die 0/A"].window(0, 4)}
    batch(TRUTH, short, tmp_path, workers=1, **QUICK)
    stamp = (tmp_path / "failed" / "a.json").stat().st_mtime_ns
    batch(TRUTH, short, tmp_path, workers=1, **QUICK)
    assert (tmp_path / "failed" / "a.json").stat().st_mtime_ns == stamp
    batch(TRUTH, short, tmp_path, workers=1, retry=True, **QUICK)
    assert (tmp_path / "failed" / "a.json").stat().st_mtime_ns > stamp


def test_names_that_look_alike_as_files_stay_apart(tmp_path: Path) -> None:
    one, two = list(wafer(2).values())
    found = batch(TRUTH, {"a b": one, "a/b": two}, tmp_path, workers=1, **QUICK)
    assert len(list((tmp_path / "fits").glob("*.json"))) == 2
    assert found.entries[0].values["r_on"] != found.entries[1].values["r_on"]


SCRIPT = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
sys.path.insert(0, {here!r})
from pathlib import Path
from test_batch import TRUTH, QUICK, wafer
from fits.batch import batch
batch(TRUTH, wafer(60), {folder!r}, workers=1, **{{**QUICK, "screen": 1024, "starts": 6}})
"""


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_stopped_goes_on_where_it_was(tmp_path: Path, sign: int) -> None:
    script = SCRIPT.format(here=str(Path(__file__).parent), folder=str(tmp_path))
    root = str(Path(__file__).parents[2])
    process = subprocess.Popen(
        [sys.executable, "-c", script], cwd=root, env={**os.environ, "PYTHONPATH": root}, stderr=subprocess.PIPE
    )
    for _ in range(1200):
        if len(list((tmp_path / "fits").glob("[!.]*.json"))) >= 3:
            break
        assert process.poll() is None, process.stderr.read().decode()
        time.sleep(0.05)
    process.send_signal(sign)
    process.communicate(timeout=60)
    assert process.returncode != 0
    written = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "fits").glob("[!.]*.json")}
    assert 3 <= len(written) < 60
    for name in written:
        json.loads((tmp_path / "fits" / name).read_text())  # none is half written
    assert (tmp_path / "results.csv").exists() == (sign == signal.SIGINT)
    jobs = dict(list(wafer(60).items())[: len(written) + 1])
    again = batch(TRUTH, jobs, tmp_path, workers=1, **{**QUICK, "screen": 1024, "starts": 6})
    assert [entry.status for entry in again.entries].count("kept") == len(written)
    assert again.waiting == 0
    for name, stamp in written.items():
        assert (tmp_path / "fits" / name).stat().st_mtime_ns == stamp


def test_impossible_batches_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="no job"):
        batch(TRUTH, {}, tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(FileFormatError, match="cannot make the folder"):
        batch(TRUTH, wafer(1), tmp_path / "file" / "out")
