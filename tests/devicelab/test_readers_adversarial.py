"""Files as people and programs mangle them: a right reading or a refusal, never other units or lost rows.

Every file here says the same five samples; what is expected was put in, not read out.
"""

from __future__ import annotations

import bz2
import gzip
import io
import subprocess
import sys
import zipfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from devicelab.errors import DevicelabError
from devicelab.readers import (
    find_files,
    open_store,
    read_dataset,
    read_into_store,
    read_tables,
    read_trace,
    read_traces,
)

V = [0.0, 0.5, 1.0, 0.5, 0.0]
I = [0.0, 1.5e-6, 4e-6, 2e-6, 0.0]  # noqa: E741
ROUNDING = 1e-12


def write(folder: Path, content: str | bytes, name: str = "file.csv") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def rows(v: float = 1.0, i: float = 1.0, sep: str = ",", decimal: str = ".", tail: str = "") -> str:
    cells = [[f"{x:.9g}".replace(".", decimal) for x in (a * v, b * i)] for a, b in zip(V, I, strict=True)]
    return "".join(sep.join(row) + tail + "\n" for row in cells)


def assert_same(trace: object, v: float = 1.0, i: float = 1.0) -> None:
    np.testing.assert_allclose(trace.v, np.multiply(V, v), rtol=ROUNDING)  # type: ignore[attr-defined]
    np.testing.assert_allclose(trace.i, np.multiply(I, i), rtol=ROUNDING)  # type: ignore[attr-defined]


MICRO = [
    "Current (uA)", "Current (microA)", "Current (micro A)", "Current (uAmp)", "Current (uAmps)", "Current (microamps)",
    "Current (uA) Ch1", "Current (uA)*", "Current (uA) (device)", "Current (device) (uA)", "Current {uA}",
    "Current <uA>", "Current:uA", "Current; uA", "Current-uA", "Current [ µA ]", "IuA", "iuA", "I_uA",
    "Corriente (uA)", "电流(μA)", "Ток (uA)",
]  # fmt: skip


@pytest.mark.parametrize("head", MICRO)
def test_microampere_is_understood_however_it_is_written(head: str, tmp_path: Path) -> None:
    assert_same(read_trace(write(tmp_path, f'Voltage (V),"{head}"\n' + rows(i=1e6))))


@pytest.mark.parametrize(
    "head",
    ["Current (MA)", "Current (Ma)", "Current (UA)", "Current MA", "I_MA", "Current (x1e-6 A)", "Current (1e-6 A)",
     "Current (10^-6 A)", "Current (A*1e-6)", "Current (xA)", "Current x10-6", "Current (мкА)", "Current (uA/um)"],
)  # fmt: skip
def test_unit_or_factor_that_is_not_understood_is_never_taken_as_ampere(head: str, tmp_path: Path) -> None:
    path = write(tmp_path, f'Voltage (V),"{head}"\n' + rows(i=1e6))
    with pytest.raises(DevicelabError, match=r"not understood|no current column"):
        read_traces(path)


def test_caller_states_the_unit_that_was_not_understood(tmp_path: Path) -> None:
    for head in ("Current (MA)", "Current (x1e-6 A)"):
        assert_same(read_trace(write(tmp_path, f"Voltage (V),{head}\n" + rows(i=1e6)), units={"i": "uA"}))


@pytest.mark.parametrize(
    ("unit", "seconds"),
    [("minutes", 60), ("hrs", 3600), ("hours", 3600), ("days", 86400), ("msec", 1e-3), ("mSec", 1e-3), ("S", 1)],
)
def test_units_of_time(unit: str, seconds: float, tmp_path: Path) -> None:
    path = write(tmp_path, f"Time ({unit}),V (V),I (A)\n0,0,0\n1,1,1\n2,2,2\n")
    np.testing.assert_allclose(read_trace(path).t, [0, seconds, 2 * seconds], rtol=ROUNDING)


@pytest.mark.parametrize("unit", ["samples", "points", "#", "index", "MS"])
def test_counts_are_no_seconds(unit: str, tmp_path: Path) -> None:
    with pytest.raises(DevicelabError, match="not understood"):
        read_traces(write(tmp_path, f"Time ({unit}),V (V),I (A)\n0,0,0\n1,1,1\n"))


