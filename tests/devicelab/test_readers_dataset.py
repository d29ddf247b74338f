"""Many files: what is known about each trace is kept, a bad file is reported, an interrupted run goes on."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from devicelab.errors import FileFormatError, ParameterError, ShapeError
from devicelab.readers import (
    Dataset,
    find_files,
    many,
    open_store,
    read_dataset,
    read_into_store,
    read_tables,
    read_traces,
)
from devicelab.trace import Trace

PATTERN = r"(?P<device>D\d+)/(?P<temperature>\d+)K_run"


def folder_of_files(root: Path, devices: int = 2, runs: int = 3) -> Path:
    for d in range(devices):
        (root / f"D{d}").mkdir(parents=True)
        for run in range(runs):
            rows = "".join(f"{c},{v},{d + run * 0.1 + c * 0.01 + v}\n" for c in (1, 2) for v in (0, 1, 2))
            (root / f"D{d}" / f"{300 + 50 * run}K_run{run}.csv").write_text("cycle,V (V),I (mA)\n" + rows)
    return root


def test_folder_is_read_with_metadata_from_its_paths(tmp_path: Path) -> None:
    data = read_dataset(folder_of_files(tmp_path / "set"), pattern=PATTERN)
    assert len(data) == 2 * 3 * 2
    assert data.values("device")[:7] == ["D0"] * 6 + ["D1"]
    assert data.values("temperature")[:6] == [300, 300, 350, 350, 400, 400]
    assert data[-1].i[-1] == pytest.approx((1 + 0.2 + 0.02 + 2) * 1e-3, rel=1e-14)
    assert data.keys()[:3] == ["device", "cycle", "temperature"]


def test_filter_by_value_list_and_function(tmp_path: Path) -> None:
    data = read_dataset(folder_of_files(tmp_path / "set"), pattern=PATTERN)
    assert len(data.filter(device="D1")) == 6
    assert len(data.filter(device="D1", cycle=2)) == 3
    assert len(data.filter(temperature=[300, 400])) == 8
    assert len(data.filter(temperature=lambda kelvin: kelvin > 320)) == 8
    assert len(data.filter(device="D9")) == 0
    with pytest.raises(ParameterError, match="did you mean device"):
        data.filter(devise="D1")


def test_group_keeps_order_and_loses_nothing(tmp_path: Path) -> None:
    data = read_dataset(folder_of_files(tmp_path / "set"), pattern=PATTERN)
    groups = data.group("device", "cycle")
    assert list(groups) == [("D0", 1), ("D0", 2), ("D1", 1), ("D1", 2)]
    assert sum(len(group) for group in groups.values()) == len(data)
    assert list(data.group("temperature")) == [300, 350, 400]


def test_table_has_a_row_for_each_trace(tmp_path: Path) -> None:
    data = read_dataset(folder_of_files(tmp_path / "set", 1, 1), pattern=PATTERN)
    assert data.table("device", "cycle") == [
        {"device": "D0", "cycle": 1, "samples": 3},
        {"device": "D0", "cycle": 2, "samples": 3},
    ]
    assert {"file", "sha256", "profile"} <= set(data.table()[0])


def test_label_adds_what_the_files_do_not_say(tmp_path: Path) -> None:
    data = read_dataset(folder_of_files(tmp_path / "set")).label(area=1e-14, top=lambda trace: float(trace.v.max()))
    assert set(data.values("area")) == {1e-14}
    assert set(data.values("top")) == {2.0}


def test_bad_file_is_reported_and_not_fatal(tmp_path: Path) -> None:
    folder = folder_of_files(tmp_path / "set")
    (folder / "broken.csv").write_text("V (V),I (A)\n0,1\n1,oops\n")
    (folder / "pulses.csv").write_text("pulse number,Resistance (ohm)\n1,1e4\n2,2e4\n")
    (folder / "notes.md").write_text("not data")
    (folder / ".hidden.csv").write_text("")
    data = read_dataset(folder)
    assert len(data) == 12
    assert [Path(failure.path).name for failure in data.failures] == ["broken.csv"]
    assert "'oops' in column 'I', line 3" in data.failures[0].reason
    assert [table["Resistance"].tolist() for table in data.tables] == [[1e4, 2e4]]


def test_globs_folders_and_files_are_found_once_in_natural_order(tmp_path: Path) -> None:
    for name in ("run_10.csv", "run_2.csv", "run_1.csv"):
        (tmp_path / name).write_text("V (V),I (A)\n0,0\n1,1\n")
    found = find_files([tmp_path / "run_2.csv", str(tmp_path / "run_*.csv"), tmp_path])
    assert [path.name for path in found] == ["run_2.csv", "run_1.csv", "run_10.csv"]
    with pytest.raises(FileFormatError, match="no files in"):
        find_files(tmp_path / "run_7*.csv")


def test_processes_give_what_one_process_gives(tmp_path: Path) -> None:
    folder = folder_of_files(tmp_path / "set")
    one, two = read_dataset(folder, workers=1), read_dataset(folder, workers=2)
    assert [dict(trace.meta) for trace in one] == [dict(trace.meta) for trace in two]
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a.i, b.i)


def test_wrong_pattern_and_option_are_named_before_reading(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="workers=1 or more"):
        read_dataset(tmp_path, workers=0)
    with pytest.raises(ParameterError, match="no regular expression"):
        read_dataset(tmp_path, pattern="(")
    with pytest.raises(ParameterError, match="did you mean units"):
        read_dataset(tmp_path, unit={"i": "A"})  # type: ignore[call-arg]


def test_store_gives_back_every_trace_bit_for_bit(tmp_path: Path) -> None:
    folder = folder_of_files(tmp_path / "set")
    (folder / "broken.csv").write_text("V (V),I (A)\n0,1\n1,oops\n")
    data = read_dataset(folder, pattern=PATTERN)
    summary = read_into_store(folder, tmp_path / "set.h5", pattern=PATTERN)
    assert (summary.files, summary.traces, len(summary.failures), summary.resumed) == (7, 12, 1, 0)
    with open_store(summary.path) as store:
        assert len(store) == 12
        for a, b in zip(data, store, strict=True):
            for name in ("t", "v", "i"):
                np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
            assert dict(a.meta) == dict(b.meta)
        assert store[-1].meta == data[-1].meta
    assert len(Dataset.load(summary.path).filter(device="D1")) == 6
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["set", "set.h5"]


def test_store_is_read_like_any_other_file(tmp_path: Path) -> None:
    summary = read_into_store(folder_of_files(tmp_path / "set", 1, 1), tmp_path / "set.h5")
    assert [trace.meta["cycle"] for trace in read_traces(summary.path)] == [1, 2]
    table, _ = read_tables(summary.path)
    assert (table["v"].tolist(), table.units["v"]) == ([0, 1, 2], "V")


def test_dataset_saves_and_loads(tmp_path: Path) -> None:
    data = read_dataset(folder_of_files(tmp_path / "set"))
    back = Dataset.load(data.filter(cycle=1).save(tmp_path / "a.h5"))
    assert back.values("cycle") == [1] * 6
    with pytest.raises(ShapeError, match="one device a trace"):
        Dataset([Trace([0, 1], [0, 1], [[0, 1], [0, 2]])]).save(tmp_path / "b.h5")


def test_interrupted_run_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = folder_of_files(tmp_path / "set")
    monkeypatch.setattr(many, "IN_A_PART", 2)
    read, calls = many.read_one, []

    def power_cut_at_the_sixth(path: Path, job: object) -> many.Outcome:
        calls.append(path.name)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return read(path, job)  # type: ignore[arg-type]

    monkeypatch.setattr(many, "read_one", power_cut_at_the_sixth)
    with pytest.raises(KeyboardInterrupt):
        read_into_store(folder, tmp_path / "set.h5")
    assert not (tmp_path / "set.h5").exists()
    changed = folder / "D0" / "300K_run0.csv"
    changed.write_text(changed.read_text().replace("mA", "uA"))
    os.utime(changed, ns=(1, 1))
    summary = read_into_store(folder, tmp_path / "set.h5")
    assert summary.resumed == 2  # four were saved in two parts, and one of the parts held the file that changed
    assert summary.traces == 12
    with open_store(summary.path) as store:
        (trace,) = (
            t for t in store if t.meta["file"] == changed.name and "D0" in t.meta["path"] and t.meta["cycle"] == 1
        )
    assert trace.i[1] == pytest.approx(1.01e-6, rel=1e-12)
    assert not (tmp_path / "set.h5.parts").exists()


def test_store_is_not_overwritten_and_not_read_when_damaged(tmp_path: Path) -> None:
    summary = read_into_store(folder_of_files(tmp_path / "set"), tmp_path / "set.h5")
    with pytest.raises(FileFormatError, match="exists"):
        read_into_store(tmp_path / "set", tmp_path / "set.h5")
    os.truncate(summary.path, summary.path.stat().st_size // 2)
    with pytest.raises(FileFormatError, match="not as devicelab wrote it"):
        open_store(summary.path)
    assert read_into_store(tmp_path / "set", tmp_path / "set.h5", force=True).traces == 12


def test_progress_goes_to_standard_error_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    read_dataset(folder_of_files(tmp_path / "set"), progress=True)
    assert capsys.readouterr().out == ""
