"""What differs between two tables."""

from __future__ import annotations

from typing import Any

import numpy as np

from .table import Lut

SAMPLES = 65


def diff(a: Lut, b: Lut) -> dict[str, Any]:
    """Differences between two tables, in plain numbers.

    Returns:
        ``same``: whether grids, currents and contents are equal bit for bit. ``current``: largest difference of the
        currents over the voltages and states that both cover, relative to the largest current of the same state in
        `a`. ``grid``: shapes. ``device``, ``provenance``: entries that differ, as (a, b). ``content``: optional parts
        that differ.
    """
    low, high = max(a.voltage[0], b.voltage[0]), min(a.voltage[-1], b.voltage[-1])
    x_low, x_high = max(a.state[0], b.state[0]), min(a.state[-1], b.state[-1])
    out: dict[str, Any] = {"grid": {"a": list(a.table.shape), "b": list(b.table.shape)}, "current": None}
    if low < high and x_low < x_high:
        v, x = np.linspace(low, high, SAMPLES), np.linspace(x_low, x_high, SAMPLES)
        ours, theirs = (lut.current(v[None, :], x[:, None]) for lut in (a, b))
        out["current"] = float((np.abs(ours - theirs).max(axis=1) / np.abs(ours).max(axis=1)).max())
    out["device"] = _entries(a.device, b.device)
    out["provenance"] = _entries(a.provenance, b.provenance)
    parts = ("v_read", "levels", "curves", "rate", "factors")
    out["content"] = [name for name in parts if not _same(getattr(a, name), getattr(b, name))]
    grids = all(np.array_equal(getattr(a, name), getattr(b, name)) for name in ("voltage", "state", "table"))
    out["same"] = bool(grids and not (out["device"] or out["provenance"] or out["content"]))
    return out


def _entries(a: Any, b: Any) -> dict[str, tuple[Any, Any]]:
    return {key: (a.get(key), b.get(key)) for key in sorted({*a, *b}) if not _same(a.get(key), b.get(key))}


def _same(a: Any, b: Any) -> bool:
    if a is None or b is None or type(a) is not type(b):
        return bool(np.array_equal(a, b)) if a is not None and b is not None else a is b
    if hasattr(a, "__dataclass_fields__"):
        return all(_same(getattr(a, name), getattr(b, name)) for name in a.__dataclass_fields__)
    if isinstance(a, float):
        return a == b or (a != a and b != b)
    return bool(np.array_equal(a, b))
