"""Running ngspice: results, failures, and living on after them."""

from __future__ import annotations

import os
import pickle
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import netlists
from devicelab.errors import FileFormatError, ParameterError, SpiceError
from netlists import _executable, _pool

pytestmark = [
    pytest.mark.spice,
    pytest.mark.skipif(not netlists.available(), reason="ngspice is not installed"),
]

DIVIDER = "* divider\nV1 in 0 3\nR1 in out 2k\nR2 out 0 1k\n.op\n.end\n"
FOUR = "* four\nV1 a 0 dc 0 ac 1 sin(0 1 50)\nR1 a b 1k\nC1 b 0 1u\n.op\n.tran 1m 20m\n.dc V1 0 1 0.5"
FOUR += "\n.ac dec 2 1 10\n.end"
ENDLESS = "* endless\nV1 a 0 sin(0 1 50)\nR1 a b 1k\nC1 b 0 1u\n.tran 1u 1000 0 1u\n.end\n"
BROKEN = {
    "undefined parameter": ("* t\nV1 a 0 {nothing}\nR1 a 0 1\n.op\n.end", "nothing"),
    "unknown sub-circuit": ("* t\nX1 a 0 nowhere\nR1 a 0 1\n.op\n.end", "nowhere"),
    "unknown function": ("* t\nV1 a 0 1\nB1 b 0 V=foo(V(a))\nR1 a b 1\n.op\n.end", "foo"),
    "no analysis": ("* t\nV1 a 0 1\nR1 a 0 1\n.end", ""),
    "two sources in parallel": ("* t\nV1 a 0 1\nV2 a 0 2\nR1 a 0 1\n.op\n.end", ""),
}


def test_a_divider_divides() -> None:
    result = netlists.run(DIVIDER)
    assert result["v(out)"][0] == pytest.approx(1.0, rel=1e-9)  # gmin of 1e-12 S across 1 kohm
    assert result["i(v1)"][0] == pytest.approx(-1e-3, rel=1e-9)
    assert result["V(OUT)"] is result["v(out)"]


def test_an_unknown_vector_is_named_with_those_there_are() -> None:
    with pytest.raises(KeyError, match=r"no vector 'v\(nowhere\)' in op1; it has .*v\(out\)"):
        netlists.run(DIVIDER)["v(nowhere)"]


def test_device_quantities_can_be_saved() -> None:
    result = netlists.run(DIVIDER.replace(".op", ".save all @r1[i]\n.op"))
    assert result["@r1[i]"][0] == pytest.approx(1e-3, rel=1e-9)


@pytest.mark.skipif(shutil.which("ngspice") is None, reason="the ngspice program is not installed")
def test_library_and_program_agree_to_the_last_bit() -> None:
    shared = {result.plot: result for result in netlists.run_all(FOUR, backend="shared")}
    program = {result.plot: result for result in netlists.run_all(FOUR, backend="executable")}
    assert shared.keys() == program.keys() == {"op1", "tran1", "dc1", "ac1"}
    for plot, result in shared.items():
        assert set(result) == set(program[plot])
        for name, values in result.items():
            np.testing.assert_array_equal(values, program[plot][name], err_msg=f"{plot} {name}")


def test_one_analysis_is_expected_and_several_are_named() -> None:
    with pytest.raises(ParameterError, match="more than one analysis"):
        netlists.run(FOUR)


@pytest.mark.parametrize("case", BROKEN)
@pytest.mark.parametrize("backend", ["shared", "executable"])
def test_a_broken_netlist_is_reported_and_the_next_one_runs(case: str, backend: str, tmp_path: Path) -> None:
    if backend == "executable" and shutil.which("ngspice") is None:
        pytest.skip("the ngspice program is not installed")
    netlist, telling = BROKEN[case]
    with pytest.raises(SpiceError, match=r"ngspice failed|asks for no analysis") as caught:
        netlists.run(netlist, backend=backend, save=tmp_path / "broken.cir")  # type: ignore[arg-type]
    assert isinstance(caught.value, netlists.NgspiceError)
    assert telling in caught.value.log
    assert telling in str(caught.value)
    assert caught.value.netlist == netlist
    assert caught.value.path == tmp_path / "broken.cir"
    assert (tmp_path / "broken.cir").read_text() == netlist
    assert netlists.run(DIVIDER)["v(out)"][0] == pytest.approx(1.0, rel=1e-9)


def test_an_error_survives_pickling() -> None:
    with pytest.raises(netlists.NgspiceError) as caught:
        netlists.run(BROKEN["no analysis"][0])
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (str(copy), copy.netlist, copy.log) == (str(caught.value), caught.value.netlist, caught.value.log)


@pytest.mark.parametrize("backend", ["shared", "executable"])
def test_a_run_that_takes_too_long_is_ended(backend: str) -> None:
    start = time.monotonic()
    with pytest.raises(netlists.NgspiceError, match=r"longer than 0\.5 s"):
        netlists.run(ENDLESS, timeout=0.5, backend=backend)  # type: ignore[arg-type]
    assert time.monotonic() - start < 20  # it would take minutes


def test_a_solve_that_needed_gmin_stepping_is_no_failure() -> None:
    ring = "\n".join(f"D{k} n{k} n{k + 1} diode" for k in range(30))
    netlist = f"* chain\nV1 n0 0 40\n{ring}\nR1 n30 0 1\n.model diode D(IS=1e-16 RS=0.1)\n.options itl1=6\n.op\n.end"
    assert netlists.run(netlist)["v(n30)"][0] > 0


