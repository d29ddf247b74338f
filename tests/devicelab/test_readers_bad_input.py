"""Every bad file says what is wrong, what was given, what is allowed and, where there is one, the way out."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from devicelab.errors import DevicelabError, FileFormatError, ParameterError, ShapeError, TraceError
from devicelab.readers import read_tables, read_trace, read_traces

GOOD = "Time (s),Voltage (V),Current (A)\n0,0,0\n1,0.5,1e-6\n2,1,2e-6\n"


def write(folder: Path, content: str | bytes, name: str = "file.csv") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


BAD = {
    "empty": (b"", FileFormatError, "is empty"),
    "blank lines": (b"\n\n \n", FileFormatError, "is empty"),
    "header only": (b"Voltage (V),Current (A)\n", FileFormatError, "no table of numbers"),
    "no current": (b"Time (s),Voltage (V)\n0,1\n1,2\n", FileFormatError, "no current column"),
    "no voltage": (b"Time (s),Current (A)\n0,1\n1,2\n", FileFormatError, "no voltage column"),
    "no header": (b"0,1\n1,2\n", FileFormatError, "the file has no header"),
    "NaN": (b"V (V),I (A)\n0,1\n1,nan\n2,3\n", FileFormatError, "'nan|NaN or blank' in column 'I', line 3"),
    "blank cell": (b"V (V),I (A)\n0,1\n1,\n2,3\n", FileFormatError, "line 3"),
    "word in a cell": (b"V (V),I (A)\n0,1\n1,overrange\n2,3\n", FileFormatError, "'overrange' in column 'I', line 3"),
    "overflow marker": (b"V (V),I (A)\n0,1\n1,9.91e37\n2,3\n", FileFormatError, "line 3"),
    "mixed units": (b"V,I\n0 V,1 mA\n1 V,2 uA\n", FileFormatError, "mixes units"),
    "header and cells differ": (b"Voltage (V),Current (A)\n0,1 mA\n1,2 mA\n", FileFormatError, "mixes units"),
    "unknown unit": (b"Voltage (V),Current (A/cm2)\n0,1\n1,2\n", FileFormatError, "no current column"),
    "foreign unit": (b"Voltage (V),Current (xA)\n0,1\n1,2\n", FileFormatError, "not understood"),
    "unit against name": (b"Voltage (V),Current (V)\n0,1\n1,2\n", FileFormatError, "stated in V"),
    "binary": (bytes(range(256)) * 20, FileFormatError, "not a text file"),
    "broken workbook": (b"PK\x03\x04" + bytes(500), FileFormatError, "damaged workbook"),
    "broken old workbook": (b"\xd0\xcf\x11\xe0" + bytes(900), FileFormatError, "damaged workbook"),
    "broken gzip": (gzip.compress(GOOD.encode())[:-9], FileFormatError, "broken gzip"),
    "broken HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(100), FileFormatError, "HDF5"),
    "time goes backwards": (b"t (s),V (V),I (A)\n0,0,0\n2,1,1\n1,2,2\n", TraceError, "time goes backwards"),
    "time stands still": (b"t (s),V (V),I (A)\n5,0,0\n5,1,1\n5,2,2\n", TraceError, "time stands still"),
    "one row": (b"t (s),V (V),I (A)\n0,0,0\n", TraceError, "too short"),
    "text amid numbers": (b"V (V),I (A)\n0,0\n1,1\nsmoke seen\n2,2\n3,3\n", FileFormatError, "text amid the numbers"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_file_is_refused_with_what_got_and_allowed(case: str, tmp_path: Path) -> None:
    content, kind, words = BAD[case]
    with pytest.raises(kind, match=words) as raised:
        read_traces(write(tmp_path, content))
    assert raised.value.got is not None
    assert raised.value.allowed is not None


def test_workbook_with_a_stray_cell_in_the_last_corner_does_not_end_the_program(tmp_path: Path) -> None:
    """The workbook library asks for hundreds of gigabytes and aborts its process."""
    openpyxl = pytest.importorskip("openpyxl", reason="openpyxl writes the sample workbook")
    book = openpyxl.Workbook()
    book.active.append(["V (V)", "I (A)"])
    book.active["XFD1048576"] = 1.0
    book.save(tmp_path / "a.xlsx")
    with pytest.raises(FileFormatError, match="fits in memory"):
        read_traces(tmp_path / "a.xlsx")


def test_missing_file_names_its_neighbours(tmp_path: Path) -> None:
    write(tmp_path, GOOD, "sweep_1.csv")
    with pytest.raises(FileFormatError, match=r"did you mean sweep_1\.csv"):
        read_traces(tmp_path / "sweep_l.csv")


def test_folder_is_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="is a folder"):
        read_traces(tmp_path)


def test_rows_without_a_number_are_dropped_only_on_request(tmp_path: Path) -> None:
    trace = read_trace(write(tmp_path, "V (V),I (A)\n0,1\n1,nan\n2,3\n"), drop_nan=True)
    assert trace.v.tolist() == [0.0, 2.0]
    assert trace.meta["rows_dropped"] == 1


def test_cell_units_scale_like_header_units(tmp_path: Path) -> None:
    trace = read_trace(write(tmp_path, "V,I\n0 mV,1 uA\n1 mV,2 uA\n"))
    np.testing.assert_allclose(trace.i, [1e-6, 2e-6], rtol=1e-15)
    np.testing.assert_allclose(trace.v, [0, 1e-3], rtol=1e-15)


def test_several_traces_need_an_index(tmp_path: Path) -> None:
    path = write(tmp_path, "cycle,V (V),I (A)\n1,0,0\n1,1,1\n2,0,0\n2,1,2\n")
    with pytest.raises(ShapeError, match=r"holds 2 traces(?s:.*)index=0 to index=1"):
        read_trace(path)
    assert read_trace(path, index=-1).i[-1] == 2
    with pytest.raises(ShapeError, match="index=2"):
        read_trace(path, index=2)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rate": -1.0}, "rate must be positive"),
        ({"rate": 1.0, "duration": 1.0}, "exclude each other"),
        ({"profile": "generik"}, "did you mean generic"),
        ({"unit": {"i": "A"}}, "did you mean units"),
        ({"columns": {"current": 1}}, "unknown role"),
        ({"columns": {"v": None}}, "columns is of another type"),
        ({"columns": "v"}, "columns is of another type"),
        ({"units": {"i": 5}}, "units is of another type"),
        ({"units": None}, "units is of another type"),
        ({"rate": "fast"}, "rate is of another type"),
        ({"split": 3}, "split is of another type"),
        ({"drop_nan": "maybe"}, "drop_nan is of another type"),
    ],
)
def test_wrong_option_is_named(options: dict[str, object], words: str, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=words):
        read_traces(write(tmp_path, GOOD), **options)  # type: ignore[arg-type]


def test_column_that_is_not_there_lists_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match=r"1 'Time', 2 'Voltage', 3 'Current'"):
        read_traces(write(tmp_path, GOOD), columns={"i": "Strom"})


def test_column_name_that_is_no_pattern_is_a_name(tmp_path: Path) -> None:
    path = write(tmp_path, "t,a[(,b\n0,0,0\n1,1,1e-6\n")
    assert read_trace(path, columns={"v": "a[(", "i": "b"}).v.tolist() == [0, 1]
    with pytest.raises(FileFormatError, match=r"no column .c\[\(. for v"):
        read_traces(path, columns={"v": "c[(", "i": "b"})


def test_stated_unit_must_fit_the_role(tmp_path: Path) -> None:
    with pytest.raises(DevicelabError, match="A"):
        read_traces(write(tmp_path, GOOD), columns={"i": 3}, units={"i": "V"})


def test_windows_and_utf16_files_keep_the_micro_sign(tmp_path: Path) -> None:
    for encoding in ("cp1252", "utf-16", "utf-8-sig"):
        path = write(tmp_path, "Voltage (V);Current (µA)\n0;1\n1;2\n".encode(encoding))
        np.testing.assert_allclose(read_trace(path).i, [1e-6, 2e-6], rtol=1e-15)


def test_micro_sign_of_another_code_page_is_not_guessed(tmp_path: Path) -> None:
    path = write(tmp_path, b"Voltage (V);Current (\xe6A)\n0;1\n1;2\n")  # the micro sign of code page 437
    with pytest.raises(FileFormatError, match="not understood"):
        read_traces(path)


def test_tables_show_files_without_a_current(tmp_path: Path) -> None:
    (table,) = read_tables(write(tmp_path, "pulse number,Resistance (kOhm)\n1,2\n2,4\n"))
    assert table["Resistance"].tolist() == [2000.0, 4000.0]
    assert table.units["Resistance"] == "ohm"
