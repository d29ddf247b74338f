"""Delimiter, header, columns and units are found from what is in the file, and never guessed in silence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from devicelab.errors import FileFormatError, ParameterError, TraceError
from devicelab.readers import join_traces, load_profile, profiles, read_tables, read_trace, read_traces

T, V, I = [0.0, 0.5, 1.0], [0.0, -0.25, 1.5], [1e-9, -2e-6, 3e-3]  # noqa: E741


def write(folder: Path, content: str, name: str = "file.csv") -> Path:
    (folder / name).write_text(content, encoding="utf-8")
    return folder / name


def rows(delimiter: str, *columns: list[float], decimal: str = ".") -> str:
    lines = [delimiter.join(f"{x!r}".replace(".", decimal) for x in row) for row in zip(*columns, strict=True)]
    return "\n".join(lines) + "\n"


HEADERS = {
    # header: factors that the columns t, v, i were divided by before writing
    "Time (s),Voltage (V),Current (A)": (1, 1, 1),
    "t_s,V_V,I_A": (1, 1, 1),
    "Time,AV,AI": (1, 1, 1),
    "Time,V1,I1": (1, 1, 1),
    "t,V,I": (1, 1, 1),
    "t,U,I": (1, 1, 1),
    "time,v,i": (1, 1, 1),
    "s,V,A": (1, 1, 1),
    "ms,mV,uA": (1e-3, 1e-3, 1e-6),
    'Time [ms],"Voltage [mV]","Current [uA]"': (1e-3, 1e-3, 1e-6),
    "Time (us),Voltage (kV),Current (pA)": (1e-6, 1e3, 1e-12),
    "t / ns,U / mV,I / nA": (1e-9, 1e-3, 1e-9),
    "Time in ms,Voltage in mV,Current in µA": (1e-3, 1e-3, 1e-6),
    "Time (in second),Voltage (in Volt),Current (in Ampere)": (1, 1, 1),
    "Time (min),Voltage (V),Current (microampere)": (60, 1, 1e-6),
    "t_ms,V_mV,I_uA": (1e-3, 1e-3, 1e-6),
    "Timestamp,Bias Voltage (V),Measured Current (mA)": (1, 1, 1e-3),
    "Elapsed Time (s),SMU1 Voltage (V),SMU1 Current (A)": (1, 1, 1),
    "Smu1.Time[1][1],Smu1.V[1][1],Smu1.I[1][1]": (1, 1, 1),
    "Zeit (s),Spannung (V),Strom (µA)": (1, 1, 1e-6),
    "time/s,Ewe/V,<I>/mA": (1, 1, 1e-3),
    "Time(s),U[V],I[mA]": (1, 1, 1e-3),
    "Time (s),WE(1).Potential (V),WE(1).Current (A)": (1, 1, 1),
    "t_s,V_measured,I_measured": (1, 1, 1),
    "T (s),Vd,Id": (1, 1, 1),
    "Elapsed Time (s),Drain Voltage (V),Drain Current (A)": (1, 1, 1),
}


@pytest.mark.parametrize("header", HEADERS)
def test_header_names_columns_and_units(header: str, tmp_path: Path) -> None:
    t, v, i = (np.divide(x, scale).tolist() for x, scale in zip((T, V, I), HEADERS[header], strict=True))
    trace = read_trace(write(tmp_path, header + "\n" + rows(",", t, v, i)))
    np.testing.assert_allclose(trace.t, T, rtol=1e-14)
    np.testing.assert_allclose(trace.v, V, rtol=1e-14)
    np.testing.assert_allclose(trace.i, I, rtol=1e-14)


def test_units_are_said_to_be_assumed_when_the_file_states_none(tmp_path: Path) -> None:
    meta = read_trace(write(tmp_path, "t,V,I\n" + rows(",", T, V, I))).meta
    assert meta["units"]["i"] == "A (assumed, the file states none)"
    assert meta["columns"] == {"v": "V", "i": "I", "t": "t"}


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|", " ", "   ", " \t"])
@pytest.mark.parametrize("decimal", [".", ","])
def test_delimiter_and_decimal_sign_are_found(delimiter: str, decimal: str, tmp_path: Path) -> None:
    if delimiter == decimal:
        pytest.skip("numbers and columns cannot both use the comma")
    head = ["t_s", "V_V", "I_A"]
    trace = read_trace(write(tmp_path, delimiter.join(head) + "\n" + rows(delimiter, T, V, I, decimal=decimal)))
    np.testing.assert_array_equal([trace.t, trace.v, trace.i], [T, V, I])


@pytest.mark.parametrize(
    ("number", "value"),
    [("198.8988E-3", 0.1988988), ("000.0000E+0", 0.0), ("-7.492148E-03", -0.007492148), ("+793.027E-06", 793.027e-6),
     ("1.5D-9", 1.5e-9), (".5", 0.5), ("5.", 5.0), ("1e3", 1000.0)],
)  # fmt: skip
def test_engineering_and_fortran_exponents_are_numbers(number: str, value: float, tmp_path: Path) -> None:
    trace = read_trace(write(tmp_path, f"V (V),I (A)\n0,{number}\n1,1e-3\n"))
    assert trace.i[0] == pytest.approx(value, rel=1e-15)


@pytest.mark.parametrize(
    "above",
    [
        "Voltage (V),Current (A)\n",
        "# a comment\n# Voltage (V),Current (A)\n",
        "Sample 7\n12.3.2024\n\nVoltage (V),Current (A)\n",
        "Voltage,Current\nV,A\n",
        "Voltage,Current\n(V),(A)\n",
        "\ufeffVoltage (V),Current (A),\n",
    ],
)
def test_header_is_found_below_titles_comments_and_above_units(above: str, tmp_path: Path) -> None:
    trace = read_trace(write(tmp_path, above + "0,1e-6\n1,2e-6\n"))
    np.testing.assert_array_equal([trace.v, trace.i], [[0, 1], [1e-6, 2e-6]])


def test_columns_need_no_order_and_others_are_left_alone(tmp_path: Path) -> None:
    text = "Item,abs(I),Current (A),R (ohm),Voltage (V),Note\n1,1,-1,2,0,ok\n2,2,-2,3,1,ok\n"
    trace = read_trace(write(tmp_path, text))
    assert trace.i.tolist() == [-1, -2]
    assert trace.v.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("header", "v", "i"),
    [
        ("Vset,Iset,Vmeas,Imeas", "Vmeas", "Imeas"),
        ("V_source,V_measured,I_measured,Z", "V_measured", "I_measured"),
        ("Id,Voltage,Current,Z", "Voltage", "Current"),
        ("AI,AV,I,ID", "AV", "AI"),
        ("ILRS,VSET,AI,AV", "AV", "AI"),
        ("Gate Voltage,Gate Current,Drain Voltage,Drain Current", "Drain Voltage", "Drain Current"),
    ],
)
def test_columns_that_belong_together_are_taken(header: str, v: str, i: str, tmp_path: Path) -> None:
    """Column 3 spans most; where names leave a choice, the swept terminal is the one meant."""
    text = header + "\n" + rows(",", [0.1, 0.2, 0.3], [0.1, 0.2, 0.3], [0.0, 1.0, 2.0], [1.0, 2.0, 3.0])
    assert read_trace(write(tmp_path, text)).meta["columns"] == {"v": v, "i": i}


def test_bare_capital_t_is_not_taken_for_time(tmp_path: Path) -> None:
    assert read_trace(write(tmp_path, "V,I,T\n0,0,300.1\n1,1,300.2\n")).meta["time"].startswith("synthetic")


def test_caller_names_columns_and_units_of_a_file_without_header(tmp_path: Path) -> None:
    path = write(tmp_path, "1,5\n2,6\n")
    trace = read_trace(path, columns={"v": 1, "i": 2}, units={"i": "uA"}, rate=1e3)
    np.testing.assert_allclose(trace.i, [5e-6, 6e-6], rtol=1e-15)
    np.testing.assert_allclose(trace.t, [0, 1e-3], rtol=1e-15)
    assert trace.meta["time"] == "uniform: 1000 samples per second"


def test_time_is_synthetic_only_where_the_file_has_none(tmp_path: Path) -> None:
    path = write(tmp_path, "V,I\n0,0\n1,1\n2,2\n")
    assert read_trace(path).t.tolist() == [0, 1, 2]
    assert read_trace(path).meta["time"].startswith("synthetic: 1 s per sample")
    assert read_trace(path, duration=4.0).t.tolist() == [0, 2, 4]
    assert read_trace(write(tmp_path, "t,V,I\n0,0,0\n1,1,1\n")).meta["time"] == "measured"


def test_samples_that_share_a_stamp_are_spread_up_to_the_next(tmp_path: Path) -> None:
    text = "t,V,I\n" + rows(",", [0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 3.0, 3.0], list(range(8)), [1.0] * 8)
    trace = read_trace(write(tmp_path, text))
    np.testing.assert_allclose(trace.t, [0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5], rtol=1e-15)
    assert "4 repeated stamps of a coarse clock" not in trace.meta["time"]
    assert "5 repeated stamps of a coarse clock" in trace.meta["time"]


def test_clock_that_restarts_parts_the_file_on_request(tmp_path: Path) -> None:
    path = write(tmp_path, "t,V,I\n0,0,0\n1,1,1\n0,0,2\n1,1,3\n2,2,4\n")
    with pytest.raises(TraceError, match="split='time'"):
        read_traces(path)
    assert [trace.i.tolist() for trace in read_traces(path, split="time")] == [[0, 1], [2, 3, 4]]


@pytest.mark.parametrize("name", ["cycle", "Cycle #", "loop", "Sweep No.", "repeat #", "cycle_number"])
def test_cycle_column_parts_the_file(name: str, tmp_path: Path) -> None:
    path = write(tmp_path, f"{name},V (V),I (A)\n3,0,0\n3,1,1\n4,0,2\n4,1,3\n")
    traces = read_traces(path)
    assert [(trace.meta["cycle"], trace.i.tolist()) for trace in traces] == [(3, [0, 1]), (4, [2, 3])]
    assert len(read_traces(path, split="none")) == 1


def test_sign_of_the_voltage_parts_cycles_on_request(tmp_path: Path) -> None:
    lobe = [0, 1, 2, 1, 0, -1, -2, -1]
    noisy = [0.01, -0.01, 0.02, -0.02]  # around zero, where the sign says nothing
    volts = lobe + lobe + noisy + lobe + [0]
    path = write(tmp_path, "V (V),I (A)\n" + rows(",", [float(v) for v in volts], [1.0] * len(volts)))
    cycles = read_traces(path, split="voltage")
    assert [len(cycle) for cycle in cycles] == [8, 8, 13]
    assert [cycle.meta["cycle"] for cycle in cycles] == [1, 2, 3]
    assert all(cycle.v.max() == 2 and cycle.v.min() == -2 for cycle in cycles)


def test_branches_in_two_files_are_joined_in_time(tmp_path: Path) -> None:
    up = read_trace(write(tmp_path, "t,V,I\n0,0,0\n1,1,1\n2,2,2\n", "up.csv"))
    down = read_trace(write(tmp_path, "t,V,I\n7,2,2\n8,1,1\n9,0,0\n", "down.csv"))
    loop = join_traces([up, down])
    assert loop.t.tolist() == [0, 1, 2, 3, 4, 5]
    assert loop.v.tolist() == [0, 1, 2, 2, 1, 0]
    assert loop.meta["joined"] == ["up.csv", "down.csv"]


def test_temperature_column_with_its_unit_is_kept(tmp_path: Path) -> None:
    path = write(tmp_path, "V (V),I (A),Temperature (°C)\n0,0,20\n1,1,30\n")
    assert read_trace(path).meta["temperature"] == pytest.approx(298.15)


def test_any_column_parts_the_file_on_request(tmp_path: Path) -> None:
    path = write(tmp_path, "cell,gate,V (V),I (A)\n1,2,0,0\n1,2,1,1\n1,3,0,2\n1,3,1,3\n")
    assert [trace.meta["gate"] for trace in read_traces(path, split=("cell", "gate"))] == [2, 3]


def test_repeated_header_and_numbered_titles_start_a_new_trace(tmp_path: Path) -> None:
    body = "Voltage (V),Current (A)\n0,0\n1,1\n"
    assert len(read_traces(write(tmp_path, body + body))) == 2
    traces = read_traces(write(tmp_path, "Voltage (V),Current (A)\n# Cycle 1\n0,0\n1,1\n# Cycle 2\n0,0\n1,2\n"))
    assert [trace.meta.get("cycle") for trace in traces] == [1, 2]
    assert [trace.i[-1] for trace in traces] == [1, 2]


def test_gzip_is_read_as_what_it_holds(tmp_path: Path) -> None:
    import gzip
    import hashlib

    packed = gzip.compress(b"V (V),I (A)\n0,0\n1,1\n")
    (tmp_path / "a.csv.gz").write_bytes(packed)
    trace = read_trace(tmp_path / "a.csv.gz")
    assert trace.i.tolist() == [0, 1]
    assert trace.meta["sha256"] == hashlib.sha256(packed).hexdigest()


PROFILE = """
title = "our probe station"
units = { i = "nA" }

