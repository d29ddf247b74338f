"""Which kind of measurement a file holds, and the command over all of them: hostile input, interruptions."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from characterise_cases import abrupt

import devicelab.characterise.survey as survey_module
from devicelab.characterise import nonlinearity_label, pulse_response, series_of
from devicelab.cli import main
from devicelab.errors import FileFormatError
from devicelab.noise import telegraph
from devicelab.readers import read_tables
from devicelab.tracefile import write_csv

TABLE = {126.268958: 0.01, 2.519877: 0.5, 1.251653: 1.0, 0.022810: 9.0}
"""Normalised A to label, from the table of MLP+NeuroSim V3.0 (`getParamA`)."""


def run(*args: object) -> tuple[int, str, str]:
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main([str(arg) for arg in args])
        except SystemExit as stop:
            code = int(stop.code or 0)
    return code, out.getvalue(), err.getvalue()


def save(path: Path, header: str, *columns: object) -> Path:
    np.savetxt(
        path, np.column_stack([np.asarray(c, dtype=float) for c in columns]), delimiter=",", header=header, comments=""
    )
    return path


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One file of each kind, with numbers known in closed form."""
    path = tmp_path_factory.mktemp("lab")
    rng = np.random.default_rng(0)
    n = np.arange(200)
    up = 1e-6 + 9e-6 * (1 - np.exp(-n / 60)) / (1 - np.exp(-199 / 60))
    g = np.concatenate([up, up[::-1]]) * (1 + 0.002 * rng.standard_normal(400))
    save(path / "pulses.csv", "Pulse number,Conductance (S)", np.arange(400), g)
    cycles = np.unique(np.geomspace(1, 1e5, 80).round())
    on = 1e3 * 10 ** (0.02 * rng.standard_normal(cycles.size))
    off = 1e5 * np.maximum(cycles / 1e3, 1) ** -0.5 * 10 ** (0.05 * rng.standard_normal(cycles.size))
    save(path / "endurance.csv", "Cycle,R_on (ohm),R_off (ohm)", cycles, on, off)
    time, rows = np.geomspace(10, 1e5, 30), []
    for kelvin in (400.0, 425.0, 450.0, 475.0):
        life = 1e-9 * np.exp(1.2 / (8.617333262e-5 * kelvin))
        r = 1e4 * (time / 10) ** (np.log(2) / np.log(life / 10)) * 10 ** (0.002 * rng.standard_normal(30))
        rows.append(np.column_stack([time, r, np.full(30, kelvin)]))
    save(path / "retention.csv", "Time (s),Resistance (ohm),Temperature (K)", *np.concatenate(rows).T)
    state = np.asarray(telegraph((1, 3000), 1e-3, rng, t_capture=0.05, t_emission=0.02))[0]
    i = 1e-6 + 2e-7 * state + 3e-8 * rng.standard_normal(3000)
    save(path / "reads.csv", "Time (s),Current (A),Voltage (V)", np.arange(3000) * 1e-3, i, np.full(3000, 0.1))
    for k in range(4):
        write_csv(path / f"loop{k}.csv", abrupt(v_set=0.7 + 0.02 * k, noise=1e-7, seed=k))
    return path


KIND_OF = {"pulses": "pulses", "endurance": "endurance", "retention": "retention", "reads": "noise"}


@pytest.mark.parametrize(("name", "kind"), list(KIND_OF.items()))
def test_kind_is_told_from_the_columns(name: str, kind: str, lab: Path) -> None:
    found = series_of(read_tables(lab / f"{name}.csv"))
    assert {series.kind for series in found} == {kind}
    assert all("columns" in series.why for series in found)


@pytest.mark.parametrize(("a", "label"), list(TABLE.items()))
def test_label_is_that_of_neurosims_table(a: float, label: float) -> None:
    assert nonlinearity_label(a) == pytest.approx(label, rel=1e-5)  # A has six or seven digits in the table
    assert nonlinearity_label(-a) == pytest.approx(-label, rel=1e-5)


def test_interval_of_the_label_holds_the_truth_where_pulses_write_with_noise() -> None:
    inside = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        w = [-1.0]
        for _ in range(300):
            w.append(w[-1] + 0.01 * (1 - 0.6 * w[-1]) + 0.02 * rng.standard_normal())
        exact = [-1.0]
        for _ in range(300):
            exact.append(exact[-1] + 0.01 * (1 - 0.6 * exact[-1]))
        found = pulse_response(w, low=-1, high=1).label
        assert found.low is not None
        assert found.high is not None
        inside += found.low < pulse_response(exact, low=-1, high=1).label.value < found.high
    assert inside >= 16  # binomial about 19, 3 standard deviations


def test_one_command_serves_a_folder_of_every_kind(lab: Path, tmp_path: Path) -> None:
    code, out, err = run("characterize", lab, "--out", tmp_path / "report")
    assert code == 0, err
    for words in (
        "4 cycles",
        "pulses: 2 measurements",
        "endurance: 1",
        "retention: 4",
        "noise: 1",
        "activation_energy",
    ):
        assert words in out
    result = json.loads((tmp_path / "report" / "summary.json").read_text())
    energy = result["retention"]["together"]["activation_energy"]
    assert energy["low"] < 1.2 < energy["high"]
    failure = result["endurance"]["measurements"][0]["numbers"]["cycles_to_failure"]
    assert failure["low"] < 1e3 * 50**2 < failure["high"]  # 1e5 / 1e3 (x / 1e3)^-0.5 = 2
    noise = result["noise"]["measurements"][0]["numbers"]
    assert noise["rtn.time_1"]["low"] < 0.05 < noise["rtn.time_1"]["high"]
    assert noise["thermal"]["value"] == pytest.approx(4 * 1.380649e-23 * 300 * noise["mean"]["value"] / 0.1, rel=1e-6)
    page = (tmp_path / "report" / "index.html").read_text()
    assert page.count("<img") >= 10
    header = (tmp_path / "report" / "numbers.csv").read_text().splitlines()[0]
    assert header.startswith("kind,name,device,number,value,unit,low,high")
    assert not list((tmp_path / "report").glob(".characterize*"))


