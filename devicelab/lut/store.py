"""Reading and writing lookup tables: whole or not at all, sealed, verified before anything is believed.

A file is a 512-byte HDF5 user block followed by HDF5. The user block, the seal, is one line of ASCII::

    devicelab-lut 1 sha256=<of every byte after the block> bytes=<of the whole file>

so a truncated or damaged file is refused before the HDF5 library sees it. `content_sha256` inside covers every value
and attribute, whatever the bytes, and survives a rewrite by another tool (which must then drop the seal).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np

from ..errors import LutError
from ..files import replacing
from . import schema
from .content import Curves, Factors, Levels, Rate
from .table import Lut

SEAL = 512
MAX_BYTES = 8 * schema.MAX_VALUES + (1 << 24)
_LINE = re.compile(rb"devicelab-lut (\d{1,9}) sha256=([0-9a-f]{64}) bytes=(\d{1,15})\n\0*\Z")
_UNREADABLE = (OSError, LookupError, RuntimeError, ValueError, TypeError, ArithmeticError, MemoryError)
"""What h5py raises on a damaged file."""

MAPPING_ROUNDING = 1e-9
"""Two releases of scipy may differ by this much in a monotone slope."""


def save(lut: Lut, path: str | Path, *, force: bool = False) -> None:
    """See `Lut.save`."""
    with replacing(path, force=force) as temporary:
        with h5py.File(temporary, "w", track_order=False, userblock_size=SEAL) as file:
            write(lut, file)
            found = list(schema.problems(file))
            if found:
                raise LutError("LUT format 1 cannot hold this table", got="\n           ".join(found[:6]))
            _annotate(file, {"content_sha256": digest(file)})
        seal(temporary)


def seal(path: str | Path) -> None:
    """Write the seal of a file whose content was changed on purpose (`content_sha256` must fit already)."""
    with Path(path).open("r+b") as file:
        checksum, size = _checksum(file)
        file.seek(0)
        file.write(f"devicelab-lut {schema.VERSION} sha256={checksum} bytes={size}\n".encode().ljust(SEAL, b"\0"))


def load(path: str | Path) -> Lut:
    """See `Lut.load`."""
    return _opened(Path(path), strict=True)[0]  # type: ignore[return-value]


def check(path: str | Path) -> list[str]:
    """Everything that is wrong with a file, as sentences; empty for a sound table.

    Raises:
        LutError: If there is no such file.
    """
    try:
        return _opened(Path(path), strict=False)[1]
    except LutError as error:
        if error.what == "no such lookup table":
            raise
        return [" ".join(str(part) for part in (error.what, error.got and f"({error.got})") if part)]


def _opened(path: Path, *, strict: bool) -> tuple[Lut | None, list[str]]:
    if not path.is_file():
        raise LutError("no such lookup table", got=str(path), hint="`devicelab lut make` makes one")
    try:
        with path.open("rb") as raw:
            sealed = _verify_seal(raw, path)
            raw.seek(0)
            with h5py.File(raw, "r") as file:
                return _read(file, path, strict=strict, sealed=sealed)
    except LutError:
        raise
    except _UNREADABLE as error:
        raise LutError("damaged, or not a lookup table", got=str(path), hint=str(error)) from error


def _verify_seal(raw: BinaryIO, path: Path) -> bool:
    size = raw.seek(0, 2)
    if size > MAX_BYTES:
        raise LutError("too large for a lookup table", got=f"{path}: {size} bytes", allowed=f"at most {MAX_BYTES}")
    raw.seek(0)
    found = _LINE.match(raw.read(SEAL))
    if found is None:
        return False
    if int(found[1]) != schema.VERSION:
        raise _unknown_version(int(found[1]))
    if int(found[3]) != size or _checksum(raw)[0].encode() != found[2]:
        raise _mismatch(path)
    return True


def _checksum(raw: BinaryIO) -> tuple[str, int]:
    """SHA-256 of the bytes after the seal, and the size of the whole file."""
    raw.seek(SEAL)
    result = hashlib.sha256()
    while block := raw.read(1 << 20):
        result.update(block)
    return result.hexdigest(), raw.tell()


def _mismatch(path: Path) -> LutError:
    return LutError(
        "damaged: content does not match its SHA-256; the file was changed or cut off",
        got=str(path),
        hint="take a fresh copy, or make the table again",
    )


def _unknown_version(got: object) -> LutError:
    return LutError(
        "unknown version of the table format", got=got, allowed=schema.VERSION, hint="a newer devicelab reads it"
    )


def _read(file: h5py.File, path: Path, *, strict: bool, sealed: bool) -> tuple[Lut | None, list[str]]:
    kind, version = schema.attribute(file, "format"), schema.attribute(file, "version")
    if kind != schema.FORMAT:
        raise LutError("not a lookup table", got=f"{path}: format {kind!r}", allowed=schema.FORMAT)
    if version != schema.VERSION:
        raise _unknown_version(version)
    found = list(schema.problems(file))
    if found:
        if strict:
            raise LutError(
                "content does not match its SHA-256 or LUT format 1",
                got="\n           ".join([str(path), *found[:6]]),
                hint="`devicelab lut check FILE` lists everything",
            )
        return None, found
    if digest(file) != schema.attribute(file, "content_sha256"):
        raise _mismatch(path)
    return _content(file["entry"]), []


def write(lut: Lut, file: h5py.File) -> None:
    """Put a table into an open, empty file; the hash is not among what is written."""
    _annotate(file, {"format": schema.FORMAT, "version": schema.VERSION, "NX_class": "NXroot", "default": "entry"})
    entry = file.create_group("entry")
    _annotate(entry, {"NX_class": "NXentry", "default": "lut"})
    _put(
        entry, "lut", {"voltage": lut.voltage, "state": lut.state, "current": lut.table}, interpolation_error=lut.error
    )
    if lut.v_read is not None:
        conductance, state = lut.mapping()
        _put(entry, "mapping", {"conductance": conductance, "state": state}, v_read=lut.v_read)
    if (levels := lut.levels) is not None:
        named = {"level": np.arange(levels.conductance.size), "conductance": levels.conductance}
        named["state"] = lut.state_for(levels.conductance)
        named |= {name: getattr(levels, name) for name in ("d2d", "c2c", "read_noise")}
        _put(entry, "levels", named, v_read=levels.v_read)
    if (curves := lut.curves) is not None:
        named = {"curve": np.arange(len(curves.current)), "voltage": curves.voltage, "current": curves.current}
        _put(entry, "curves", {**named, "device": curves.device, "cycle": curves.cycle, "index": curves.level})
    if (rate := lut.rate) is not None:
        named = {"voltage": rate.voltage, "state": rate.state, "rate": rate.rate}
        _put(entry, "dynamics", named, interpolation_error=rate.error)
    if (factors := lut.factors) is not None:
        named = {"rank": np.arange(factors.rank), "state": lut.state, "voltage": lut.voltage}
        _put(entry, "factors", {**named, "amplitude": factors.amplitude, "shape": factors.shape}, error=factors.error)
    for name, attributes in (("device", lut.device), ("provenance", lut.provenance)):
        _annotate(entry.create_group(name), attributes)


def _annotate(item: h5py.HLObject, attributes: Mapping[str, Any]) -> None:
    for key, value in attributes.items():
        item.attrs[key] = schema.stored(value)


def _put(entry: h5py.Group, name: str, values: dict[str, Any], **numbers: float) -> None:
    """One NXdata group, its axes attached as dimension scales."""
    declared = schema.SCHEMA[name]
    group = entry.create_group(name)
    _annotate(group, {"NX_class": "NXdata", "signal": declared.signal, "axes": list(declared.axes), **declared.texts})
    _annotate(group, {key: float(value) for key, value in numbers.items()})
    for key, own in declared.fields.items():
        if values.get(key) is None:
            continue
        dataset = group.create_dataset(key, data=np.asarray(values[key], dtype=own.kind))
        _annotate(dataset, {"units": own.unit, "long_name": f"{key} [{own.unit}]"})
    scales = {own.axes: key for key, own in declared.fields.items() if _is_scale(name, key)}
    for key in scales.values():
        group[key].make_scale(key)
    for key, own in declared.fields.items():
        if key in group and key not in scales.values():
            for axis, letter in enumerate(own.axes):
                group[key].dims[axis].attach_scale(group[scales[letter]])


def _is_scale(group: str, key: str) -> bool:
    """Whether a dataset is an axis: those that the group plots against, and the states of the factors."""
    return key in schema.SCHEMA[group].axes or (group, key) == ("factors", "state")


def _content(entry: h5py.Group) -> Lut:
    def values(name: str) -> dict[str, Any]:
        return {key: entry[name][key][()] for key in entry[name]} if name in entry else {}

    table, mapping, levels = values("lut"), values("mapping"), values("levels")
    curves, rate, factors = values("curves"), values("dynamics"), values("factors")
    v_read = float(entry["mapping"].attrs["v_read"]) if mapping else None
    lut = Lut(
        table["voltage"],
        table["state"],
        table["current"],
        _free(entry["device"]),
        _free(entry["provenance"]),
        float(entry["lut"].attrs["interpolation_error"]),
        v_read=v_read,
        levels=_levels(levels, float(entry["levels"].attrs["v_read"])) if levels else None,
        curves=Curves(**{("level" if key == "index" else key): curves[key] for key in curves if key != "curve"})
        if curves
        else None,
        rate=Rate(**rate, error=float(entry["dynamics"].attrs["interpolation_error"])) if rate else None,
        factors=Factors(factors["amplitude"], factors["shape"], float(entry["factors"].attrs["error"]))
        if factors
        else None,
    )
    _consistent(lut, mapping, levels, factors)
    return lut


def _levels(values: dict[str, Any], v_read: float) -> Levels:
    return Levels(v_read, values["conductance"], values.get("d2d"), values.get("c2c"), values.get("read_noise"))


def _consistent(lut: Lut, mapping: dict[str, Any], levels: dict[str, Any], factors: dict[str, Any]) -> None:
    """Refuse a file that says the same thing twice, differently."""
    said: list[tuple[str, Any, Any]] = []
    if mapping:
        conductance, state = lut.mapping()
        said += [
            ("mapping/conductance", mapping["conductance"], conductance),
            ("mapping/state", mapping["state"], state),
        ]
    if levels:
        said.append(("levels/state", levels["state"], lut.state_for(levels["conductance"])))
    if factors:
        said += [("factors/state", factors["state"], lut.state), ("factors/voltage", factors["voltage"], lut.voltage)]
    for name, got, expected in said:
        if not np.allclose(got, expected, rtol=MAPPING_ROUNDING, atol=MAPPING_ROUNDING * np.abs(expected).max()):
            raise LutError(f"{name} contradicts the table", hint="make the table again")


def _free(group: h5py.Group) -> dict[str, Any]:
    return {key: schema.attribute(group, key) for key in group.attrs}


def digest(file: h5py.File) -> str:
    """SHA-256 of every value and attribute but itself and HDF5's own bookkeeping; docs/lut.md says how."""
    result = hashlib.sha256()

    def add(name: str, item: h5py.HLObject) -> None:
        attributes = {key: schema.attribute(item, key) for key in sorted(item.attrs) if key not in schema.BOOKKEEPING}
        attributes.pop("content_sha256", None)
        result.update(json.dumps([name, attributes], sort_keys=True).encode())
        if isinstance(item, h5py.Dataset):
            result.update(f"{item.dtype.str}{item.shape}".encode())
            result.update(np.ascontiguousarray(item[()]).tobytes())

    add("/", file)
    names: list[str] = []
    file.visit(names.append)
    for name in sorted(names):
        add(name, file[name])
    return result.hexdigest()
