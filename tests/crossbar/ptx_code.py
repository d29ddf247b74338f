"""Turn basic blocks of PTX into Python functions on vectors of threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import ptx_arithmetic
from ptx_operands import NUMPY, Unsupported
from ptx_text import REAL, Instruction, Kernel, literal
from ptx_transfers import Transfers

COMPARED = {
    "eq": "==",
    "ne": "!=",
    "lt": "<",
    "le": "<=",
    "gt": ">",
    "ge": ">=",
    "lo": "<",
    "ls": "<=",
    "hi": ">",
    "hs": ">=",
}
CONTRARY = {"ltu": ">=", "leu": ">", "gtu": "<=", "geu": "<"}
NAMES = {name: getattr(ptx_arithmetic, name) for name in vars(ptx_arithmetic) if not name.startswith("_")}
NAMES |= {"np": np, "where": np.where, "u1": np.uint8, "u2": np.uint16, "f2": np.float16, "i1": np.int8, "i2": np.int16}
EXACT = {"add": "+", "sub": "-", "mul": "*"}


class Translator(Transfers):
    """Python for the blocks of a kernel, for `threads` threads; `masked` where only some of them are there."""

    def __init__(self, kernel: Kernel, symbols: dict[str, int], *, uniform: bool) -> None:
        super().__init__(kernel, symbols)
        self.uniform = uniform

    def function(self, k: int, *, masked: bool) -> Callable[..., Any]:
        """Executes block `k` on registers R for a machine m and returns what its branch goes by, if it has one."""
        lines, self._masked, self._block = list[str](), masked, self.kernel.blocks[k]
        for i in self.kernel.blocks[k].instructions:
            lines += self.lines(i)
        body = "\n    ".join(lines or ["pass"])
        space = NAMES | {"K": self.pool, "where": np.where}
        exec(compile(f"def block(R, m, M):\n    {body}\n", f"<block {k} of {self.kernel.name}>", "exec"), space)
        made: Callable[..., Any] = space["block"]
        return made

    def lines(self, i: Instruction) -> list[str]:
        self._mask = self._masking(i)
        kind = i.parts[0]
        if kind in ("bra", "ret", "exit", "trap"):
            return [*self._uniform(i), f"return {self.flag(i.guard)}"] if i.guard else []
        emit = getattr(self, f"_{kind}", None)
        if emit is None:
            raise Unsupported(i)
        made = emit(i)
        return [made] if isinstance(made, str) else list(made)

    def _uniform(self, branch: Instruction) -> list[str]:
        """Look whether floating-point numbers that decide on a branch are the same in all threads."""
        if not self.uniform:
            return []
        wanted, found = {branch.guard.lstrip("!")}, set[str]()
        for i in reversed(self._block.instructions[:-1]):
            if i.operands and i.operands[0] in wanted and i.parts[0] not in ("shfl", "ld"):
                names = {o for o in i.operands[1:] if isinstance(o, str) and o in self.at}
                wanted.discard(str(i.operands[0]))
                if i.parts[0] == "setp" and i.parts[-1] in ("f32", "f64"):
                    found |= names
                else:
                    wanted |= names
        given = ", ".join(f"R[{self.at[name]}]" for name in sorted(found))
        return [f"m.uniform([{given}], {'M' if self._masked else None}, {self._here(branch)})"] if found else []

    def _masking(self, i: Instruction) -> str:
        guard = self.flag(i.guard) if i.guard else ""
        if self._masked:
            return f"(M & {guard})" if guard else "M"
        return guard

    # arithmetic

    def _apply(self, i: Instruction, expression: Callable[..., str], kind: str = "") -> str:
        kind = kind or self._kind(i)
        given = [self.use(o, kind) for o in i.operands[1:]]
        if "ftz" in i.parts:
            return self.put(i.operands[0], f"ftz({expression(*(f'ftz({g})' for g in given))})", kind)
        return self.put(i.operands[0], expression(*given), kind)

    def _halves(self, i: Instruction) -> str:
        """Two half floats in 32 bits, each rounded once."""
        if set(i.parts[1:]) - {"rn", "f16x2"}:
            raise Unsupported(i)
        a, b, *c = (f"np.ascontiguousarray({self.use(o, 'b32')}).view(f2).astype(f8)" for o in i.operands[1:])
        made = f"{a} * {b} + {c[0]}" if i.parts[0] == "fma" else f"{a} {EXACT[i.parts[0]]} {b}"
        return self.put(i.operands[0], f"({made}).astype(f2).view(u4)", "b32")

    def _two(self, i: Instruction) -> str:
        if i.parts[-1] == "f16x2":
            return self._halves(i)
        self._plain(i)
        sign, kind = EXACT[i.parts[0]], self._kind(i)
        if "wide" in i.parts or "hi" in i.parts:
            raise Unsupported(i)
        return self._apply(i, lambda a, b: f"{a} {sign} {b}", kind.replace("s", "u"))

    _add = _sub = _two

    def _mul(self, i: Instruction) -> str:
        if "wide" in i.parts:
            self._plain(i)
            return self.put(i.operands[0], self._wide(i), f"{self._kind(i)[0]}{2 * int(self._kind(i)[1:])}")
        if "hi" in i.parts:
            return self._apply(i, lambda a, b: f"high({a}, {b})")
        return self._two(i)

    def _wide(self, i: Instruction) -> str:
        kind = self._kind(i)
        long = f"{NUMPY[kind][0]}{2 * int(NUMPY[kind][1])}"
        a, b = (self.use(o, kind) for o in i.operands[1:3])
        return f"{a}.astype({long}) * {b}.astype({long})"

    def _mad(self, i: Instruction) -> list[str] | str:
        kind = self._kind(i)
        if "cc" in i.parts:
            return self._carried(i)
        self._plain(i)
        if "wide" in i.parts:
            long = f"{kind[0]}{2 * int(kind[1:])}"
            return self.put(i.operands[0], f"{self._wide(i)} + {self.use(i.operands[3], long)}", long)
        if "hi" in i.parts:
            return self._apply(i, lambda a, b, c: f"high({a}, {b}) + {c}")
        return self._apply(i, lambda a, b, c: f"{a} * {b} + {c}", kind.replace("s", "u"))

    def _carried(self, i: Instruction) -> list[str]:
        if self._kind(i) not in ("u32", "s32"):
            raise Unsupported(i)
        given = ", ".join(self.use(o, "u32") for o in i.operands[1:])
        carry = "m.carry" if i.parts[0] == "madc" else "None"
        kept = f"m.carry = where({self._mask}, c, m.carry)" if self._mask else "m.carry = c"
        made = f"s, c = carried({given}, {carry}, upper={'hi' in i.parts})"
        return [made, self.put(i.operands[0], "s", "u32"), *([kept] if "cc" in i.parts else [])]

    _madc = _carried

    def _fma(self, i: Instruction) -> str:
        if i.parts[-1] == "f16x2":
            return self._halves(i)
        self._plain(i)
        return self._apply(i, lambda a, b, c: f"fma{self._kind(i)[1:]}({a}, {b}, {c})")

    def _div(self, i: Instruction) -> str:
        self._plain(i)
        if self._kind(i)[0] == "f":
            return self._apply(i, lambda a, b: f"{a} / {b}")
        return self._apply(i, lambda a, b: f"divided({a}, {b})")

    def _rem(self, i: Instruction) -> str:
        return self._apply(i, lambda a, b: f"remainder({a}, {b})")

    def _one(self, i: Instruction) -> str:
        if i.opcode in ("neg.f16x2", "abs.f16x2"):
            sign = "^ u4(0x80008000)" if i.parts[0] == "neg" else "& u4(0x7FFF7FFF)"
            return self.put(i.operands[0], f"{self.use(i.operands[1], 'b32')} {sign}", "b32")
        self._plain(i)
        made = {
            "sqrt": "np.sqrt({})", "abs": "np.abs({})", "neg": "-{}", "rcp": "1 / {}", "rsqrt": "1 / np.sqrt({})",
            "ex2": "np.exp2({}.astype(f8)).astype(f4)", "lg2": "np.log2({}.astype(f8)).astype(f4)",
            "sin": "np.sin({}.astype(f8)).astype(f4)", "cos": "np.cos({}.astype(f8)).astype(f4)",
            "tanh": "np.tanh({}.astype(f8)).astype(f4)", "popc": "counted({})", "clz": "leading({})",
        }[i.parts[0]]  # fmt: skip
        if i.parts[0] in ("popc", "clz"):
            return self.put(i.operands[0], made.format(self.use(i.operands[1], self._kind(i))), "u32")
        return self._apply(i, made.format)

    _sqrt = _abs = _neg = _rcp = _rsqrt = _ex2 = _lg2 = _sin = _cos = _tanh = _popc = _clz = _one

    def _min(self, i: Instruction) -> str:
        self._plain(i, "NaN")
        real = self._kind(i)[0] == "f" and "NaN" not in i.parts
        name = f"np.{'f' if real else ''}{i.parts[0]}{'' if real else 'imum'}"
        return self._apply(i, lambda a, b: f"{name}({a}, {b})")

    _max = _min

    def _logic(self, i: Instruction) -> str:
        sign = {"and": "&", "or": "|", "xor": "^"}[i.parts[0]]
        return self._apply(i, lambda a, b: f"{a} {sign} {b}")

    _and = _or = _xor = _logic

    def _not(self, i: Instruction) -> str:
        return self._apply(i, lambda a: f"~{a}")

    def _shl(self, i: Instruction) -> str:
        kind = self._kind(i)
        name = {"shl": "shifted_left", "shr": "shifted_right"}[i.parts[0]]
        a, b = self.use(i.operands[1], kind), i.operands[2]
        number = literal(b) if isinstance(b, str) else None
        if number is not None and 0 <= number < int(kind[1:]):
            return self.put(i.operands[0], f"{a} {'<<' if i.parts[0] == 'shl' else '>>'} {self.use(b, kind)}", kind)
        return self.put(i.operands[0], f"{name}({a}, {self.use(b, 'u32')})", kind)

    _shr = _shl

    def _shf(self, i: Instruction) -> str:
        a, b, c = (self.use(o, "u32") for o in i.operands[1:])
        return self.put(i.operands[0], f"funnel({a}, {b}, {c}, {'l' in i.parts}, {'wrap' in i.parts})", "u32")

    def _bfe(self, i: Instruction) -> str:
        if self._kind(i) not in ("u32", "s32"):
            raise Unsupported(i)
        b, c = (self.use(o, "u32") for o in i.operands[2:])
        return self.put(i.operands[0], f"field_of({self.use(i.operands[1], self._kind(i))}, {b}, {c})", "u32")

    def _bfi(self, i: Instruction) -> str:
        given = ", ".join(self.use(o, "u32") for o in i.operands[1:])
        return self.put(i.operands[0], f"inserted({given})", "u32")

    def _prmt(self, i: Instruction) -> str:
        if i.opcode != "prmt.b32":
            raise Unsupported(i)
        return self._apply(i, lambda a, b, c: f"permuted({a}, {b}, {c})")

    def _lop3(self, i: Instruction) -> str:
        a, b, c = (self.use(o, "b32") for o in i.operands[1:4])
        return self.put(i.operands[0], f"lop3({a}, {b}, {c}, {int(str(i.operands[4]), 0)})", "b32")

    # comparisons, conversions, moves

    def _setp(self, i: Instruction) -> str:
        self._plain(i, f"{i.parts[1]} and or xor num nan")
        kind, how, real = self._kind(i), i.parts[1], self._kind(i)[0] == "f"
        a, b = (self.use(o, kind) for o in i.operands[1:3])
        if "ftz" in i.parts:
            a, b = f"ftz({a})", f"ftz({b})"
        if how in ("num", "nan"):
            made = f"({a} == {a}) & ({b} == {b})"
            made = made if how == "num" else f"~({made})"
        elif how in CONTRARY:
            made = f"~({a} {CONTRARY[how]} {b})"
        elif how in ("equ", "neu"):
            made = f"({a} != {b})" if how == "neu" else f"~(({a} < {b}) | ({a} > {b}))"
        elif how == "ne" and real:
            made = f"(({a} < {b}) | ({a} > {b}))"
        else:
            made = f"({a} {COMPARED[how]} {b})"
        if joined := next((p for p in i.parts[2:] if p in ("and", "or", "xor")), None):
            sign = {"and": "&", "or": "|", "xor": "^"}[joined]
            made = f"({made}) {sign} {self.flag(str(i.operands[3]))}"
        return self.put(i.operands[0], made, "pred")

    def _selp(self, i: Instruction) -> str:
        kind = self._kind(i)
        a, b = (self.use(o, kind) for o in i.operands[1:3])
        return self.put(i.operands[0], f"where({self.flag(str(i.operands[3]))}, {a}, {b})", kind)

    def _cvt(self, i: Instruction) -> str:
        types = [p for p in i.parts[1:] if p in NUMPY]
        source, flush = types[-1], "ftz" in i.parts
        a = self.use(i.operands[1], source)
        a = f"ftz({a})" if flush and source == "f32" else a
        if i.parts[1:4] == ("rna", "tf32", "f32"):
            return self.put(i.operands[0], f"tf32({self.use(i.operands[1], 'b32')})", "b32")
        if i.opcode == "cvt.rn.f16x2.f32":
            up, down = (f"{self.use(o, 'f32')}.astype(f2)" for o in i.operands[1:])
            return self.put(i.operands[0], f"np.stack([{down}, {up}], 1).view(u4).ravel()", "b32")
        self._plain(i, "rzi rni rmi rpi")
        if len(types) != 2:
            raise Unsupported(i)
        to = types[0]
        if source[0] == "f" and to[0] != "f":
            how = next(p for p in i.parts if p in ("rzi", "rni", "rmi", "rpi"))
            return self.put(i.operands[0], f"whole({a}, '{how}', {NUMPY[to]})", to)
        return self.put(i.operands[0], f"{a}.astype({NUMPY[to]})", to)

    def _mov(self, i: Instruction) -> list[str] | str:
        to, of = i.operands
        kind = self._kind(i)
        if isinstance(of, tuple):
            part = f"b{int(kind[1:]) // len(of)}"
            joined = ", ".join(self.use(o, part) for o in of)
            return self.put(to, f"np.stack([{joined}], 1).view({NUMPY[kind]}).ravel()", kind)
        if isinstance(to, tuple):
            part = f"b{int(kind[1:]) // len(to)}"
            lines = [f"w = np.ascontiguousarray({self.use(of, kind)}).view({NUMPY[part]}).reshape(-1, {len(to)})"]
            return lines + [self.put(o, f"w[:, {k}]", part) for k, o in enumerate(to)]
        home = self.kernel.registers.get(str(of))
        if home and home[0] == REAL and self.kernel.registers[str(to)] == home:
            kind = f"f{8 * home[1]}"  # a copy as it is kept
        return self.put(to, self.use(of, kind), kind)
