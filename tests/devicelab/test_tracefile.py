"""Traces survive the disk to the last bit, and files are whole or absent."""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from devicelab.errors import FileFormatError, ParameterError, ShapeError
from devicelab.readers import read_trace, read_traces
from devicelab.trace import Trace
from devicelab.tracefile import read_hdf5, write_csv, write_hdf5, write_traces

META = {"device": "M3", "cycle": 7, "compliance": 3e-4, "columns": {"v": "AV"}, "note": 'Größe µ, "quoted"\nand a line'}


def some_trace(seed: int, n: int = 50, with_state: bool = False) -> Trace:
    rng = np.random.default_rng(seed)
    t = np.cumsum(rng.uniform(1e-9, 1e-3, n))
    i = rng.normal(size=n) * 10.0 ** rng.uniform(-12, -2, n)
    x = rng.uniform(size=n) if with_state else None
    return Trace(t, rng.normal(size=n), i, x, meta=META | {"seed": seed})


def assert_same(a: Trace, b: Trace) -> None:
    for name in ("t", "v", "i", "x"):
        one, two = getattr(a, name), getattr(b, name)
        assert (one is None) == (two is None), name
        if one is not None:
            np.testing.assert_array_equal(one, two)
    assert dict(a.meta) == dict(b.meta)


@pytest.mark.parametrize("suffix", [".csv", ".h5"])
@pytest.mark.parametrize("with_state", [False, True])
def test_one_trace_is_read_back_bit_for_bit(suffix: str, with_state: bool, tmp_path: Path) -> None:
    trace = some_trace(1, with_state=with_state)
    assert_same(read_trace(write_traces(tmp_path / f"a{suffix}", trace)), trace)


@pytest.mark.parametrize("suffix", [".csv", ".h5"])
def test_several_traces_keep_order_length_and_metadata(suffix: str, tmp_path: Path) -> None:
    traces = [some_trace(k, n=10 + k, with_state=k == 1) for k in range(3)]
    back = read_traces(write_traces(tmp_path / f"a{suffix}", traces))
    assert len(back) == 3
    for one, two in zip(traces, back, strict=True):
        assert_same(one, two)


def test_csv_header_states_units_so_that_other_programs_can_use_it(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", Trace([0, 1], [0, 1], [0, 1e-6]))
    lines = path.read_text().splitlines()
    assert lines[0] == "# devicelab traces 1"
    assert lines[2:] == ["t [s],v [V],i [A]", "0.0,0.0,0.0", "1.0,1.0,1e-06"]


def test_hdf5_datasets_state_units(tmp_path: Path) -> None:
    with h5py.File(write_hdf5(tmp_path / "a.h5", some_trace(1, with_state=True))) as file:
        assert file.attrs["format"] == "devicelab-traces"
        assert {name: file["000000"][name].attrs["unit"] for name in "tvix"} == {"t": "s", "v": "V", "i": "A", "x": "1"}


def test_batch_of_devices_goes_to_hdf5_and_not_to_csv(tmp_path: Path) -> None:
    batch = Trace([0, 1, 2], [0, 1, 2], [[0, 1, 2], [0, 2, 4]])
    assert_same(read_hdf5(write_hdf5(tmp_path / "a.h5", batch))[0], batch)
    with pytest.raises(ShapeError, match="one device a trace"):
        write_csv(tmp_path / "a.csv", batch)


def test_tensors_are_written_as_numbers(tmp_path: Path) -> None:
    t = torch.linspace(0, 1, 5, dtype=torch.float64)
    back = read_trace(write_hdf5(tmp_path / "a.h5", Trace(t, t, t.clone().requires_grad_(True))))
    np.testing.assert_array_equal(back.i, [0, 0.25, 0.5, 0.75, 1])


@pytest.mark.parametrize("suffix", [".csv", ".h5"])
def test_existing_file_is_replaced_only_by_force(suffix: str, tmp_path: Path) -> None:
    path = write_traces(tmp_path / f"a{suffix}", some_trace(1))
    with pytest.raises(FileFormatError, match=r"exists(?s:.*)force"):
        write_traces(path, some_trace(2))
    assert_same(read_trace(path), some_trace(1))
    write_traces(path, some_trace(2), force=True)
    assert_same(read_trace(path), some_trace(2))


def test_failed_write_leaves_the_old_file_and_no_part(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", some_trace(1))
    before = path.read_bytes()
    with pytest.raises(ShapeError, match="one device a trace"):
        write_csv(path, Trace([0, 1], [0, 1], [[0, 1], [0, 2]]), force=True)
    with pytest.raises(TypeError, match="keys must be str"):
        write_csv(path, some_trace(1).with_meta(**{"a": {("not", "a key"): 1}}), force=True)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.csv"]


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9, 0.999])
@pytest.mark.parametrize("suffix", [".csv", ".h5"])
def test_truncated_file_is_refused(suffix: str, share: float, tmp_path: Path) -> None:
    path = write_traces(tmp_path / f"a{suffix}", [some_trace(k) for k in range(3)])
    os.truncate(path, int(path.stat().st_size * share))
    with pytest.raises(FileFormatError, match="got:"):
        read_traces(path)


@pytest.mark.parametrize(("key", "value"), [("version", 2), ("format", "other")])
def test_foreign_hdf5_is_refused(key: str, value: object, tmp_path: Path) -> None:
    path = write_hdf5(tmp_path / "a.h5", some_trace(1))
    with h5py.File(path, "a") as file:
        file.attrs[key] = value
    with pytest.raises(FileFormatError, match=r"known format(?s:.*)devicelab-traces version 1"):
        read_hdf5(path, verify=False)


def test_changed_hdf5_is_refused_unless_told(tmp_path: Path) -> None:
    path = write_hdf5(tmp_path / "a.h5", some_trace(1))
    with h5py.File(path, "a") as file:
        file["000000/i"][3] = 1.0
    with pytest.raises(FileFormatError, match=r"not as devicelab wrote it(?s:.*)verify=False"):
        read_hdf5(path)
    assert read_hdf5(path, verify=False)[0].i[3] == 1.0


def test_one_flipped_bit_is_noticed(tmp_path: Path) -> None:
    path = write_hdf5(tmp_path / "a.h5", some_trace(1))
    data = bytearray(path.read_bytes())
    for at in range(0, len(data), 97):
        data[at] ^= 1
        path.write_bytes(data)
        with pytest.raises(FileFormatError, match="got:"):
            read_hdf5(path)
        data[at] ^= 1


def test_nothing_to_write_and_unknown_suffix_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ShapeError, match="no trace"):
        write_csv(tmp_path / "a.csv", [])
    with pytest.raises(ParameterError, match="unknown kind"):
        write_traces(tmp_path / "a.xlsx", some_trace(1))
    with pytest.raises(FileFormatError, match="folder does not exist"):
        write_traces(tmp_path / "missing" / "a.csv", some_trace(1))
