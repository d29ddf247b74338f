"""Runs that were stopped: what was done is not done again, what changed is, and a file cannot run code."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from devicelab import VTEAM, Trace, simulate, triangle
from devicelab.errors import FileFormatError, ParameterError
from fits import Noise, bootstrap, compare, fit
from fits.keep import digest, kept_outcomes

TRUTH = VTEAM(r_on=1e3, r_off=2e4, v_on=-0.5, v_off=0.5, k_on=60.0, k_off=40.0, a_on=2.0, a_off=2.0)
QUICK = {"fixed": ["b_on", "b_off", "a_on", "a_off"], "screen": 128, "starts": 2, "noise": (0.02, 2e-6)}
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Job:
    values: np.ndarray
    log: str


def total(job: Job) -> float:
    with Path(job.log).open("a") as file:
        file.write("x")
    if job.values.size == 0:
        raise ParameterError("nothing to sum", got=0)
    return float(job.values.sum())


def trace(seed: int = 0) -> Trace:
    ideal = simulate(TRUTH, triangle(-1.0, 1.0, points=120), x0=0.05)
    sigma = np.hypot(0.02 * ideal.i, 2e-6)
    return Trace(ideal.t, ideal.v, ideal.i + sigma * np.random.default_rng(seed).normal(size=len(ideal)))


def test_what_is_kept_is_not_computed_again(tmp_path: Path) -> None:
    log = tmp_path / "log"
    jobs = [Job(np.arange(k, dtype=float), str(log)) for k in range(4)]
    first = dict(kept_outcomes(total, jobs, 1, tmp_path / "kept"))
    again = dict(kept_outcomes(total, jobs, 1, tmp_path / "kept"))
    assert [again[k] for k in (1, 2, 3)] == [first[k] for k in (1, 2, 3)] == [0.0, 1.0, 3.0]
    assert isinstance(again[0], ParameterError)
    assert str(again[0]) == str(first[0])
    assert len(log.read_text()) == 4
    jobs[2] = Job(np.array([0.0, np.nextafter(1.0, 2.0)]), str(log))  # the last bit of one sample
    assert dict(kept_outcomes(total, jobs, 1, tmp_path / "kept"))[2] > 1.0
    assert len(log.read_text()) == 5


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("kind", ["evil", "cut", "empty"])
def test_a_file_that_does_not_belong_is_computed_again(tmp_path: Path, kind: str) -> None:
    jobs = [Job(np.ones(3), str(tmp_path / "log"))]
    kept = tmp_path / "kept"
    list(kept_outcomes(total, jobs, 1, kept))
    (file,) = kept.iterdir()
    whole = file.read_bytes()
    file.write_bytes({"evil": pickle.dumps((Evil(tmp_path / "harm"),)), "cut": whole[:-3], "empty": b""}[kind])
    assert dict(kept_outcomes(total, jobs, 1, kept)) == {0: 3.0}
    assert not (tmp_path / "harm").exists()
    assert len((tmp_path / "log").read_text()) == 2


def test_a_digest_sees_every_part() -> None:
    base = trace()
    moved = Trace(base.t, base.v, base.i * (1 + 1e-15))
    limited = Trace(base.t, base.v, base.i, meta={"compliance": 1e-3})
    keys = [digest(base), digest(moved), digest(limited), digest(TRUTH), digest(TRUTH.replace(k_on=61.0)),
            digest(Noise(0.02, 1e-6)), digest(Noise(0.02, 2e-6)), digest({"a": 1}), digest({"a": 1.0}),
            digest([np.zeros(3)]), digest([np.zeros((3, 1))]), digest(np.arange(5000.0))]  # fmt: skip
    weights = np.arange(5000.0)
    weights[2500] = 0.0  # which a repr would not show
    assert len({*keys, digest(weights)}) == len(keys) + 1
    assert digest(trace()) == keys[0]


def test_a_comparison_and_a_bootstrap_come_back_as_they_were(tmp_path: Path) -> None:
    traces = [trace(1), trace(2)]
    first = compare([TRUTH], traces, folds=2, folder=tmp_path, **QUICK)
    lines: list[str] = []
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    again = compare([TRUTH], traces, folds=2, folder=tmp_path, progress=lines.append, **QUICK)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == stamps
    assert again.report() == first.report()
    assert "3 of 3" in lines[-1]
    assert (again.best.theta == first.best.theta).all()
    result = fit(TRUTH, traces[0], **QUICK)
    draws = [bootstrap(result, draws=20, kind="residual", folder=tmp_path / "b") for _ in range(2)]
    np.testing.assert_array_equal(draws[0].samples, draws[1].samples)
    assert len(list((tmp_path / "b").iterdir())) == 20


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FileFormatError, match="cannot make the folder"):
        compare([TRUTH], trace(), folder=tmp_path / "file" / "x", **QUICK)


def test_a_command_that_was_stopped_goes_on(tmp_path: Path) -> None:
    """Ctrl-C in the middle of a bootstrap: exit code 1, no traceback; the draws done are kept, and used by the next."""
    data, out = tmp_path / "a.csv", tmp_path / "out"
    one = trace(3)
    rows = [f"{t:.9g},{v:.9g},{i:.9g}" for t, v, i in zip(one.t, one.v, one.i, strict=True)]
    data.write_text("\n".join(["Time (s),Voltage (V),Current (A)", *rows]) + "\n")
    command = [sys.executable, "-m", "devicelab.cli", "fit", str(data), "--bootstrap", "60", "--workers", "1", "--out"]
    hold = [word for name in ("a_on=2", "a_off=2", "b_on=0", "b_off=0") for word in ("--fix", name)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [*command, str(out), *hold], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )
    for _ in range(2400):
        if (out / ".unfinished").is_dir() and len(list((out / ".unfinished").glob("[!.]*.part"))) >= 3:
            break
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 1, said
    assert "the same command goes on" in said
    assert "Traceback" not in said
    assert 3 <= len(list((out / ".unfinished").glob("[!.]*.part"))) < 60
    done = subprocess.run([*command, str(out), *hold], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert "60 draws" in done.stdout
    assert not (out / ".unfinished").exists()
