"""Formats without a measured sample, in small files written from the vendors' documented layout."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from devicelab.errors import FileFormatError
from devicelab.readers import read_tables, read_trace, read_traces


def write(folder: Path, content: str, name: str) -> Path:
    (folder / name).write_text(content, encoding="utf-8")
    return folder / name


ARC_ONE = """session of 12 May
2024-05-12 10:11:12
Wordline,Bitline,Resistance,Amplitude (V),Pulse width (s),Tag,ReadTag,ReadVoltage
1,2,10000.0,0.2,0.0,S R,R,0.2
1,2,8000.0,1.0,1e-06,P,R,0.2
5,6,5000.0,0.2,0.0,S R,R,0.5
1,2,4000.0,1.1,1e-06,P,R,0.2
5,6,2500.0,1.0,1e-06,P,R,0.5
"""


@pytest.mark.parametrize("packed", [False, True])
def test_arc_one_gives_read_current_for_each_crosspoint(packed: bool, tmp_path: Path) -> None:
    path = write(tmp_path, ARC_ONE, "arc.csv")
    if packed:
        path = tmp_path / "arc.csv.gz"
        path.write_bytes(gzip.compress(ARC_ONE.encode()))
    one, two = read_traces(path)
    assert one.meta["profile"] == "arc_one"
    assert (one.meta["Wordline"], one.meta["Bitline"]) == (1, 2)
    np.testing.assert_allclose(one.i, [20e-6, 25e-6, 50e-6], rtol=1e-14)  # 0.2 V over 10, 8 and 4 kohm
    np.testing.assert_allclose(two.i, [100e-6, 200e-6], rtol=1e-14)
    assert one.meta["derived"] == "i = 'ReadVoltage' / 'Resistance'"
    (table,) = read_tables(path)
    assert table["Pulse width"].tolist() == [0.0, 1e-6, 0.0, 1e-6, 1e-6]
    assert table["Tag"].tolist() == ["S R", "P", "S R", "P", "P"]


LVM_HEAD = """LabVIEW Measurement
Writer_Version\t2
Reader_Version\t2
Separator\tTab
Decimal_Separator\t{decimal}
Multi_Headings\tYes
X_Columns\t{x}
Time_Pref\tRelative
Operator\tLab
Date\t2024/05/12
Time\t10:11:12{decimal}5
***End_of_Header***
\t
"""
LVM_SEGMENT = """Channels\t2
Samples\t3\t3
Date\t2024/05/12\t2024/05/12
Time\t10:11:12{decimal}5\t10:11:12{decimal}5
Y_Unit_Label\tVolts\t{unit}
X_Dimension\tTime\tTime
X0\t1{decimal}0E+0\t1{decimal}0E+0
Delta_X\t0{decimal}5\t0{decimal}5
***End_of_Header***
X_Value\tVoltage\tCurrent\tComment
"""


def lvm(decimal: str, x: str, unit: str = "Amps") -> str:
    times = ["", "", ""] if x == "No" else ["1.0", "1.5", "2.0"]
    rows = [f"{t}\t{v}\t{i}" for t, v, i in zip(times, ["0.0", "0.5", "1.0"], ["1e-6", "2E-6", "3.5E-6"], strict=True)]
    return LVM_SEGMENT.format(decimal=decimal, unit=unit) + "\n".join(rows).replace(".", decimal) + "\n"


@pytest.mark.parametrize("decimal", [".", ","])
@pytest.mark.parametrize("x", ["No", "One"])
def test_labview_decimal_sign_and_time_step_come_from_the_header(decimal: str, x: str, tmp_path: Path) -> None:
    trace = read_trace(write(tmp_path, LVM_HEAD.format(decimal=decimal, x=x) + lvm(decimal, x), "a.lvm"))
    np.testing.assert_allclose(
        [trace.t, trace.v, trace.i], [[1, 1.5, 2], [0, 0.5, 1], [1e-6, 2e-6, 3.5e-6]], rtol=1e-15
    )
    assert trace.meta["profile"] == "lvm"
    assert trace.meta["units"] == {"t": "s", "v": "Volts", "i": "Amps"}


def test_labview_segments_are_traces(tmp_path: Path) -> None:
    text = LVM_HEAD.format(decimal=".", x="One") + lvm(".", "One") + "\n" + lvm(".", "One", "Milliamps")
    first, second = read_traces(write(tmp_path, text, "a.lvm"))
    assert (first.meta["run"], second.meta["run"]) == (1, 2)
    np.testing.assert_allclose(second.i, first.i * 1e-3, rtol=1e-14)


def test_labview_without_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="holds no numbers"):
        read_traces(write(tmp_path, LVM_HEAD.format(decimal=".", x="No"), "a.lvm"))


MDM = """! VERSION = 6.00
BEGIN_HEADER
 ICCAP_INPUTS
  vd         V  D GROUND SMU1 0.001 LIN 1 0 1 3 0.5
  vg         V  G GROUND SMU2 0.01  LIN 2 1 2 2 1
  vs         V  S GROUND SMU3 0.1   CON 0
 ICCAP_OUTPUTS
  id         I  D GROUND SMU1 B
 ICCAP_VALUES
  TEMP "27"
END_HEADER

BEGIN_DB
 ICCAP_VAR vg  1
 ICCAP_VAR vs  0

 #vd    id
 0      0
 0.5    1E-6
 1      2E-6
END_DB

BEGIN_DB
 ICCAP_VAR vg  2
 ICCAP_VAR vs  0

 #vd    id
 0      0
 0.5    2E-6
 1      4E-6
