"""Every measured file is read, and gives what a second, plain reading of the same file gives."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import python_calamine as calamine

from devicelab.errors import FileFormatError
from devicelab.readers import read_tables, read_traces
from devicelab.trace import Trace

DATA = Path(__file__).parents[3] / "shared" / "data"
NBSTO = "nbsto_schottky_timestamped"
PULSES = f"{NBSTO}/raw_data/pulses"
M12 = "rram_keithley4200_h16248L/M12"
SAMPLES = "format_samples"
SAME = 1e-12
"""Relative difference between two conversions of one decimal number: a few rounding errors."""

Curve = tuple[np.ndarray | None, np.ndarray, np.ndarray]
Reading = Callable[[Path], list[Curve]]

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"the measured sets are not at {DATA}")


def rows(path: Path, delimiter: str | None, skip: int, encoding: str = "utf-8-sig") -> list[list[str]]:
    lines = path.read_text(encoding=encoding, errors="strict").splitlines()[skip:]
    return [line.split(delimiter) if delimiter != "," else next(csv.reader([line])) for line in lines if line.strip()]


def columns(*where: int | None, delimiter: str | None = ",", skip: int = 1, scale_i: float = 1.0) -> Reading:
    """A plain reading of one curve in a text file: columns of t, v, i counted from 0."""

    def read(path: Path) -> list[Curve]:
        table = rows(path, delimiter, skip)
        t, v, i = (None if k is None else np.array([float(row[k]) for row in table]) for k in where)
        return [(t, v, i * scale_i)]

    return read


def by_label(label: int, *where: int | None, delimiter: str = ",", skip: int = 0) -> Reading:
    """A plain reading of several curves told apart by one column."""

    def read(path: Path) -> list[Curve]:
        table = np.array([[float(cell) for cell in row] for row in rows(path, delimiter, skip)])
        parts = [table[table[:, label] == name] for name in dict.fromkeys(table[:, label].tolist())]
        return [tuple(None if k is None else part[:, k] for k in where) for part in parts]

    return read


def sheets(*names: str) -> Reading:
    """A plain reading of the numeric columns of each data sheet, the oldest run first."""

    def read(path: Path) -> list[Curve]:
        book = calamine.CalamineWorkbook.from_path(str(path))
        runs = [name for name in book.sheet_names if name not in {"Calc", "Settings"}]
        curves = []
        for run in sorted(runs, key=lambda name: int(name.removeprefix("Run"))):
            head, *body = book.get_sheet_by_name(run).to_python()
            curves.append(tuple(np.array([row[head.index(name)] for row in body]) for name in names))
        return curves

    return read


def numbered_steps(path: Path) -> list[Curve]:
    """DrainI(k), DrainV(k), GateV(k) in threes, all sheets in file order."""
    book = calamine.CalamineWorkbook.from_path(str(path))
    curves: list[Curve] = []
    for name in book.sheet_names:
        if name not in {"Calc", "Settings"}:
            body = np.array(book.get_sheet_by_name(name).to_python()[1:], dtype=float)
            curves += [(None, body[:, k + 1], body[:, k]) for k in range(0, body.shape[1], 3)]
    return curves


def fet_gate(path: Path) -> list[Curve]:
    body = calamine.CalamineWorkbook.from_path(str(path)).get_sheet_by_name("Data").to_python()[1:]
    return [tuple(np.array([row[k] for row in body]) for k in (3, 5, 4))]


def data_values(
    *where: int, t: int | None = None, v: float | None = None, points: int = 0, newest_first: bool = False
) -> Reading:
    """The DataValue lines of an EasyEXPERT file: columns of v and i, or i and a constant v [V]."""

    def read(path: Path) -> list[Curve]:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
        cells = [line.split(",")[1:] for line in lines if line.startswith("DataValue")]
        table = np.array([[float(cell) for cell in row if cell.strip()] for row in cells])
        parts = np.split(table, range(points, len(table), points)) if points else [table]
        if newest_first:
            parts = parts[len(parts) // 2 :] + parts[: len(parts) // 2]
        if v is not None:
            return [(part[:, t], np.full(len(part), v), part[:, where[0]]) for part in parts]
        return [(None, part[:, where[0]], part[:, where[1]]) for part in parts]

    return read


def stamped(path: Path) -> list[Curve]:
    """Dates with nanoseconds of one minute: only the seconds after 02:33 count."""
    table = rows(path, ";", 1)
    seconds = [60 * int(row[0].split(":")[1]) + float(row[0].split(":")[2]) for row in table]
    t = np.array(seconds) - seconds[0]
    return [(t, np.array([float(row[2]) for row in table]), np.array([float(row[1]) for row in table]))]


def qtj(path: Path) -> list[Curve]:
    table = [line.split("\t")[:2] for line in path.read_text().splitlines()[3:] if line.strip()]
    v, i = np.array(table, dtype=float).T
    return [(None, v, i)]


def titled(path: Path) -> list[Curve]:
    """A 2612B script: titles split into letters above and below the numbers."""
    table = [row for row in rows(path, ",", 0) if len(row) == 3 and row[2] != "Timestamp"]
    v, i, t = np.array(table, dtype=float).T
    return [(t, v, i)]


def radius(path: Path) -> list[Curve]:
    """Two of these files were saved again without time: V1, I1, with or without absI."""
    where = (1, 2, 3) if path.read_text().startswith("Item") else (None, 0, 1)
    return columns(*where)(path)


IVT = "format_samples/easyexpert_b1500"
FILES: dict[str, tuple[int, int, Reading]] = {
    # pattern: number of files, traces in each, plain reading
    "vcm_w264740_40loops/*.csv": (1, 40, by_label(0, 1, 2, 3, skip=1)),
    "knowm_w_sdc_sine/*/*/*.csv": (52, 1, columns(None, 0, 1, skip=0, scale_i=1e-6)),
    f"{NBSTO}/Radius */*.csv": (23, 1, radius),
    f"{NBSTO}/Old device/*.csv": (4, 1, columns(0, 1, 2, delimiter=None)),
    f"{NBSTO}/small/*.csv": (11, 1, columns(None, 0, 1)),
    f"{NBSTO}/medium/*.csv": (11, 1, columns(None, 0, 1)),
    f"{NBSTO}/large/*.csv": (11, 1, columns(None, 0, 1)),
    f"{PULSES}/new_device/*_processed.txt": (8, 1, columns(None, 0, 2, delimiter="\t", skip=0)),
    f"{PULSES}/old_device/*steps_of_100mV*.txt": (1, 3, by_label(1, 0, 2, 3, delimiter="\t", skip=1)),
    f"{PULSES}/old_device/*100mV_500mV_1V*.txt": (1, 1, columns(0, 2, 3, delimiter="\t")),
    f"{M12}/00 Leakage.xlsx": (1, 1, sheets("Time", "AV", "AI")),
    f"{M12}/01 Electroforming.xlsx": (1, 1, sheets("Time", "AV", "AI")),
    f"{M12}/02 reset.xlsx": (1, 1, sheets("Time", "AV", "AI")),
    f"{M12}/03 endurance *set.xlsx": (2, 50, sheets("Time", "AV", "AI")),
    f"{M12}/04 endurance *set.xlsx": (2, 5, sheets("Time", "AV", "AI")),
    f"{M12}/05 endurance *set txt.txt": (2, 1, columns(0, 2, 1, delimiter="\t")),
    "ni_1t1r_rram_array/read_multivolt.tsv": (1, 320, by_label(0, None, 2, 1, delimiter="\t")),
    "ni_1t1r_rram_array/ret1.csv": (1, 1, columns(1, 5, 4, skip=0)),
    f"{SAMPLES}/acs_smu_csv/-2V_0.csv": (1, 1, columns(1, 2, 3)),
    f"{SAMPLES}/acs_smu_csv/olddevice*.csv": (1, 1, columns(0, 1, 2, delimiter=None)),
    f"{SAMPLES}/keithley2400_ieee_dump/*.txt": (1, 1, columns(3, 0, 1, delimiter=None, skip=0)),
    f"{SAMPLES}/keithley2450_script_csv/*.csv": (1, 1, stamped),
    f"{SAMPLES}/keithley2612b_csv/*.csv": (1, 1, titled),
    f"{SAMPLES}/keithley4200_clarius_xls/vds*.xls": (1, 35, numbered_steps),
    f"{SAMPLES}/keithley4200_clarius_xls/test*.xls": (1, 1, fet_gate),
    f"{SAMPLES}/pytxt_headerspace/*.txt": (1, 1, columns(2, 0, 1, delimiter="\t")),
    f"{SAMPLES}/qtj_text/*.qtj": (1, 1, qtj),
    f"{IVT}/1-10-6*.csv": (1, 6, data_values(0, 2, points=202, newest_first=True)),
    f"{IVT}/Gate*.csv": (1, 1, data_values(0, 2)),
    f"{IVT}/IV*.csv": (1, 1, data_values(0, 1)),
    f"{IVT}/U-1*.csv": (1, 1, data_values(3, t=0, v=3.0)),
}
TABLES: dict[str, tuple[int, int, int]] = {
    # pattern of files without current over voltage: number of files, rows, columns
    f"{M12}/03 endurance ratio.xlsx": (1, 50, 22),
    f"{M12}/04 endurance ratio.xlsx": (1, 10, 22),
    f"{M12}/05 endurance ratio *": (2, 1000, 22),
    f"{PULSES}/new_device/*mV.txt": (8, 805, 2),
    f"{PULSES}/old_device/*p1V_m1V_measure.txt": (1, 20, 3),
    f"{PULSES}/old_device/*p100mV_m1V_measure.txt": (1, 20, 3),
    f"{PULSES}/old_device/*p500mV_m1V_measure.txt": (1, 20, 4),
    f"{PULSES}/old_device/m4V*_measure_resistance.txt": (1, 20, 11),
    "gong2018_pulse_response/*.csv": (1, 1000, 2),
    "ni_1t1r_rram_array/*set_sweep.tsv": (2, 12000, 6),
    "ni_1t1r_rram_array/1us_endurance.tsv": (1, 10050, 4),
    "ni_1t1r_rram_array/100cyc.tsv": (1, 2048, 4),
    "ni_1t1r_rram_array/endurance_slow.tsv": (1, 1138, 3),
    "ni_1t1r_rram_array/p*bake110.tsv": (2, 16384, 2),
}
SCOPE = f"{SAMPLES}/scope_keysight_csv/tri_400m_1khz_old2_1_EXCERPT.csv"


def cases() -> Iterator[object]:
    for pattern, (_, count, read) in FILES.items():
        for path in sorted(DATA.glob(pattern)):
            yield pytest.param(path, count, read, id=path.relative_to(DATA).as_posix())


def test_every_measured_file_is_covered_here() -> None:
    covered = {SCOPE}
    for pattern, (files, *_) in (FILES | TABLES).items():
        found = {path.relative_to(DATA).as_posix() for path in DATA.glob(pattern)}
        assert len(found) == files, pattern
        assert not covered & found, f"{pattern} overlaps another pattern"
        covered |= found
    present = {p.relative_to(DATA).as_posix() for p in DATA.rglob("*") if p.is_file() and p.suffix != ".md"}
    assert covered == present
    assert len(present) == 172


@pytest.mark.parametrize(("path", "count", "plain"), list(cases()))
def test_traces_equal_a_plain_reading(path: Path, count: int, plain: Reading) -> None:
    traces, curves = read_traces(path), plain(path)
    assert len(traces) == len(curves) == count
    for trace, (t, v, i) in zip(traces, curves, strict=True):
        np.testing.assert_allclose(trace.v, v, rtol=SAME, atol=0)
        np.testing.assert_allclose(trace.i, i, rtol=SAME, atol=0)
        if t is not None and trace.meta["time"] == "measured":
            np.testing.assert_allclose(trace.t, t, rtol=SAME, atol=2e-9)  # dates are compared as seconds of an hour
        assert (t is None) == (not trace.meta["time"].startswith("measured"))
        assert len(trace.meta["sha256"]) == 64


@pytest.mark.parametrize("pattern", TABLES)
def test_files_without_current_over_voltage_are_tables(pattern: str) -> None:
    _, n_rows, n_columns = TABLES[pattern]
    for path in DATA.glob(pattern):
        (table,) = read_tables(path)
        assert (len(table), len(list(table))) == (n_rows, n_columns)
        with pytest.raises(FileFormatError, match=r"no current column|no voltage and no current column"):
            read_traces(path)


@pytest.mark.parametrize("pattern", [name for name in TABLES if name.startswith(("gong", "ni_"))])
def test_tables_without_header_equal_a_plain_reading(pattern: str) -> None:
    """All of these are in SI units, so that every column is as it stands in the file."""
    for path in DATA.glob(pattern):
        (table,) = read_tables(path)
        plain = np.loadtxt(path, delimiter="\t" if path.suffix == ".tsv" else ",")
        np.testing.assert_allclose(np.column_stack([table[name] for name in table]), plain, rtol=SAME, atol=0)


def test_extremes_of_tables() -> None:
    """Literal figures, looked up with `sort -g` in the files."""
    (table,) = read_tables(DATA / "ni_1t1r_rram_array" / "set_sweep.tsv")
    assert sorted(set(table["pulse width"].tolist())) == [2e-8, 4e-8, 1e-7, 2e-7, 4e-7, 1e-6, 2e-6]
    assert (table["gate voltage"].min(), table["gate voltage"].max()) == (0.5, 3.0)
    assert table.units["resistance after"] == "ohm"
    assert table["address"].max() == 23998


def only(pattern: str, **options: object) -> list[Trace]:
    (path,) = DATA.glob(pattern)
    return read_traces(path, **options)  # type: ignore[arg-type]


def test_oscilloscope_current_is_the_shunt_voltage_over_the_shunt() -> None:
    (path,) = DATA.glob(SCOPE)
    with pytest.raises(FileFormatError, match="shunt=<ohm>"):
        read_traces(path)
    x, one, two = np.loadtxt(path, delimiter=",", skiprows=2).T
    (trace,) = read_traces(path, shunt=1000.0, columns={"v": "2"})  # channel 2 is the 400 mV triangle
    np.testing.assert_allclose(trace.i, one / 1000.0, rtol=SAME)
    np.testing.assert_allclose(trace.v, two - one, rtol=SAME)
    np.testing.assert_allclose(trace.t, x, rtol=SAME)


def test_extremes_of_the_main_sets() -> None:
    """Literal figures, looked up by hand in the files, so that both readings above cannot be wrong together."""
    loops = only("vcm_w264740_40loops/*.csv")
    assert (len(loops), sum(map(len, loops)), {len(loop) for loop in loops}) == (40, 12540, {313, 314})
    assert min(loop.v.min() for loop in loops) == -1.46688
    assert max(loop.v.max() for loop in loops) == 1.50813
    assert min(loop.i.min() for loop in loops) == -0.000322215
    assert max(loop.i.max() for loop in loops) == 0.000423413
    assert loops[0].t[-1] == pytest.approx(9.984e-6, rel=1e-6)
    sets = only(f"{M12}/03 endurance set.xlsx")
    assert {len(trace) for trace in sets} == {502}
    assert min(trace.v.min() for trace in sets) == pytest.approx(-2.5, abs=1e-6)
    assert sets[0].meta["run"] == 173
    assert sets[-1].meta["run"] == 222


def test_settings_sheet_gives_compliance_and_cycle() -> None:
    sets = only(f"{M12}/03 endurance set.xlsx")
    assert {trace.meta["compliance"] for trace in sets} == {0.0005}
    assert [trace.meta["cycle"] for trace in sets] == list(range(1, 51))
    assert only(f"{M12}/00 Leakage.xlsx")[0].meta["compliance"] == 0.01
    assert only(f"{M12}/00 Leakage.xlsx")[0].meta["dual_sweep"] == "Enabled"


def test_second_terminal_of_a_transistor_can_be_chosen() -> None:
    (trace,) = only(f"{SAMPLES}/keithley4200_clarius_xls/test*.xls", columns={"v": "DrainV", "i": "DrainI"})
    assert trace.meta["compliance"] == 0.01
    assert trace.t[0] == pytest.approx(5.439459323883057)  # the Time before DrainI, not the one before GateI
    assert trace.i[0] == pytest.approx(1.0742175513911781e-13)


def test_var2_steps_carry_their_value() -> None:
    traces = only(f"{IVT}/1-10-6*.csv")
    assert [(t.meta["step_name"], t.meta["step_value"]) for t in traces] == 2 * [
        ("Vdd", 1.0),
        ("Vdd", 2.0),
        ("Vdd", 3.0),
    ]
    assert [t.meta["iteration"] for t in traces] == [4, 4, 4, 5, 5, 5]
    assert {t.meta["compliance"] for t in traces} == {1e-8}


def test_folder_name_gives_frequency_and_time_of_one_period() -> None:
    (trace,) = only("knowm_w_sdc_sine/5kohm/5kohm_.3V_10Hz_M2/Memristor.csv")
    assert (trace.meta["frequency"], trace.meta["device"], trace.meta["series_kohm"]) == (10, "M2", 5)
    assert trace.t[-1] == pytest.approx(0.1 * 199 / 200)
    assert trace.meta["units"] == {"v": "V", "i": "uA"}


def test_text_around_the_data_is_kept() -> None:
    (trace,) = only(f"{SAMPLES}/keithley2612b_csv/*.csv")
    assert "".join(trace.meta["trailer"][0].split(",")) == "Date and Time of measurement: 2021-08-31 22:00:51.074677"


@pytest.mark.parametrize(
    ("pattern", "profile"),
    [
        (f"{SAMPLES}/acs_smu_csv/-2V_0.csv", "acs_kickstart"),
        (f"{SAMPLES}/acs_smu_csv/olddevice*.csv", "generic"),
        (f"{SAMPLES}/keithley2400_ieee_dump/*.txt", "keithley2400"),
        (f"{SAMPLES}/keithley2450_script_csv/*.csv", "keithley2450"),
        (f"{SAMPLES}/keithley2612b_csv/*.csv", "keithley2612b"),
        (f"{SAMPLES}/keithley4200_clarius_xls/vds*.xls", "keithley4200"),
        (f"{M12}/05 endurance set txt.txt", "keithley4200_text"),
        (f"{SAMPLES}/qtj_text/*.qtj", "qtj"),
        (f"{IVT}/Gate*.csv", "easyexpert"),
        ("vcm_w264740_40loops/*.csv", "generic"),
    ],
)
def test_profile_taken_is_named_with_its_reason(pattern: str, profile: str) -> None:
    meta = only(pattern)[0].meta
    assert meta["profile"] == profile
    assert meta["profile_why"]
