"""LUT format 1 as data, and the check of a file against it. docs/lut.md is the same in words.

Everything is looked at before anything is allocated: types, ranks and sizes come from the file's headers, must agree
with each other, and must be backed by bytes that the file really has.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import h5py
import numpy as np

FORMAT = "devicelab-lut"
VERSION = 1
MAX_VALUES = 1 << 26
"""Most values of all datasets together: 512 MiB."""
MAX_ATTRIBUTES = 1024
MAX_TEXT = 1 << 15
"""Most bytes of an attribute."""
INTERPOLATION = "pchip in voltage, linear in state"
EXTRAPOLATION = "refused"
BOOKKEEPING = {"CLASS", "NAME", "DIMENSION_LIST", "REFERENCE_LIST", "_Netcdf4Dimid", "_Netcdf4Coordinates"}
"""Attributes with which HDF5 and netCDF keep dimension scales: allowed, and in no hash."""


@dataclass(frozen=True)
class Field:
    """One dataset: its axes by letter, its unit, and what its values mean."""

    axes: str
    unit: str
    meaning: str
    required: bool = True
    kind: str = "<f8"


@dataclass(frozen=True)
class Group:
    """One NXdata group: fields, the plotted one, its axes, and numbers that belong to it."""

    signal: str
    fields: dict[str, Field]
    axes: tuple[str, ...]
    required: bool = False
    numbers: tuple[str, ...] = ()
    texts: dict[str, str] = field(default_factory=dict)


VOLTAGE = Field("k", "V", "voltage of the device, plus minus minus; increasing, 0 among them")
STATE = Field("s", "1", "normalised state, 1 = low resistance; increasing within [0, 1]")

SCHEMA: dict[str, Group] = {
    "lut": Group(
        "current",
        {"voltage": VOLTAGE, "state": STATE, "current": Field("sk", "A", "current into plus; 0 at 0 V, rising with v")},
        ("state", "voltage"),
        required=True,
        numbers=("interpolation_error",),
        texts={"interpolation": INTERPOLATION, "extrapolation": EXTRAPOLATION},
    ),
    "mapping": Group(
        "state",
        {"conductance": Field("s", "S", "current / voltage at the read voltage"), "state": STATE},
        ("conductance",),
        numbers=("v_read",),
    ),
    "levels": Group(
        "conductance",
        {
            "level": Field("l", "1", "number of the level, from 0", kind="<i8"),
            "conductance": Field("l", "S", "target conductance at the read voltage; increasing"),
            "state": Field("l", "1", "state that reads as the target"),
            "d2d": Field("l", "1", "relative standard deviation between devices", required=False),
            "c2c": Field("l", "1", "relative standard deviation between cycles", required=False),
            "read_noise": Field("l", "1", "relative standard deviation of one read", required=False),
        },
        ("level",),
        numbers=("v_read",),
    ),
    "curves": Group(
        "current",
        {
            "curve": Field("c", "1", "number of the curve, from 0", kind="<i8"),
            "voltage": Field("p", "V", "voltage"),
            "current": Field("cp", "A", "current as sampled"),
            "device": Field("c", "1", "number of the device", kind="<i8"),
            "cycle": Field("c", "1", "number of the cycle", kind="<i8"),
            "index": Field("c", "1", "number of the level or state", kind="<i8"),
        },
        ("curve", "voltage"),
    ),
    "dynamics": Group(
        "rate",
        {
            "voltage": Field("w", "V", "voltage; 0 among them"),
            "state": Field("d", "1", "normalised state"),
            "rate": Field("dw", "1/s", "dx/dt, positive towards low resistance; 0 at 0 V"),
        },
        ("state", "voltage"),
        numbers=("interpolation_error",),
    ),
    "factors": Group(
        "shape",
        {
            "rank": Field("r", "1", "number of the term, from 0", kind="<i8"),
            "state": STATE,
            "voltage": VOLTAGE,
            "amplitude": Field("sr", "A", "amplitude of each term"),
            "shape": Field("rk", "1", "function of voltage of each term"),
        },
        ("rank", "voltage"),
        numbers=("error",),
    ),
}
_NUMBERS = (h5py.h5t.INTEGER, h5py.h5t.FLOAT, h5py.h5t.ENUM)
FREE = ("device", "provenance")
"""Groups that hold attributes of any name: text, numbers, or short lists of them."""


def problems(file: h5py.File) -> Iterator[str]:
    """Everything in an open file that LUT format 1 does not allow, as sentences; nothing large is read."""
    yield from _root(file)
    entry = _group(file, "entry")
    if entry is None:
        yield "/entry: missing, or not a plain group"
        return
    yield from _members(file, "/", {"entry"})
    yield from _members(entry, "/entry", {*SCHEMA, *FREE})
    yield from _attributes(entry, "/entry")
    sizes: dict[str, tuple[int, str]] = {}
    total = 0
    for name, group in SCHEMA.items():
        found = _group(entry, name)
        if found is None:
            if group.required or name in entry:
                yield f"/entry/{name}: missing, or not a plain group"
            continue
        yield from _members(found, f"/entry/{name}", set(group.fields))
        yield from _attributes(found, f"/entry/{name}")
        yield from _declared(found, f"/entry/{name}", group)
        for key, declared in group.fields.items():
            yield from _dataset(found, f"/entry/{name}/{key}", key, declared, sizes)
            if isinstance(found.get(key), h5py.Dataset):
                total += found[key].size
    if total > MAX_VALUES:
        yield f"/entry: {total} values are too many (at most {MAX_VALUES})"
    for name in FREE:
        found = _group(entry, name)
        if found is None:
            yield f"/entry/{name}: missing, or not a plain group"
        else:
            yield from _members(found, f"/entry/{name}", set())
            yield from _attributes(found, f"/entry/{name}")


def _root(file: h5py.File) -> Iterator[str]:
    yield from _attributes(file, "/")
    for key, wanted in (("format", FORMAT), ("NX_class", "NXroot"), ("default", "entry")):
        if attribute(file, key) != wanted:
            yield f"/: attribute {key} is not {wanted!r}"
    if attribute(file, "version") != VERSION:
        yield f"/: attribute version is not {VERSION}"


def _declared(found: h5py.Group, path: str, group: Group) -> Iterator[str]:
    wanted: dict[str, Any] = {"NX_class": "NXdata", "signal": group.signal, "axes": list(group.axes), **group.texts}
    for key, value in wanted.items():
        if attribute(found, key) != value:
            yield f"{path}: attribute {key} is not {value!r}"
    for key in group.numbers:
        if not isinstance(attribute(found, key), float):
            yield f"{path}: attribute {key} is not a float64"


def _dataset(
    group: h5py.Group, path: str, key: str, declared: Field, sizes: dict[str, tuple[int, str]]
) -> Iterator[str]:
    dataset = _plain_member(group, key, h5py.Dataset)
    if dataset is None:
        if declared.required or key in group:
            yield f"{path}: missing, or not a plain dataset"
        return
    yield from _attributes(dataset, path)
    if dataset.dtype != np.dtype(declared.kind) or dataset.dtype.str != declared.kind:
        yield f"{path}: type is {dataset.dtype}, not {np.dtype(declared.kind)}"
    if dataset.ndim != len(declared.axes):
        yield f"{path}: {dataset.ndim} dimensions, not {len(declared.axes)}"
        return
    plist = dataset.id.get_create_plist()
    if dataset.is_virtual or plist.get_external_count() or plist.get_nfilters():
        yield f"{path}: virtual, external or filtered storage"
    if dataset.size and dataset.id.get_storage_size() != dataset.size * 8:
        yield f"{path}: {dataset.size} values in {dataset.id.get_storage_size()} bytes"
    if attribute(dataset, "units") != declared.unit:
        yield f"{path}: units are not {declared.unit!r}"
    for axis, size in zip(declared.axes, dataset.shape, strict=True):
        known, where = sizes.setdefault(axis, (size, path))
        if size != known or size < 1:
            yield f"{path}: {size} along an axis that has {known} in {where}"


def _members(group: h5py.Group, path: str, known: set[str]) -> Iterator[str]:
    if len(group) > len(known):
        yield f"{path}: {len(group)} members, at most {len(known)}: an addition, content does not match the format"
        return
    for name in group:
        if name not in known:
            yield f"{path}: unknown member {name!r}"


def _group(parent: h5py.Group, name: str) -> h5py.Group | None:
    found: h5py.Group | None = _plain_member(parent, name, h5py.Group)
    return found


def _plain_member(parent: h5py.Group, name: str, kind: type) -> Any:
    """A member behind a hard link, of one kind; None otherwise. Soft and external links are never followed."""
    if name not in parent or not isinstance(parent.get(name, getlink=True), h5py.HardLink):
        return None
    found = parent[name]
    return found if isinstance(found, kind) else None


def _attributes(item: h5py.HLObject, path: str) -> Iterator[str]:
    if h5py.h5a.get_num_attrs(item.id) > MAX_ATTRIBUTES:
        yield f"{path}: more than {MAX_ATTRIBUTES} attributes"
        return
    for key in item.attrs:
        if not isinstance(key, str) or (key not in BOOKKEEPING and attribute(item, key) is None):
            yield f"{path}: attribute {key!r} is not text of fixed length, a number, or a short list of them"


def attribute(item: h5py.HLObject, key: str) -> str | int | float | bool | list[Any] | None:
    """An attribute as a plain value; None if it is missing, too long, or of a type the format does not use.

    Text of variable length is not read at all: the HDF5 library can be made to hang by its heap.
    """
    if key not in item.attrs:
        return None
    handle = h5py.h5a.open(item.id, key.encode())
    space, kind = handle.get_space(), handle.get_type()
    if space.get_simple_extent_type() == h5py.h5s.NULL or space.get_simple_extent_ndims() > 1:
        return None
    text = kind.get_class() == h5py.h5t.STRING
    if (text and kind.is_variable_str()) or not (text or kind.get_class() in _NUMBERS):
        return None
    if not 0 < space.get_simple_extent_npoints() * kind.get_size() <= MAX_TEXT:
        return None
    value = item.attrs[key]
    plain = value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value
    if isinstance(plain, list):
        return [part.decode() if isinstance(part, bytes) else part for part in plain]
    return plain.decode() if isinstance(plain, bytes) else plain


def stored(value: Any) -> Any:
    """A value as an attribute keeps it: text of fixed length (UTF-8), numbers, or short lists of them."""
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    if isinstance(value, (list, tuple)) and value and all(isinstance(part, (int, float)) for part in value):
        return np.asarray(value)
    if isinstance(value, (list, tuple)) and value:
        encoded = [str(part).encode() for part in value]
        return np.array(encoded, dtype=h5py.string_dtype("utf-8", max(1, *map(len, encoded))))
    if isinstance(value, (bool, int, float)):
        return value
    encoded_text = (value.decode() if isinstance(value, bytes) else str(value)).encode()
    return np.array(encoded_text, dtype=h5py.string_dtype("utf-8", max(1, len(encoded_text))))
