"""One door to every other format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import unknown_name
from . import aihwkit, columns, cross_sim, memtorch, neurosim, store, verilog_a, xbtorch
from .make import changed
from .table import Lut

WRITERS: dict[str, Callable[..., None]] = {
    "h5": store.save,
    "csv": columns.write,
    "verilog-a": verilog_a.write,
    "neurosim": neurosim.write,
    "aihwkit": aihwkit.write,
    "crosssim": cross_sim.write,
    "memtorch": memtorch.write,
    "xbtorch": xbtorch.write,
}
READERS: dict[str, Callable[[Path], Lut]] = {
    ".csv": columns.read,
    ".tbl": verilog_a.read,
    ".va": verilog_a.read,
    ".py": cross_sim.read,
}


def open_table(path: Path, v_read: float | None = None) -> Lut:
    """A table from its own format or from one that can be read back, by the suffix of its name.

    Args:
        path: The file.
        v_read: Read voltage [V] for a table that states none.

    Raises:
        LutError: If the file is no table.
    """
    table = READERS.get(path.suffix, store.load)(path)
    return changed(table, v_read=v_read) if table.v_read is None and v_read is not None else table


def convert(table: Lut, path: Path, target: str, *, force: bool = False, **options: Any) -> None:
    """Write a table for another tool; options are those of the tool's `write`.

    Raises:
        ParameterError: If there is no such target.
        LutError: If the table lacks what the tool needs.
        FileFormatError: If a file exists and `force` is not set.
    """
    if target not in WRITERS:
        raise unknown_name("target", target, list(WRITERS))
    WRITERS[target](table, path, force=force, **options)
