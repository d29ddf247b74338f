"""The ngspice program as a fallback, and a reader of its binary raw files."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from devicelab.errors import FileFormatError

from ._pool import Reply
from ._worker import failures, raw_name, real_frequency

PLOT_NAMES = {"operating point": "op", "transient": "tran", "dc transfer": "dc", "ac analysis": "ac", "noise": "noise"}
"""How the library calls the analyses that a raw file names in words."""


def executable() -> str | None:
    """Path of the ngspice program, None if there is none."""
    return shutil.which("ngspice")


@functools.cache
def executable_version() -> int | None:
    """Major version of the ngspice program, None if there is none."""
    program = executable()
    if program is None:
        return None
    text = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=60, check=False).stdout
    found = re.search(r"ngspice-(\d+)", text)
    return int(found[1]) if found else None


def run_executable(netlist: str, timeout: float) -> Reply:
    """Run a netlist with ``ngspice -n -b -r``, in a temporary folder of its own."""
    with tempfile.TemporaryDirectory(prefix="devicelab-") as folder:
        circuit, raw = Path(folder, "circuit.cir"), Path(folder, "circuit.raw")
        circuit.write_text(netlist if netlist.endswith("\n") else netlist + "\n", encoding="utf-8")
        command = [str(executable()), "-n", "-b", "-r", str(raw), str(circuit)]
        try:
            done = subprocess.run(command, capture_output=True, timeout=timeout, check=False)
        except subprocess.TimeoutExpired:
            return Reply(ok=False, reason=f"ngspice took longer than {timeout:g} s")
        log = (done.stdout + done.stderr).decode(errors="replace").splitlines()
        # not the exit status: in some versions it is 1 for a mere warning
        plots = read_raw(raw.read_bytes()) if raw.exists() and not failures(log) else []
    return Reply(ok=bool(plots), log=log, plots=plots)


def read_raw(data: bytes) -> list[tuple[str, dict[str, NDArray[Any]]]]:
    """The plots of a binary raw file, in order, each as (name, vectors by lower-case name).

    Raises:
        FileFormatError: If it is not a complete binary raw file.
    """
    plots: list[tuple[str, dict[str, NDArray[Any]]]] = []
    counts: dict[str, int] = {}
    start = 0
    while start < len(data):
        marker = data.find(b"Binary:\n", start)
        if marker < 0:
            raise _broken("no 'Binary:' line after a header")
        header, variables = _header(data[start:marker].decode(errors="replace"))
        kind = "complex" if "complex" in header["flags"] else "real"
        width = 2 if kind == "complex" else 1
        points, body = int(header["no. points"]), marker + len(b"Binary:\n")
        size = 8 * width * points * len(variables)
        if len(data) < body + size:
            raise _broken(f"{len(data) - body} bytes of data, {size} announced")
        table = np.frombuffer(data, dtype=np.float64, count=size // 8, offset=body).reshape(points, -1, width)
        values = table[..., 0] if width == 1 else table[..., 0] + 1j * table[..., 1]
        columns = {name: values[:, index].copy() for index, name in enumerate(variables)}
        plots.append((_plot_name(header["plotname"], counts), real_frequency(columns)))
        start = body + size
    return plots


def _header(text: str) -> tuple[dict[str, str], list[str]]:
    """Fields by lower-case name, and the names of the variables."""
    fields: dict[str, str] = {}
    variables: list[str] = []
    lines = iter(text.splitlines())
    for line in lines:
        name, _, value = line.partition(":")
        fields[name.strip().lower()] = value.strip()
        if name.strip().lower() == "variables":
            variables = [_variable(row.split()) for row in lines if row[:1].isspace() and len(row.split()) >= 3]
    missing = {"plotname", "flags", "no. variables", "no. points"} - fields.keys()
    if missing or len(variables) != int(fields.get("no. variables", -1)):
        raise _broken(f"header without {', '.join(sorted(missing)) or 'a complete list of variables'}")
    return fields, variables


def _variable(row: list[str]) -> str:
    name = row[1].lower()
    device = re.fullmatch(r"[vi]\((@.*|.*-sweep)\)", name)  # the program writes i(@r1[i]), the library @r1[i]
    return device[1] if device else raw_name(name, None)


def _plot_name(title: str, counts: dict[str, int]) -> str:
    kind = next((short for long, short in PLOT_NAMES.items() if long in title.lower()), "plot")
    counts[kind] = counts.get(kind, 0) + 1
    return f"{kind}{counts[kind]}"


def _broken(what: str) -> FileFormatError:
    return FileFormatError("not a complete ngspice raw file", got=what, allowed="a binary raw file")