@pytest.mark.parametrize("unit", ["kOhm", "KOhm", "kohm", "kΩ", "kilo ohm", "KOHM"])
def test_kiloohm_and_the_small_prefix_stay_apart(unit: str, tmp_path: Path) -> None:
    (table,) = read_tables(write(tmp_path, f"pulse,Resistance ({unit}),small (mohm),large (Mohm)\n1,2,2,2\n2,4,4,4\n"))
    assert table["Resistance"].tolist() == [2e3, 4e3]
    assert table["small"].tolist() == [2e-3, 4e-3]
    assert table["large"].tolist() == [2e6, 4e6]


@pytest.mark.parametrize(
    "above",
    ["Voltage,Current\nmV,uA\n", "mV,uA\nVoltage,Current\n", "Voltage,Current\nmV,uA\nforward,device 3\n"],
    ids=["below", "above", "below, with Origin's comments"],
)
def test_row_of_units_around_the_names(above: str, tmp_path: Path) -> None:
    assert_same(read_trace(write(tmp_path, above + rows(v=1e3, i=1e6))))


@pytest.mark.parametrize("line", ["# units: V, uA", "# Current in uA", "Unit,V,uA", "Current scale,1e-6"])
def test_unit_in_a_line_above_is_not_passed_over(line: str, tmp_path: Path) -> None:
    path = write(tmp_path, f"{line}\nVoltage,Current\n" + rows(i=1e6))
    with pytest.raises(DevicelabError, match="a line above it seems to"):
        read_traces(path)
    assert_same(read_trace(path, units={"v": "V", "i": "uA"}))


def test_lines_above_give_compliance_temperature_area_and_device(tmp_path: Path) -> None:
    above = "# Compliance: 1 mA\n# Temperature: 85 °C\n# Area (um2): 100\n# Device: A12\n# Gate leakage: 3\n"
    meta = read_trace(write(tmp_path, above + "Voltage (V),Current (A)\n" + rows())).meta
    assert meta["compliance"] == pytest.approx(1e-3)
    assert meta["temperature"] == pytest.approx(358.15)
    assert meta["area"] == pytest.approx(1e-10)
    assert meta["device"] == "A12"
    bare = read_trace(write(tmp_path, "# Compliance: 1\nVoltage (V),Current (A)\n" + rows())).meta
    assert "compliance" not in bare  # ampere or milliampere: nobody says


@pytest.mark.parametrize("cells", ["500;1,500\n1,000;4,000\n500;2,000\n", "500;1500\n1,000;4000\n"])
def test_commas_that_may_part_thousands_are_refused(cells: str, tmp_path: Path) -> None:
    with pytest.raises(DevicelabError, match=r"part thousands|text amid the numbers"):
        read_traces(write(tmp_path, "Voltage (mV);Current (nA)\n0;0\n" + cells + "0;0\n"))


def test_rows_are_not_lost_to_a_cell_with_a_thousands_separator(tmp_path: Path) -> None:
    """`1,000;4` amid decimal points was once taken for the header of a new table, and all below it left out."""
    with pytest.raises(DevicelabError, match="line 4: '1,000;4'"):
        read_traces(write(tmp_path, "Voltage (mV);Current (uA)\n0;0\n500;1.5\n1,000;4\n500;2\n0;0\n"))


def test_rows_are_not_lost_to_a_word_in_the_first_column(tmp_path: Path) -> None:
    with pytest.raises(DevicelabError, match="line 4: 'overrange,4'"):
        read_traces(write(tmp_path, "Voltage (V),Current (uA)\n0,0\n0.5,1.5\noverrange,4\n0.5,2\n0,0\n"))


def test_rows_parted_in_another_way_are_not_lost(tmp_path: Path) -> None:
    first, second = "Voltage (V),Current (A)\n" + rows(), "Voltage (V);Current (A)\n" + rows(sep=";")
    for text in (first + second, second + first):
        with pytest.raises(DevicelabError, match="parted in two ways"):
            read_traces(write(tmp_path, text))


