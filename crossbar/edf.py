"""The European Data Format (EDF), in which public EEG sets come: written and read, equal sampling rates only.

A header of 256 bytes, 256 more for each signal, then records of one second: each signal's samples as 16-bit integers.

Source: B. Kemp et al., Electroencephalogr. Clin. Neurophysiol. 82, 391 (1992), doi:10.1016/0013-4694(92)90009-7.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from devicelab.errors import FileFormatError, ParameterError, ShapeError
from devicelab.files import replacing

Array = np.ndarray[Any, np.dtype[np.float64]]
_FIELDS = (16, 80, 8, 8, 8, 8, 8, 80, 8, 32)
"""Bytes of: label, transducer, unit, physical and digital range, filter, samples a record, reserved."""
_LOW, _HIGH = -32768, 32767
_MOST_SIGNALS = 9999


def write_edf(
    path: str | Path, signal: Array, labels: Sequence[str], *, rate: int, units: Sequence[str], force: bool = False
) -> None:
    """Write signals as whole records of one second; a rest shorter than that is left out.

    Args:
        path: File, made as `devicelab.files.replacing` does.
        signal: Values, [signals, t]; each signal is rounded to 2^16 steps of its own range.
        labels: Names, 16 ASCII characters at most.
        rate: Samples a second.
        units: Units, 8 characters at most.
        force: Replace a file.
    """
    count, n = signal.shape[0], signal.shape[1] // rate
    if not len(labels) == len(units) == count or n < 1:
        raise ShapeError("signals, labels and units do not fit", got=(signal.shape, len(labels), len(units)))
    used = signal[:, : n * rate]
    # the header has eight characters for a bound: round outwards, so that the text is the bound
    low = np.array([float(f"{v:.3g}") for v in used.min(axis=1) - 0.01 * (np.abs(used).max(axis=1) + 1)])
    high = np.array([float(f"{v:.3g}") for v in used.max(axis=1) + 0.01 * (np.abs(used).max(axis=1) + 1)])
    head = _text("0", 8) + _text("X X X X", 80) + _text("Startdate X X X X", 80) + _text("01.01.00", 8)
    head += _text("00.00.00", 8) + _text(str(256 * (count + 1)), 8) + _text("", 44) + _text(str(n), 8)
    head += _text("1", 8) + _text(str(count), 4)
    columns: list[Sequence[str]] = [
        labels, [""] * count, units, [f"{v:g}" for v in low], [f"{v:g}" for v in high],
        [str(_LOW)] * count, [str(_HIGH)] * count, [""] * count, [str(rate)] * count, [""] * count,
    ]  # fmt: skip
    for values, width in zip(columns, _FIELDS, strict=True):
        head += b"".join(_text(value, width) for value in values)
    share = (used - low[:, None]) / (high - low)[:, None]
    digital = np.rint(_LOW + share * (_HIGH - _LOW)).astype("<i2")
    with replacing(path, force=force) as temporary:
        temporary.write_bytes(head + digital.reshape(count, n, rate).swapaxes(0, 1).tobytes())


def read_edf(path: str | Path) -> tuple[Array, list[str], int]:
    """Signals [signals, t] in their units, labels, and samples a second.

    Raises:
        FileFormatError: If the file is not EDF, is cut off, or its signals have different rates.
    """
    raw = Path(path).read_bytes()
    if len(raw) < 256 or raw[:8].strip() != b"0":
        raise FileFormatError("not an EDF file", got=f"{path} begins with {raw[:8]!r}", allowed="'0' and seven spaces")
    records, duration = _number(raw[236:244], path, "number of records"), _number(raw[244:252], path, "duration")
    count = int(_number(raw[252:256], path, "number of signals"))
    if not 1 <= count <= _MOST_SIGNALS or len(raw) < 256 * (count + 1) or not duration > 0:
        raise FileFormatError("EDF file ends within its header, or holds no signal", got=f"{path}: {count} signals")
    columns, start = [], 256
    for width in _FIELDS:
        columns.append([raw[start + k * width : start + (k + 1) * width] for k in range(count)])
        start += count * width
    labels = [part.decode("latin-1").strip() for part in columns[0]]
    p_low, p_high, d_low, d_high, samples = (
        np.array([_number(part, path, "header of a signal") for part in columns[k]]) for k in (3, 4, 5, 6, 8)
    )
    if (samples != samples[0]).any() or samples[0] < 1 or (d_high <= d_low).any():
        raise FileFormatError("signals of unequal rates, or without a range", got=f"{path}: {samples}")
    each = int(samples[0])
    body = np.frombuffer(raw, dtype="<i2", offset=start, count=(len(raw) - start) // 2)
    if records < 1 or body.size != int(records) * count * each:
        expected = f"{int(records) * count * each} samples"
        raise FileFormatError("EDF file is cut off, or too long", got=f"{path}: {body.size}", allowed=expected)
    digital = body.reshape(int(records), count, each).swapaxes(0, 1).reshape(count, -1)
    scale = (p_high - p_low) / (d_high - d_low)
    return (digital - d_low[:, None]) * scale[:, None] + p_low[:, None], labels, round(each / duration)


def _text(value: str, width: int) -> bytes:
    if len(value) > width or not value.isascii():
        raise ParameterError("text does not fit an EDF header", got=repr(value), allowed=f"{width} ASCII characters")
    return value.ljust(width).encode("ascii")


def _number(text: bytes, path: str | Path, what: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise FileFormatError(f"EDF file: unreadable {what}", got=f"{path}: {text!r}", allowed="a number") from None
