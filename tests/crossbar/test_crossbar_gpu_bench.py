"""The benchmark for a GPU, taken through tiny sizes without one, so that it runs on the day."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton")
BENCH = Path(__file__).parents[1] / "bench" / "bench_cuda.py"
ROWS = ["c16", "c32", "c64", "c128", "c256", "program", "fused", "vgg8", "googlenet", "lines", "lines16"]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    command = [sys.executable, "-W", "ignore", str(BENCH), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_one_row_and_a_second_run_that_has_it_already(tmp_path: Path) -> None:
    done = run("--dry-run", "--rows", "program", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr + done.stdout
    (file,) = tmp_path.iterdir()
    first, second = json.loads(file.read_text())["program"]["rows"]
    assert first["target"] == 2.0
    assert second["target"] == 1.1
    assert first["more"]["error"] < 3e-6  # float32
    again = run("--dry-run", "--rows", "program", "--out", str(tmp_path))
    assert "[of 20" in again.stdout


def test_launches_are_tried_and_kept(tmp_path: Path) -> None:
    """Every launch finds what the present one finds, and none is measured twice."""
    done = run("--dry-run", "--tune", "--rows", "c16", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr + done.stdout
    assert "gpu.RESIDENT[16]: (warps, registers, programs)" in done.stdout
    assert "(now)" in done.stdout
    (file,) = tmp_path.iterdir()
    tried = json.loads(file.read_text())["tune gpu.RESIDENT[16]"]
    assert len(tried) >= 5
    assert all(found["off"] < 1e-5 for found in tried.values())
    tried["(2, None, 1)"]["us"] = 1.0
    file.write_text(json.dumps({"tune gpu.RESIDENT[16]": tried}))
    again = run("--dry-run", "--tune", "--rows", "c16", "--out", str(tmp_path))
    first = again.stdout.splitlines()[2]
    assert first.split(")")[0].strip() == "(2, None, 1"


def test_mistakes_are_told() -> None:
    unknown = run("--dry-run", "--rows", "c65")
    assert unknown.returncode == 1
    assert "no such row: c65" in unknown.stderr
    if not torch.cuda.is_available():
        assert "no CUDA device here" in run("--rows", "c64").stderr


@pytest.mark.slow
def test_every_launch(tmp_path: Path) -> None:
    done = run("--dry-run", "--tune", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr + done.stdout
    (file,) = tmp_path.iterdir()
    found = json.loads(file.read_text())
    assert len(found) == 8
    assert all(launch["us"] for tried in found.values() for launch in tried.values())


@pytest.mark.slow
def test_every_row(tmp_path: Path) -> None:
    done = run("--dry-run", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr + done.stdout
    (file,) = tmp_path.iterdir()
    found = json.loads(file.read_text())
    assert list(found) == ROWS
    for name in ROWS[:5]:
        assert found[name]["rows"][0]["more"]["error"] < 1e-5