@pytest.mark.parametrize("joined", ["\n", "\n\n\n", "\ufeff"])
def test_joined_exports_are_two_traces_in_their_own_units(joined: str, tmp_path: Path) -> None:
    text = "Voltage (V),Current (uA)\n" + rows(i=1e6) + joined + "Voltage (mV),Current (nA)\n" + rows(v=1e3, i=1e9)
    traces = read_traces(write(tmp_path, text))
    assert len(traces) == 2
    for trace in traces:
        assert_same(trace)


ASIDE = {
    # header: what the metadata of the two sweeps say
    "V (V),I (uA),V (V),I (uA)": ("part", [1, 2]),
    "V_V,I_uA,V_V.1,I_uA.1": ("part", [1, 2]),
    "Device A,,Device B,\nV (V),I (uA),V (V),I (uA)": ("group", ["Device A", "Device B"]),
    "Cycle 1,,Cycle 2,\nV (V),I (uA),V (V),I (uA)": ("cycle", [1, 2]),
}


@pytest.mark.parametrize("head", ASIDE)
def test_sweeps_side_by_side_keep_their_own_voltage(head: str, tmp_path: Path) -> None:
    body = "".join(f"{v},{i * 1e6:.9g},{2 * v},{i * 3e6:.9g}\n" for v, i in zip(V, I, strict=True))
    first, second = read_traces(write(tmp_path, f"{head}\n{body}"))
    assert_same(first)
    assert_same(second, v=2.0, i=3.0)
    key, said = ASIDE[head]
    assert [trace.meta[key] for trace in (first, second)] == said


def test_currents_that_are_left_out_are_named(tmp_path: Path) -> None:
    body = "".join(f"{v},{i:.9g},{2 * i:.9g}\n" for v, i in zip(V, I, strict=True))
    trace = read_trace(write(tmp_path, "Voltage (V),I1 (A),I2 (A)\n" + body))
    assert_same(trace)
    assert trace.meta["other_currents"] == ["I2"]


def test_one_voltage_and_several_currents_of_one_name(tmp_path: Path) -> None:
    body = "".join(f"{k},{v},{i:.9g},{2 * i:.9g}\n" for k, (v, i) in enumerate(zip(V, I, strict=True)))
    first, second = read_traces(write(tmp_path, "t (s),V (V),I (A),I (A)\n" + body))
    assert_same(first)
    assert_same(second, i=2.0)
    assert second.t.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("minus", ["-", "\u2212"])
def test_typographic_minus_is_a_minus(minus: str, tmp_path: Path) -> None:
    text = f"Voltage (V),Current (A)\n0,0\n{minus}0.5,{minus}1e{minus}6\n{minus}1,{minus}2e-6\n"
    assert read_trace(write(tmp_path, text)).v.tolist() == [0.0, -0.5, -1.0]
    assert read_trace(write(tmp_path, text)).i.tolist() == [0.0, -1e-6, -2e-6]


def test_time_zones_and_midnight_are_times(tmp_path: Path) -> None:
    text = "Time,V,I\n" + "".join(f"2021-01-01T00:00:0{k}+01:00,{k},{k}\n" for k in range(3))
    assert read_trace(write(tmp_path, text)).t.tolist() == [0, 1, 2]
    openpyxl = pytest.importorskip("openpyxl", reason="openpyxl writes the sample workbook")
    book = openpyxl.Workbook()
    book.active.append(["Time", "V (V)", "I (A)"])
    for k in range(3):
        book.active.append([datetime(2024, 1, 1, 0, 0, k), k, k])  # the first stamp comes back as a mere date
    book.save(tmp_path / "a.xlsx")
    trace = read_trace(tmp_path / "a.xlsx")
    assert trace.t.tolist() == [0, 1, 2]
    assert trace.meta["time"] == "measured"


