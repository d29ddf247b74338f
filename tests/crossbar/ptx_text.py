"""Read PTX: the text that Triton compiles a kernel to, as instructions in basic blocks."""

from __future__ import annotations

import re
import struct
from collections import Counter
from dataclasses import dataclass, field, replace

REAL, WHOLE, FLAG = "f", "u", "p"
"""What a register is kept as: floating point, an unsigned integer, a predicate."""

_TOKEN = re.compile(r"[{}\[\],|]|[^\s{}\[\],|]+")
_FLOAT = re.compile(r"0[fFdD]([0-9A-Fa-f]{8,16})$")
_INTEGER = re.compile(r"[+-]?(0[xX][0-9A-Fa-f]+|\d+)U?$")


@dataclass(frozen=True)
class Address:
    """[base + offset], the base a register, a symbol, or none."""

    base: str
    offset: int


Operand = str | Address | tuple[str, ...]


@dataclass(frozen=True)
class Instruction:
    """`@guard opcode operands`; `where` is the line of the kernel's source."""

    opcode: str
    operands: tuple[Operand, ...]
    guard: str = ""  # "%p1" or "!%p1"
    where: str = ""
    line: int = 0  # of the PTX

    @property
    def parts(self) -> tuple[str, ...]:
        return tuple(self.opcode.split("."))


@dataclass
class Block:
    """Instructions that are executed one after another; the last may be a branch, a barrier of the block or the end."""

    instructions: list[Instruction] = field(default_factory=list)


@dataclass(frozen=True)
class Kernel:
    """One entry point."""

    name: str
    parameters: tuple[tuple[str, int], ...]  # name, bytes
    threads: int
    blocks: tuple[Block, ...]
    labels: dict[str, int]  # of blocks
    registers: dict[str, tuple[str, int]]  # name: what it is kept as, bytes
    constants: dict[str, bytes]  # in global memory
    local: dict[str, int]  # bytes of one thread
    small: bool  # whether memory is accessed in less than four bytes

    def where(self, k: int) -> str:
        return next((i.where for i in self.blocks[k].instructions if i.where), "")


def parsed(text: str, entry: str = "") -> Kernel:
    """The first (or the named) entry point of a PTX module.

    Raises:
        ValueError: If there is none, or a line is not understood.
    """
    pattern = r"\.entry\s+(" + (entry or r"[\w$]+") + r")\s*\(([^)]*)\)(.*?)\n\{(.*?)\n\}"
    found = re.search(pattern, text, re.DOTALL)
    if found is None:
        raise ValueError(f"no entry point {entry}")
    name, parameters, directives, body = found.groups()
    first = text[: found.start(4)].count("\n") + 1
    threads = re.search(r"\.(?:reqntid|maxntid)\s+(\d+)", directives)
    if threads is None:
        raise ValueError(f"{name} does not say how many threads it has")
    reader = _Reader(set(re.findall(r"\bbra(?:\.uni)?\s+([\w$]+)", body)))
    for number, line in enumerate(body.split("\n"), first):
        reader.line(line, number)
    homes = _homes(reader)
    memory = [i.parts for i in reader.all if i.parts[0] in ("ld", "st")]
    return Kernel(
        name,
        tuple((p.split()[-1], 8 if "64" in p.split()[1] else 4) for p in parameters.split(",") if p.strip()),
        int(threads[1]),
        tuple(reader.blocks),
        reader.labels,
        homes,
        _constants(text),
        reader.local,
        any(p[-1] in ("b8", "u8", "s8", "b16", "u16", "s16") and "param" not in p for p in memory),
    )