END_DB
"""


def test_iccap_blocks_are_steps_and_nodes_pair_voltage_with_current(tmp_path: Path) -> None:
    first, second = read_traces(write(tmp_path, MDM, "a.mdm"))
    assert first.meta["columns"] == {"v": "vd", "i": "id"}
    assert [trace.meta["outer"]["vg"] for trace in (first, second)] == [1.0, 2.0]
    assert first.meta["compliance"] == 0.001
    np.testing.assert_array_equal(second.i, [0, 2e-6, 4e-6])
    np.testing.assert_array_equal(first.v, [0, 0.5, 1])


def test_iccap_file_cut_off_in_a_block_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="is cut off"):
        read_traces(write(tmp_path, MDM[:-40], "a.mdm"))


EASYEXPERT = """SetupTitle, {title}
{kind}, I/V Sweep
TestParameter, Channel.UnitType, SMU, SMU
TestParameter, Channel.IName, I1, I2
TestParameter, Channel.VName, V1, V2
TestParameter, Channel.Mode, V, COMMON
TestParameter, Channel.Func, VAR1, CONST
TestParameter, Measurement.Primary.Compliance, 0.001
MetaData, TestRecord.RecordTime, 01/11/2023 00:{minute}:24
MetaData, TestRecord.TestTarget, D7
{data}
"""
BY_ROW = "Dimension1, 3, 3\nDimension2, 1, 1\nDataName, V1, I1\nDataValue, 0, 0\nDataValue, 1, {i}\nDataValue, 2, 3E-06"
BY_COLUMN = (
    "Dimension1, 3, 3\nDimension2, 1, 1\nDataName, V1\nDataValue, 0, 1, 2\nDataName, I1\nDataValue, 0, {i}, 3E-06"
)


def record(i: str, minute: int, kind: str = "PrimitiveTest", data: str = BY_ROW) -> str:
    return EASYEXPERT.format(title="Sweep", kind=kind, minute=f"{minute:02d}", data=data.format(i=i))


@pytest.mark.parametrize("data", [BY_ROW, BY_COLUMN])
def test_easyexpert_by_row_and_by_column(data: str, tmp_path: Path) -> None:
    trace = read_trace(write(tmp_path, "\ufeff\n" + record("1E-06", 1, data=data), "a.csv"))
    np.testing.assert_array_equal([trace.v, trace.i], [[0, 1, 2], [0, 1e-6, 3e-6]])
    assert (trace.meta["compliance"], trace.meta["device"]) == (0.001, "D7")


def test_easyexpert_records_are_sorted_by_time(tmp_path: Path) -> None:
    path = write(tmp_path, record("2E-06", 40) + record("1E-06", 36), "a.csv")
    assert [trace.i[1] for trace in read_traces(path)] == [1e-6, 2e-6]


def test_easyexpert_application_test_is_not_counted_twice(tmp_path: Path) -> None:
    wrapped = record("1E-06", 1, kind="ApplicationTest").replace("V1, I1\nDataValue", "Vanode, Ianode\nDataValue")
    assert len(read_traces(write(tmp_path, wrapped + record("1E-06", 1), "a.csv"))) == 1
    alone = record("1E-06", 1, kind="ApplicationTest")
    assert len(read_traces(write(tmp_path, alone, "b.csv"))) == 1


def test_easyexpert_record_cut_short_says_so(tmp_path: Path) -> None:
    text = record("1E-06", 1).rsplit("DataValue", 1)[0]
    assert read_trace(write(tmp_path, text, "a.csv")).meta["incomplete"] == "2 of 3 rows"


def test_clarius_text_export_with_numbered_steps(tmp_path: Path) -> None:
    text = "DrainI(1)\tDrainV(1)\tDrainI(2)\tDrainV(2)\n" + "\n".join(
        f"{k}00.0000E-9\t{k}00.0000E-3\t{k}00.0000E-6\t{k}00.0000E-3" for k in (0, 1, 2)
    )
    first, second = read_traces(write(tmp_path, "\ufeff" + text, "a.txt"))
    assert first.meta["profile"] == "keithley4200_text"
    np.testing.assert_allclose(first.i, [0, 1e-7, 2e-7], rtol=1e-14)
    np.testing.assert_allclose(second.i, [0, 1e-4, 2e-4], rtol=1e-14)
    assert (first.meta["step"], second.meta["step"]) == (1, 2)


def test_numbered_steps_of_different_length(tmp_path: Path) -> None:
    text = "DrainI(1),DrainV(1),DrainI(2),DrainV(2)\n0,0,0,0\n1,1,1,1\n2,2,,\n"
    assert [len(trace) for trace in read_traces(write(tmp_path, text, "a.csv"))] == [3, 2]


def test_workbook_made_by_hand_needs_no_settings_sheet(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl", reason="openpyxl writes the sample workbook")
    book = openpyxl.Workbook()
    sheet = book.active
    for row in (["Sample 3"], ["Voltage (V)", "Current (uA)", "Note"], [0, 1, "first"], [0.5, 2, None], [1, 4, None]):
        sheet.append(row)
    book.create_sheet("remarks").append(["nothing to see"])
    book.save(tmp_path / "a.xlsx")
    trace = read_trace(tmp_path / "a.xlsx")
    np.testing.assert_allclose(trace.i, [1e-6, 2e-6, 4e-6], rtol=1e-15)
    assert (trace.meta["profile"], trace.meta["sheet"]) == ("workbook", "Sheet")