def test_a_worker_that_is_killed_is_replaced() -> None:
    netlists.run(DIVIDER)
    worker = _pool._idle[-1]
    worker._process.kill()
    worker._process.wait()
    with pytest.raises(netlists.NgspiceError, match="process ended"):
        netlists.run(DIVIDER)
    assert netlists.run(DIVIDER)["v(out)"][0] == pytest.approx(1.0, rel=1e-9)


def test_threads_run_at_the_same_time_and_get_their_own_results() -> None:
    texts = [DIVIDER.replace("V1 in 0 3", f"V1 in 0 {k}") for k in range(40)]
    values = [result["v(out)"][0] for result in netlists.run_many(texts, workers=3)]
    np.testing.assert_allclose(values, np.arange(40) / 3, rtol=1e-9)


def test_memory_does_not_grow_with_runs() -> None:
    def resident() -> int:
        worker = _pool._idle[-1]
        status = Path(f"/proc/{worker._process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0])

    if not Path("/proc/self/status").exists():
        pytest.skip("no /proc")
    _pool.close_workers()
    for _ in range(200):
        netlists.run(DIVIDER)
    before = resident()
    for _ in range(600):
        netlists.run(DIVIDER)
    assert resident() - before < 6_000  # kB; without remcirc 600 runs leak 70,000


def script(code: str, tmp_path: Path, **env: str) -> subprocess.CompletedProcess[str]:
    path = tmp_path / "script.py"
    path.write_text(code)
    full = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **env}
    return subprocess.run(
        [sys.executable, str(path)], capture_output=True, text=True, env=full, timeout=120, check=False
    )


def test_a_script_needs_no_main_guard(tmp_path: Path) -> None:
    done = script(f"import netlists\nprint(netlists.run({DIVIDER!r})['v(out)'][0])", tmp_path)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == pytest.approx(1.0, rel=1e-9)


def test_pyspice_stays_out_of_the_callers_process(tmp_path: Path) -> None:
    code = f"import sys, netlists\nnetlists.run({DIVIDER!r})\nprint('PySpice' in sys.modules, 'torch' in sys.modules)"
    assert script(code, tmp_path).stdout.strip() == "False False"


def test_one_file_imports_pyspice() -> None:
    """PySpice is GPL-3 and needs care with new versions of ngspice: one place to look after."""
    root = Path(netlists.__file__).parents[1]
    packages = ("devicelab", "netlists", "fits", "crossbar")
    files = [path for name in packages for path in (root / name).rglob("*.py")]
    using = [path.name for path in files if re.search(r"^\s*(from|import) PySpice", path.read_text(), re.MULTILINE)]
    assert using == ["_worker.py"]


def test_without_the_library_the_program_is_used(tmp_path: Path) -> None:
    if shutil.which("ngspice") is None:
        pytest.skip("the ngspice program is not installed")
    code = f"import netlists\nprint(netlists.run({DIVIDER!r})['v(out)'][0], netlists.ngspice_version())"
    done = script(code, tmp_path, NGSPICE_LIBRARY_PATH="/nonexistent/libngspice.so")
    value, version = done.stdout.split()
    assert float(value) == pytest.approx(1.0, rel=1e-9)
    assert int(version) == _executable.executable_version()


def test_without_any_ngspice_the_message_says_what_to_type(tmp_path: Path) -> None:
    code = f"import netlists\nprint(netlists.available())\nnetlists.run({DIVIDER!r})"
    done = script(code, tmp_path, NGSPICE_LIBRARY_PATH="/nonexistent/libngspice.so", PATH=str(tmp_path))
    assert done.stdout.strip() == "False"
    assert "MissingDependencyError: ngspice is not installed" in done.stderr
    assert "apt-get install ngspice libngspice0" in done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_does_not_talk_to_its_parents_workers() -> None:
    netlists.run(DIVIDER)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, str(len(_pool._idle)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read, 10) == b"0"
    assert len(_pool._idle) > 0


def test_an_interrupt_does_not_mix_up_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: _pool.Worker, timeout: float) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(_pool.Worker, "_answer", interrupted)
        with pytest.raises(KeyboardInterrupt):
            netlists.run(DIVIDER)
    other = DIVIDER.replace("V1 in 0 3", "V1 in 0 6")
    assert netlists.run(other)["v(out)"][0] == pytest.approx(2.0, rel=1e-9)


@pytest.mark.parametrize(
    ("data", "what"),
    [(b"nonsense", "no 'Binary:' line"), (b"Title: t\nBinary:\n", "header without"), (None, "announced")],
)
def test_a_truncated_raw_file_is_refused(data: bytes | None, what: str) -> None:
    if data is None:
        header = "Title: t\nPlotname: Operating Point\nFlags: real\nNo. Variables: 1\nNo. Points: 1\nVariables:\n"
        data = f"{header}\t0\tv(a)\tvoltage\nBinary:\n".encode() + b"\0" * 7
    with pytest.raises(FileFormatError, match=what):
        _executable.read_raw(data)


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(ParameterError, match="unknown backend"):
        netlists.run(DIVIDER, backend="hspice")  # type: ignore[arg-type]


def test_workers_close_while_others_run() -> None:
    thread = threading.Thread(target=lambda: [netlists.run(DIVIDER) for _ in range(20)])
    thread.start()
    _pool.close_workers()
    thread.join(60)
    assert not thread.is_alive()
