"""Operands of PTX instructions as Python expressions on vectors of threads."""

from __future__ import annotations

from typing import Any

import numpy as np
from ptx_text import FLAG, Address, Instruction, Kernel, Operand, literal

NUMPY = {
    f"{letter}{bits}": f"{kind}{bits // 8}"
    for letter, kind in zip("sub", "iuu", strict=True)
    for bits in (8, 16, 32, 64)
}
NUMPY |= {"f16": "f2", "f32": "f4", "f64": "f8"}
"""Types of PTX as numpy's."""
SPECIAL = {f"%{name}.{axis}": f"m.{name}_{axis}" for name in ("tid", "ntid", "ctaid", "nctaid") for axis in "xyz"}
SPECIAL |= {"%laneid": "m.lane", "%warpid": "m.warp_of"}


class Unsupported(NotImplementedError):
    """An instruction that the machine does not know."""

    def __init__(self, i: Instruction | str) -> None:
        where = i if isinstance(i, str) else f"{i.opcode!r} (line {i.line}, {i.where})"
        super().__init__(
            where if isinstance(i, str) else f"the PTX machine does not know {where}: add it to ptx_code.py"
        )


class Operands:
    """Reads and writes registers R of a machine m, those of the threads M where only some are there."""

    def __init__(self, kernel: Kernel, symbols: dict[str, int]) -> None:
        self.kernel, self.symbols = kernel, symbols
        self.at = {name: k for k, name in enumerate(kernel.registers)}
        self.pool: list[Any] = []
        self._known: dict[tuple[Any, str], int] = {}
        self._mask, self._masked = "", False

    def flag(self, name: str) -> str:
        if name.startswith("!"):
            return f"~{self.flag(name[1:])}"
        return f"R[{self.at[name]}]"

    def use(self, operand: Operand, kind: str) -> str:
        """An operand as a vector of one of PTX's types."""
        if not isinstance(operand, str):
            raise ValueError(f"{operand} is not one register")
        want = "p" if kind == "pred" else NUMPY[kind]
        if operand in self.at:
            home, size = self.kernel.registers[operand]
            read = f"R[{self.at[operand]}]"
            if home == FLAG or f"{home}{size}" == want:
                return read
            if size != int(want[1]):
                return f"{read}.view('u{size}').astype({want})" if size > int(want[1]) else self._refuse(operand, kind)
            return f"{read}.view({want})"
        if operand in SPECIAL:
            return SPECIAL[operand] if want == "u4" else f"{SPECIAL[operand]}.astype({want})"
        value = self.symbols.get(operand, literal(operand))
        if value is None:
            raise ValueError(f"an operand that is not understood: {operand}")
        return self.constant(value, want)

    def _refuse(self, operand: str, kind: str) -> str:
        raise ValueError(f"{operand} is too small for {kind}")

    def constant(self, value: float, want: str) -> str:
        if want == "p":
            made: Any = np.bool_(value != 0)
        elif isinstance(value, float):
            made = np.array(value, f"f{want[1]}").view(want)
        else:
            size = int(want[1])
            made = np.array(value & (1 << 8 * size) - 1, f"u{size}").view(want)
        key = made.tobytes(), str(made.dtype)
        if key not in self._known:
            self._known[key] = len(self.pool)
            self.pool.append(np.full(self.kernel.threads, made))
        return f"K[{self._known[key]}]"

    def put(self, register: Operand, expression: str, kind: str) -> str:
        """Assign a vector of a type to a register, for the threads that are there."""
        if register == "_":
            return "pass"
        assert isinstance(register, str)
        home, size = self.kernel.registers[register]
        at, have = self.at[register], "p" if kind == "pred" else NUMPY[kind]
        if home != FLAG and f"{home}{size}" != have:
            if int(have[1]) != size:
                expression = f"({expression}).astype('{'i' if have[0] == 'i' else 'u'}{size}')"
            expression = f"({expression}).view({home}{size})"
        return f"R[{at}] = where({self._mask}, {expression}, R[{at}])" if self._mask else f"R[{at}] = {expression}"

    def _kind(self, i: Instruction, k: int = -1) -> str:
        found = [p for p in i.parts[1:] if p in NUMPY or p == "pred"]
        if not found:
            raise Unsupported(i)
        return found[k]

    def _plain(self, i: Instruction, allowed: str = "") -> None:
        """Refuse modifiers that change a result and are not known."""
        usual = {"rn", "ftz", "lo", "approx", "full", "wide", "hi", "to", *allowed.split()}
        if unknown := [p for p in i.parts[1:] if p not in usual and p not in NUMPY and p != "pred"]:
            raise Unsupported(i) from ValueError(unknown)

    def _address(self, operand: Operand, wide: bool) -> str:
        assert isinstance(operand, Address)
        if not operand.base or operand.base in self.symbols:
            return self.constant(self.symbols.get(operand.base, 0) + operand.offset, "u8")
        size = self.kernel.registers[operand.base][1]
        base = self.use(operand.base, f"u{8 * size}")
        base = base if size == 8 else f"{base}.astype(u8)"
        return f"{base} + {self.constant(operand.offset, 'u8')}" if operand.offset else base

    def _here(self, i: Instruction) -> str:
        return repr(f"{i.where} (PTX line {i.line}, {i.opcode})")
