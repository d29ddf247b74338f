"""Whatever the bytes, a reader gives traces of finite numbers or says clearly why not; never a crash, never a hang."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_readers_formats import ARC_ONE, LVM_HEAD, MDM, lvm, record

from devicelab.errors import DevicelabError, FileFormatError
from devicelab.readers import read_tables, read_traces
from devicelab.trace import Trace
from devicelab.tracefile import write_csv, write_hdf5

FUZZ = settings(
    max_examples=100,
    deadline=20_000,  # ms for one file of a few kB: a hang, not a slow machine
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
PLAIN = "Time (s),Voltage (V),Current (uA)\n0,0,0\n1,0.5,1\n2,1.0,3.5\n3,0.5,2\n"
SEEDS: dict[str, bytes] = {
    "plain csv": PLAIN.encode(),
    "decimal commas": PLAIN.replace(",", ";").replace(".", ",").encode("utf-16"),
    "cycles": b"cycle,V (V),I (A)\n1,0,0\n1,1,1\n2,0,0\n2,1,2\n",
    "dates": b"Timestamp;Current;Voltage\n02/13/2021 02:33:07.5;1e-3;3.5\n02/13/2021 02:33:08.5;2e-3;3.6\n",
    "Keithley 2400": b"\n".join(b"-4.00000e+00 -6.42e-10 9.91e+37 %d.00000e+00 2.04e+04" % k for k in range(4)),
    "Keithley text": "\ufeffTime\tAI\tAV\n198.8988E-3\t-626.1089E-9\t000.0000E+0\n228.5E-3\t1E-6\t10.0E-3\n".encode(),
    "oscilloscope": b"x-axis,1,2\nsecond,Volt,Volt\n-5E-02,-7E-03,+793E-06\n-4E-02,-8E-03,-9E-03\n",
    "ArC ONE": ARC_ONE.encode(),
    "LabVIEW": (LVM_HEAD.format(decimal=",", x="One") + lvm(",", "One")).encode(),
    "IC-CAP": MDM.encode(),
    "EasyEXPERT": record("1E-06", 1).encode(),
    "qtj": b"a_b\tcycle-1\t\n# Mode: U-Sweep 1x; ICC=10.0A\nU / V\tI / A\n0\t-2.9E-11\t\t\n0.04\t6.5E-12\t\t\n",
}  # fmt: skip


@cache
def workbook() -> bytes:
    openpyxl = pytest.importorskip("openpyxl", reason="openpyxl writes the sample workbook")
    book = openpyxl.Workbook()
    for row in (["Time", "AV", "AI"], [0, 0.0, 1e-6], [1, 0.5, 2e-6]):
        book.active.append(row)
    book.create_sheet("Settings").append(["Compliance", 0.1])
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


@cache
def own(kind: str, folder: str) -> bytes:
    path = Path(folder) / f"seed.{kind}"
    trace = Trace([0, 1, 2], [0, 1, 0], [0, 1e-6, 2e-6], meta={"device": "A"})
    (write_csv if kind == "csv" else write_hdf5)(path, [trace, trace], force=True)
    return path.read_bytes()


def attempt(read: Callable[[Path], list[Any]], path: Path) -> tuple[DevicelabError | None, list[Any]]:
    try:
        return None, read(path)
    except DevicelabError as problem:
        return problem, []


def check(folder: Path, data: bytes, name: str = "file.csv") -> None:
    path = folder / name
    path.write_bytes(data)
    for read in (read_traces, read_tables):
        refusal, found = attempt(read, path)
        assert found or (refusal is not None and refusal.got is not None), refusal
        for trace in found:
            if isinstance(trace, Trace):
                assert np.isfinite([trace.t, trace.v, trace.i]).all()
                assert (np.diff(trace.t) > 0).all()


@st.composite
def damaged(draw: st.DrawFn, seed: bytes) -> bytes:
    """A good file cut off, with bytes changed, lines dropped or doubled, or in another encoding."""
    data = seed
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        kind = draw(st.sampled_from(["cut", "change", "insert", "drop line", "double line", "encode"]))
        lines = data.split(b"\n")
        line = at % len(lines)
        if kind == "cut":
            data = data[:at]
        elif kind == "change":
            data = data[:at] + draw(st.binary(min_size=1, max_size=4)) + data[at + 1 :]
        elif kind == "insert":
            data = data[:at] + draw(st.text("0123456789.,;:\t\n eE+-#()[]VAuAI=\"'", max_size=6)).encode() + data[at:]
        elif kind == "drop line":
            data = b"\n".join(lines[:line] + lines[line + 1 :])
        elif kind == "double line":
            data = b"\n".join(lines[: line + 1] + lines[line:])
        else:
            data = data.decode("latin-1").encode(draw(st.sampled_from(["utf-16", "utf-16-le", "utf-32", "cp500"])))
    return data


@FUZZ
@given(data=st.binary(max_size=400))
def test_random_bytes(data: bytes, tmp_path: Path) -> None:
    check(tmp_path, data)


@settings(FUZZ, max_examples=25)
@given(
    data=st.sampled_from([b"PK\x03\x04", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", b"\x1f\x8b\x08", b"\x89HDF\r\n\x1a\n"]),
    rest=st.binary(max_size=600),
)
def test_random_bytes_behind_a_known_signature(data: bytes, rest: bytes, tmp_path: Path) -> None:
    check(tmp_path, data + rest, "file.xlsx")


@FUZZ
@given(text=st.text("0123456789.,;\t\n eE+-VAIst()#/", max_size=300))
def test_random_rows(text: str, tmp_path: Path) -> None:
    check(tmp_path, text.encode())


@pytest.mark.parametrize("name", SEEDS)
def test_seed_is_good(name: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(SEEDS[name])
    assert read_traces(tmp_path / "a.csv", **({"shunt": 50.0} if name == "oscilloscope" else {}))


@pytest.mark.parametrize("name", SEEDS)
@settings(FUZZ, max_examples=40)
@given(draw=st.data())
def test_damaged_text_file(name: str, draw: st.DataObject, tmp_path: Path) -> None:
    check(tmp_path, draw.draw(damaged(SEEDS[name])))


@settings(FUZZ, max_examples=15)  # each starts a process
@given(draw=st.data())
def test_damaged_workbook(draw: st.DataObject, tmp_path: Path) -> None:
    check(tmp_path, draw.draw(damaged(workbook())), "file.xlsx")


@pytest.mark.parametrize("kind", ["csv", "h5"])
@settings(FUZZ, max_examples=60)
@given(draw=st.data())
def test_damaged_file_of_ours(kind: str, draw: st.DataObject, tmp_path: Path) -> None:
    check(tmp_path, draw.draw(damaged(own(kind, str(tmp_path)))), f"file.{kind}")


LONG = 100_000
HOSTILE = {
    "brackets": "(" * LONG + "," + "[" * LONG + "\n0,1\n1,2\n",
    "underscores": "V" + "_" * LONG + ",I\n0,1\n1,2\n",
    "slashes": "V" + " / " * LONG + ",I\n0,1\n1,2\n",
    "blanks": " " * LONG + "(,I\n0,1\n1,2\n",
    "open quote": '"' * LONG + ",1\n0,1\n",
    "columns": "1," * LONG + "\n" + "1," * LONG + "\n",
    "digits": "1" * LONG + ",2\n3,4\n",
    "exponents": "1E" * LONG + "\n",
    "headers": "LabVIEW Measurement\n" + "***End_of_Header***\n" * 5000,
    "sizes": "SetupTitle, a\nDimension1, 999999999\nDimension2, 99999999\nDataName, V1, I1\nDataValue, 1, 2\n",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_shape_is_read_or_refused_in_seconds(name: str, tmp_path: Path) -> None:
    start = time.process_time()
    check(tmp_path, HOSTILE[name].encode())
    assert time.process_time() - start < 10  # a second here; patterns that backtrack took many minutes


SIZES = {
    "f": 1e-15,
    "p": 1e-12,
    "n": 1e-9,
    "u": 1e-6,
    "µ": 1e-6,
    "m": 1e-3,
    "": 1.0,
    "k": 1e3,
    "M": 1e6,
    "G": 1e9,
    "T": 1e12,
}


@FUZZ
@given(
    prefix=st.sampled_from(sorted(SIZES)),
    form=st.sampled_from(["Current ({})", "Current [{}]", "Current / {}", "I_{}", "Current in {}", "I ({})", "{}"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "cp1252"]),
    values=st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=5),
)
def test_unit_of_a_header_decides_the_size(
    prefix: str, form: str, encoding: str, values: list[float], tmp_path: Path
) -> None:
    path = tmp_path / "a.csv"
    rows = "".join(f"{k};{value!r}\n" for k, value in enumerate(values))
    path.write_text(f"Voltage (V);{form.format(prefix + 'A')}\n{rows}", encoding=encoding)
    if prefix in {"M", "G", "T"}:  # no device carries them: capitals for mA, or a mistake
        with pytest.raises(FileFormatError, match=r"not understood|no current column"):
            read_traces(path)
        return
    (trace,) = read_traces(path)
    np.testing.assert_allclose(trace.i, np.array(values) * SIZES[prefix], rtol=1e-14)


@FUZZ
@given(unit=st.text(st.characters(codec="utf-8", exclude_characters="()[]\r\n;\"'"), min_size=1, max_size=6))
def test_unit_that_is_not_known_is_never_taken_as_amperes(unit: str, tmp_path: Path) -> None:
    """A word in brackets may be part of the name; anything that could be a unit is scaled or refused."""
    path = tmp_path / "a.csv"
    path.write_text(f"Voltage (V);Current ({unit})\n0;1\n1;2\n", encoding="utf-8")
    try:
        (trace,) = read_traces(path)
    except FileFormatError:
        return
    said = str(trace.meta["units"]["i"])
    factor = SIZES.get(said.removesuffix("A").removesuffix("a")) if said[-1:] in "Aa" else None
    if factor is None:
        assert said.startswith("A (assumed") or said.lower().endswith(("amp", "amps", "ampere", "amperes"))
        assert len(unit.strip()) > 3 or unit.strip().isdigit() or not unit.strip()
    else:
        assert trace.i.tolist() == pytest.approx([factor, 2 * factor], rel=1e-14)