[detect]
head = '^station: (\\w+)'

[layout]
delimiter = "space"
names = ["Voltage [V]", "Current"]
header = "none"

[extract]
device = 'chip (\\w+)'
temperature = 'T=([\\d.]+)K'

[meta]
instrument = "our probe station"
"""
STATION = "station: A3\nchip Q7 at T=300.5K\n0 1\n1 2\n"


def test_own_profile_by_path_by_folder_and_beside_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write(tmp_path, STATION, "a.dat")
    (tmp_path / "profiles").mkdir()
    profile = write(tmp_path / "profiles", PROFILE, "station.toml")
    for options in ({"profile": profile}, {"profile": str(profile)}, {"profile": load_profile(profile)}):
        trace = read_trace(data, **options)  # type: ignore[arg-type]
        np.testing.assert_allclose(trace.i, [1e-9, 2e-9], rtol=1e-15)
        assert (trace.meta["device"], trace.meta["temperature"]) == ("Q7", 300.5)
        assert trace.meta["profile_why"] == "given by the caller"
    monkeypatch.setenv("DEVICELAB_PROFILES", str(tmp_path / "profiles"))
    assert read_trace(data).meta["profile_why"] == "it says 'station: A3'"
    monkeypatch.delenv("DEVICELAB_PROFILES")
    write(tmp_path, PROFILE, "devicelab-profile.toml")
    assert read_trace(data).meta["profile"] == "devicelab-profile"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("[detect\n", "not valid TOML"),
        ("reder = 'text'\n", "did you mean reader"),
        ("[layout]\ndelimeter = ','\n", "did you mean delimiter"),
        ("reader = 'txt'\n", "did you mean text"),
        ("[detect]\nhead = '('\n", "broken pattern"),
        ("layout = 3\n", "must be a table"),
    ],
)
def test_broken_profile_says_where(wrong: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=words):
        load_profile(write(tmp_path, wrong, "p.toml"))


def test_profile_for_text_does_not_take_a_workbook(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="does not read this kind of file"):
        read_traces(write(tmp_path, "V,I\n0,0\n"), profile="keithley4200")


def test_built_in_profiles_have_titles_and_say_when_they_apply() -> None:
    for profile in profiles():
        assert profile.title, profile.name
        assert profile.detect.head or profile.detect.path or profile.detect.kind, profile.name


def test_density_and_logarithm_are_no_current(tmp_path: Path) -> None:
    for name in ("Current density (A/cm2)", "log I", "|I| (A)", "in", "item", "Compliance current (A)", "I_norm"):
        with pytest.raises(FileFormatError, match="no current column"):
            read_traces(write(tmp_path, f"Voltage (V),{name}\n0,1\n1,2\n"))


def test_tables_keep_words_and_scale_numbers(tmp_path: Path) -> None:
    (table,) = read_tables(write(tmp_path, "Device,R (kohm),T (°C)\nA,1,25\nB,2,50\n"))
    assert table["Device"].tolist() == ["A", "B"]
    assert table["R"].tolist() == [1000.0, 2000.0]
    np.testing.assert_allclose(table["T"], [298.15, 323.15], rtol=1e-15)
    assert dict(table.units) == {"Device": "", "R": "ohm", "T": "K"}