class _Reader:
    def __init__(self, targets: set[str]) -> None:
        self._targets = targets
        self.blocks, self.labels, self.declared = [Block()], dict[str, int](), dict[str, str]()
        self.local, self.all, self._where, self._pending = dict[str, int](), list[Instruction](), "", ""

    def line(self, raw: str, number: int) -> None:
        code, _, comment = raw.partition("//")
        code = code.strip()
        if code.startswith((".loc ", ".loc\t")):
            self._where = comment.strip().split("@")[0].strip()
            return
        if not code or code.startswith((".pragma", ".file", ".section")):
            return
        if label := re.match(r"([\w$]+):\s*(.*)", code):
            if label[1] in self._targets and self.blocks[-1].instructions:
                self.blocks.append(Block())
            self.labels[label[1]] = len(self.blocks) - 1
            code = label[2]
        code = self._pending + code
        if code.strip() in ("{", "}", ""):
            return
        if not code.rstrip("}").rstrip().endswith(";"):
            self._pending = code + " "
            return
        self._pending = ""
        depth = code.count("{") - code.count("}")
        code = code.strip()
        if depth > 0 and code.startswith("{"):
            code = code[1:]
        if depth < 0 and code.endswith("}"):
            code = code[:-1]
        for statement in code.split(";"):
            if statement.strip():
                self._statement(statement.strip(), number)

    def _statement(self, text: str, number: int) -> None:
        if text.startswith(".reg"):
            _, kind, names = text.split(None, 2)
            for name in names.split(","):
                if many := re.match(r"\s*(%[\w$]+)<(\d+)>", name):
                    self.declared |= {f"{many[1]}{k}": kind for k in range(int(many[2]))}
                else:
                    self.declared[name.strip()] = kind
            return
        if text.startswith(".local"):
            size = re.search(r"([\w$]+)\[(\d+)\]", text)
            assert size is not None
            self.local[size[1]] = int(size[2])
            return
        guard = ""
        if text.startswith("@"):
            guard, text = text[1:].split(None, 1)
        opcode, _, rest = text.partition(" ") if " " in text else text.partition("\t")
        made = Instruction(opcode.strip(), _operands(rest), guard, self._where, number)
        self.blocks[-1].instructions.append(made)
        self.all.append(made)
        if made.parts[0] in ("bra", "ret", "exit", "trap", "bar", "barrier") and made.opcode != "bar.warp.sync":
            self.blocks.append(Block())


def _operands(text: str) -> tuple[Operand, ...]:
    found: list[Operand] = []
    tokens = iter(_TOKEN.findall(text.replace("+", " + ")))
    for token in tokens:
        if token in ",|":
            continue
        if token == "{":
            found.append(tuple(t for t in iter(lambda: next(tokens), "}") if t != ","))
        elif token == "[":
            inner = [t for t in iter(lambda: next(tokens), "]") if t != "+"]
            numbers = [int(t, 0) for t in inner if _INTEGER.match(t)]
            names = [t for t in inner if not _INTEGER.match(t)]
            if len(names) > 1 or len(numbers) > 1:
                raise ValueError(f"an address that is not understood: {text}")
            found.append(Address(names[0] if names else "", numbers[0] if numbers else 0))
        else:
            found.append(token)
    return tuple(found)


def _homes(reader: _Reader) -> dict[str, tuple[str, int]]:
    """Untyped registers are kept as what most of their instructions take them for."""
    real, whole = Counter[str](), Counter[str]()
    for i in reader.all:
        kinds = [p for p in i.parts[1:] if re.fullmatch(r"[fsub](16|32|64)", p)]
        for k, operand in enumerate(i.operands):
            for name in operand if isinstance(operand, tuple) else (operand,):
                if isinstance(name, str) and kinds and i.parts[0] != "setp":
                    kind = kinds[-1] if i.parts[0] in ("cvt", "selp") and k else kinds[0]
                    (real if kind[0] == "f" else whole)[name] += 2 if kind[0] != "b" else 0
                elif isinstance(name, str) and kinds:
                    (real if kinds[-1][0] == "f" else whole)[name] += 2
    homes = {}
    for name, kind in reader.declared.items():
        if kind == ".pred":
            homes[name] = FLAG, 1
        else:
            size = int(kind[2:]) // 8
            homes[name] = REAL if real[name] > whole[name] and size > 2 else WHOLE, size
    return homes


def _constants(text: str) -> dict[str, bytes]:
    """Arrays in global or constant memory with their values."""
    found = {}
    pattern = r"^\s*(?:\.visible\s+)?\.(?:global|const)\s+\.align\s+\d+\s+\.b(\d+)\s+([\w$]+)\[\d+\]\s*=\s*\{([^}]*)\}"
    for bits, name, values in re.findall(pattern, text, re.MULTILINE):
        found[name] = b"".join(int(v, 0).to_bytes(int(bits) // 8, "little") for v in values.split(","))
    return found


def literal(text: str) -> int | float | None:
    """The value of a number in PTX; None for anything else."""
    if exact := _FLOAT.match(text):
        digits = bytes.fromhex(exact[1])
        return float(struct.unpack(">f" if len(digits) == 4 else ">d", digits)[0])
    if _INTEGER.match(text):
        return int(text.rstrip("U"), 0)
    return None


def without(kernel: Kernel, opcode: str, which: int) -> Kernel:
    """A copy that lacks the `which`-th instruction of this opcode: to show that its absence is noticed."""
    blocks, seen = [], -1
    for block in kernel.blocks:
        kept = []
        for i in block.instructions:
            seen += i.opcode == opcode
            if i.opcode != opcode or seen != which:
                kept.append(i)
        blocks.append(Block(kept))
    if seen < which:
        raise ValueError(f"{kernel.name} has {seen + 1} of {opcode}")
    return replace(kernel, blocks=tuple(blocks))