def test_every_number_of_every_kind_says_unit_method_and_interval(lab: Path) -> None:
    code, out, _ = run("characterize", lab / "pulses.csv", lab / "endurance.csv", "--json")
    assert code == 0
    result = json.loads(out)
    for kind in ("pulses", "endurance"):
        for measurement in result[kind]["measurements"]:
            assert measurement["told_from"]
            assert all(n["unit"] and n["method"] and n["interval"] for n in measurement["numbers"].values())


def test_kind_can_be_said(lab: Path) -> None:
    code, out, _ = run("characterize", lab / "reads.csv", "--kind", "retention")
    assert code == 0
    assert out.startswith("retention: 1 measurement")
    code, out, _ = run("characterize", lab / "endurance.csv", "--csv")
    assert code == 0
    assert out.startswith("kind,name")


def test_a_kind_that_the_columns_do_not_make_is_refused_with_the_columns(lab: Path) -> None:
    with pytest.raises(FileFormatError, match="Cycle"):
        series_of(read_tables(lab / "endurance.csv"), "noise")
    code, _, err = run("characterize", lab / "endurance.csv", "--kind", "noise")
    assert code == 1
    assert "no noise in endurance.csv" in err


REFUSED = {
    "--read-voltage": ("0", "nan", "inf", "5"), "--threshold": ("-1",), "--closed": ("1", "nan"), "--lifetime": ("0",),
    "--temperature": ("0", "nan"), "--thickness": ("-1e-9",), "--service": ("0",),
}  # fmt: skip


@pytest.mark.parametrize(("option", "value"), [(o, v) for o, values in REFUSED.items() for v in values])
def test_choices_out_of_bounds_are_refused(option: str, value: str, lab: Path) -> None:
    code, _, err = run("characterize", lab / "loop0.csv", option, value)
    assert code == 1
    assert err.startswith("error:")


HOSTILE = {
    "constant": "Time (s),Current (A),Voltage (V)\n" + "".join(f"{k},1e-6,0.1\n" for k in range(300)),
    "one": "Cycle,R_on (ohm),R_off (ohm)\n1,1e3,1e5\n",
    "nan": "Pulse number,Conductance (S)\n" + "".join(f"{k},nan\n" for k in range(20)),
    "words": "Cycle,R_on (ohm),R_off (ohm)\na,b,c\nd,e,f\n",
    "flat": "Pulse number,Conductance (S)\n" + "".join(f"{k},1e-6\n" for k in range(30)),
    "negative": "Cycle,R_on (ohm),R_off (ohm)\n" + "".join(f"{k},-1,-2\n" for k in range(1, 20)),
    "backwards": "Time (s),Current (A),Voltage (V)\n" + "".join(f"{300 - k},{1 + k % 3}e-6,0.1\n" for k in range(300)),
    "empty": "",
}


@pytest.mark.parametrize("kind", ["auto", "loops", "pulses", "endurance", "retention", "noise"])
@pytest.mark.parametrize("name", list(HOSTILE))
def test_hostile_files_give_a_result_or_a_message_and_never_a_traceback(name: str, kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"{name}.csv"
    path.write_text(HOSTILE[name])
    code, out, err = run("characterize", path, "--kind", kind, "--out", tmp_path / "report")
    assert code in (0, 1)
    assert (out != "") == (code == 0)
    if code:
        assert err.startswith(("error:", "left out:")), err
        assert not (tmp_path / "report").exists()  # nothing half written


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    code, _, err = run("characterize", tmp_path)
    assert code == 1
    assert "no files" in err


def test_a_file_in_place_of_the_folder_is_refused(lab: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    code, _, err = run("characterize", lab / "loop0.csv", "--out", tmp_path / "taken")
    assert code == 1
    assert "not a folder" in err
    assert (tmp_path / "taken").read_text() == "mine"


def test_an_interrupted_run_goes_on_where_it_was(lab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [lab / f"loop{k}.csv" for k in range(4)]
    own, seen = survey_module.characterise, []

    def stop_at_third(trace: object, **options: object) -> object:
        seen.append(trace)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return own(trace, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(survey_module, "characterise", stop_at_third)
    code, _, err = run("characterize", *files, "--out", tmp_path / "report")
    assert code == 1
    assert "the same command goes on from there" in err
    assert [p.name for p in (tmp_path / "report").iterdir()] == [".characterize.jsonl"]
    code, _, err = run("characterize", *files, "--out", tmp_path / "report")
    assert code == 0, err
    assert "2 files were done" in err
    assert len(seen) == 5  # the first two once, the third twice
    monkeypatch.undo()
    run("characterize", *files, "--out", tmp_path / "whole")
    assert (tmp_path / "report" / "cycles.csv").read_text() == (tmp_path / "whole" / "cycles.csv").read_text()


def test_a_journal_cut_off_or_of_other_choices_is_not_believed(lab: Path, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    survey_module.survey([lab / "loop0.csv", lab / "loop1.csv"], journal=journal)
    assert survey_module.survey([lab / "loop0.csv", lab / "loop1.csv"], journal=journal).resumed == 2
    journal.write_text(journal.read_text()[:-40])
    assert survey_module.survey([lab / "loop0.csv", lab / "loop1.csv"], journal=journal).resumed == 1
    assert survey_module.survey([lab / "loop0.csv", lab / "loop1.csv"], v_read=0.2, journal=journal).resumed == 0