def test_truth_in_a_cell_of_a_workbook_is_no_number(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl", reason="openpyxl writes the sample workbook")
    book = openpyxl.Workbook()
    for row in (["V (V)", "I (A)"], [0, 0], [1, True], [2, 2]):
        book.active.append(row)
    book.save(tmp_path / "a.xlsx")
    with pytest.raises(DevicelabError, match="'True' in column 'I'"):
        read_traces(tmp_path / "a.xlsx")


def zipped(data: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr("a.csv", data)
    return out.getvalue()


@pytest.mark.parametrize(
    ("pack", "name"),
    [(zipped, "zip archive"), (bz2.compress, "bzip2"), (lambda d: gzip.compress(gzip.compress(d)), "gzip within gzip")],
)
def test_packed_files_say_what_they_are(pack: Callable[[bytes], bytes], name: str, tmp_path: Path) -> None:
    with pytest.raises(DevicelabError, match=rf"is packed(?s:.*){name}(?s:.*)unpack it first"):
        read_traces(write(tmp_path, pack(b"V,I\n0,0\n1,1\n")))


EASYEXPERT = """SetupTitle, test
PrimitiveTest, I/V Sweep
TestParameter, Channel.IName, I1
TestParameter, Channel.VName, V1
TestParameter, Channel.Mode, V
TestParameter, Channel.Func, VAR1
Dimension1, 5
Dimension2, 1
DataName, V1, I1
"""


def test_easyexpert_with_decimal_commas_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DevicelabError, match="decimal commas"):
        read_traces(write(tmp_path, EASYEXPERT + "DataValue, 0,0, 1,5E-6\n" * 4))


def test_easyexpert_cut_off_within_a_number_loses_that_row(tmp_path: Path) -> None:
    """`2e-06` cut to `2` would be two amperes."""
    data = "".join(f"DataValue, {v}, {i:.9g}\n" for v, i in zip(V[:4], I[:4], strict=True))
    whole = read_trace(write(tmp_path, EASYEXPERT + data))
    cut = read_trace(write(tmp_path, (EASYEXPERT + data)[: -len("e-06\n")]))
    assert (len(whole), len(cut)) == (4, 3)
    assert cut.meta["incomplete"] == "3 of 5 rows"


def test_names_and_links_of_every_sort_are_found_once_and_reported(tmp_path: Path) -> None:
    names = ["a[1].csv", "b*.csv", "new\nline.csv", "-dash.csv", "电压.csv", "a;b,c.csv", "x" * 240 + ".csv"]
    for name in names:
        write(tmp_path, "V,I\n0,0\n1,1\n", name)
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "self.csv").symlink_to(tmp_path / "self.csv")
    (tmp_path / "gone.csv").symlink_to(tmp_path / "nowhere.csv")
    (tmp_path / "folder.csv").mkdir()
    found = {path.name for path in find_files(tmp_path)}
    assert found == {*names, "self.csv", "gone.csv"}
    assert [path.name for path in find_files(str(tmp_path / "a[1].csv"))] == ["a[1].csv"]
    data = read_dataset(tmp_path)
    assert len(data) == len(names)
    assert sorted(Path(failure.path).name for failure in data.failures) == ["gone.csv", "self.csv"]
    done = read_into_store(tmp_path, tmp_path / "all.h5")
    assert (done.traces, len(done.failures)) == (len(names), 2)


def test_name_in_another_code_page_survives_the_store(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    name = b"strom_\xb5A.csv".decode("utf-8", "surrogateescape")  # the micro sign of Windows-1252
    try:
        (folder / name).write_text("V,I\n0,0\n1,1\n")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    read_into_store(folder, tmp_path / "all.h5")
    with open_store(tmp_path / "all.h5") as store:
        assert store[0].meta["file"] == name


def test_script_without_a_guard_ends_with_an_error_and_not_in_a_loop(tmp_path: Path) -> None:
    write(tmp_path, "V,I\n0,0\n1,1\n")
    script = tmp_path / "script.py"
    script.write_text(
        f"from devicelab.readers import read_dataset\nread_dataset({str(tmp_path / 'file.csv')!r}, workers=2)\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert 'allowed: a script that runs nothing when imported: if __name__ == "__main__":' in done.stderr
    assert "ParameterError: the processes that read files end as soon as they start" in done.stderr


@pytest.mark.parametrize("paths", ["", [], [" "]])
def test_no_path_is_not_the_folder_that_one_stands_in(paths: object) -> None:
    with pytest.raises(DevicelabError, match="no files named"):
        find_files(paths)  # type: ignore[arg-type]
