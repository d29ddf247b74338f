"""Damaged and hostile files are refused, and a process killed while writing leaves the old file or the new one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import h5py
import lut_fuzzing
import lut_samples
import numpy as np
import pytest

from devicelab import Lut
from devicelab.errors import LutError
from devicelab.lut import check, store
from devicelab.lut.make import changed


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lut") / "full.h5"
    lut_samples.full().save(path)
    return path


@pytest.mark.parametrize("kind", ["sealed", "unsealed", "resealed"])
@pytest.mark.parametrize("count", [300, pytest.param(4000, marks=pytest.mark.slow)])
def test_no_mutation_is_accepted_with_other_content(saved: Path, kind: str, count: int) -> None:
    """4000 of each kind make 12 000; `resealed` is what someone writes who knows the seal but not the hash."""
    done = subprocess.run(
        [sys.executable, lut_fuzzing.__file__, str(saved), kind, "0", str(count)],
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    tally = json.loads(done.stdout)
    assert set(tally) <= {"refused", "same"}, tally
    assert tally["refused"] > 0.5 * count


def tampered(path: Path, tmp_path: Path, change: object) -> Path:
    """A copy with a change, its content hash and seal made to fit: only the check of the content can refuse it."""
    copy = tmp_path / "tampered.h5"
    copy.write_bytes(path.read_bytes())
    with h5py.File(copy, "r+") as file:
        change(file)
        store._annotate(file, {"content_sha256": store.digest(file)})
    store.seal(copy)
    return copy


def replaced(name: str, **options: object) -> object:
    def change(file: h5py.File) -> None:
        del file[name]
        file.create_dataset(name, **options)

    return change


def external(file: h5py.File) -> None:
    del file["entry/lut/current"]
    file["entry/lut/current"] = h5py.ExternalLink("/etc/passwd", "/")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (replaced("entry/lut/voltage", shape=(1 << 40,), dtype="f8", chunks=(1 << 20,)), "bytes"),
        (replaced("entry/lut/current", data=np.zeros((300, 30)), compression="gzip"), "filtered"),
        (replaced("entry/lut/voltage", data=np.zeros(3, dtype=">f8")), "type"),
        (replaced("entry/lut/state", data=["a", "b"], dtype=h5py.string_dtype()), "type"),
        (lambda f: f["entry/lut"].attrs.__setitem__("signal", "current"), "signal"),
        (lambda f: f["entry/device"].attrs.__setitem__("big", np.zeros(7000)), "short list"),
        (lambda f: f["entry/lut/current"].attrs.__setitem__("units", np.bytes_("mA")), "units"),
        (lambda f: f["entry"].create_group("code"), "addition"),
        (external, "plain dataset"),
        (lambda f: f["entry/factors/voltage"].__setitem__(0, -5e3), "contradicts"),
        (lambda f: f["entry/levels/state"].__setitem__(1, 0.99), "contradicts"),
        (lambda f: f["entry/mapping/conductance"].__setitem__(0, 1.0), "contradicts"),
        (lambda f: f["entry/levels/c2c"].__setitem__(0, -0.1), "negative"),
        (lambda f: f["entry/dynamics/rate"].__setitem__((0, 0), np.nan), "not finite"),
    ],
)
def test_hostile_content_is_refused_though_its_hashes_fit(
    saved: Path, tmp_path: Path, change: object, words: str
) -> None:
    def both(file: h5py.File) -> None:
        digest = store.digest
        change(file)
        store.digest = lambda opened: "0" * 64 if words in ("bytes", "type", "plain dataset") else digest(opened)

    original = store.digest
    try:
        copy = tampered(saved, tmp_path, both)
    finally:
        store.digest = original
    with pytest.raises(LutError, match=words):
        Lut.load(copy)
    assert check(copy)


KILLER = """
import json, os, random, signal, sys, time
from devicelab import Lut
from devicelab.lut.compare import diff
target, kills = sys.argv[1], int(sys.argv[4])
tables = [Lut.load(name) for name in sys.argv[2:4]]
random.seed(0)
seen = {"old": 0, "new": 0, "neither": 0}
start = time.perf_counter()
for table in tables:
    table.save(target, force=True)
two_saves = time.perf_counter() - start  # seconds on a busy disk, milliseconds on a quick one
for kill in range(kills):
    child = os.fork()
    if child == 0:
        while True:
            for table in tables[:: 1 - 2 * (kill % 2)]:
                table.save(target, force=True)
    time.sleep(random.uniform(0.0, 2 * two_saves))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    found = Lut.load(target)
    same = [name for name, table in zip(seen, tables) if diff(table, found)["same"]]
    seen[same[0] if len(same) == 1 else "neither"] += 1
print(json.dumps(seen))
"""


@pytest.mark.parametrize("kills", [15, pytest.param(200, marks=pytest.mark.slow)])
def test_a_killed_writer_leaves_the_old_file_or_the_new_one(saved: Path, tmp_path: Path, kills: int) -> None:
    changed(Lut.load(saved), provenance={"seed": 2}).save(tmp_path / "new.h5")
    target = tmp_path / "target.h5"
    target.write_bytes(saved.read_bytes())
    done = subprocess.run(
        [sys.executable, "-c", KILLER, str(target), str(saved), str(tmp_path / "new.h5"), str(kills)],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    seen = json.loads(done.stdout)
    assert seen["neither"] == 0
    assert seen["old"] + seen["new"] == kills
    assert min(seen["old"], seen["new"]) > 0, "every kill came before, or after, a replacement"
