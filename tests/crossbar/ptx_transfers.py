"""Instructions that move data or join threads, as calls of the PTX machine, where what they do is written."""

from __future__ import annotations

import re

from ptx_operands import NUMPY, Operands, Unsupported
from ptx_text import REAL, Address, Instruction, literal

KINDS = tuple(("f32", kind, kind) for kind in ("tf32", "f16", "bf16"))
"""Types of products on tensor cores: of sums and of both factors."""


class Transfers(Operands):
    """Loads, stores, copies, shuffles, barriers and products of matrices."""

    def _ld(self, i: Instruction) -> list[str]:
        to = i.operands[0] if isinstance(i.operands[0], tuple) else (i.operands[0],)
        kind = self._kind(i)
        space = next(
            (p.split("::")[0] for p in i.parts[1:] if p.split("::")[0] in ("global", "shared", "local", "param")), ""
        )
        if space == "param":
            source = i.operands[1]
            assert isinstance(source, Address)
            return [self.put(to[0], f"m.parameter({source.base!r}, {NUMPY[kind]})", kind)]
        if not space:
            raise Unsupported(i)
        bits, address = int(kind[1:]), self._address(i.operands[1], space == "global")
        lines = [f"w = m.load_{space}({address}, {bits // 8 * len(to)}, {self._mask or None}, {self._here(i)})"]
        if bits != 32 or self.kernel.small:
            lines.append(f"w = w.view('u{bits // 8}')")
        return lines + [self.put(o, f"w[:, {k}]", f"b{bits}" if bits >= 32 else kind) for k, o in enumerate(to)]

    def _st(self, i: Instruction) -> str:
        of = i.operands[1] if isinstance(i.operands[1], tuple) else (i.operands[1],)
        kind = self._kind(i)
        space = next((p.split("::")[0] for p in i.parts[1:] if p.split("::")[0] in ("global", "shared", "local")), "")
        if not space:
            raise Unsupported(i)
        values = ", ".join(self.use(o, f"b{kind[1:]}") for o in of)
        address = self._address(i.operands[0], space == "global")
        return f"m.store_{space}({address}, [{values}], {self._mask or None}, {self._here(i)})"

    def _cp(self, i: Instruction) -> str:
        if i.parts[:2] != ("cp", "async"):
            raise Unsupported(i)
        if "commit_group" in i.parts:
            return f"m.commit({self._mask or None})"
        if "wait_group" in i.parts or "wait_all" in i.parts:
            return f"m.wait({i.operands[0] if 'wait_group' in i.parts else 0}, {self._mask or None})"
        if "bulk" in i.parts or len(i.operands) < 3:
            raise Unsupported(i)
        to, of = self._address(i.operands[0], False), self._address(i.operands[1], True)
        size = int(str(i.operands[2]), 0)
        taken = self.use(i.operands[3], "u32") if len(i.operands) > 3 else self.constant(size, "u4")
        return f"m.copy({to}, {of}, {size}, {taken}, {self._mask or None}, {self._here(i)})"

    def _ldmatrix(self, i: Instruction) -> list[str]:
        if "m8n8" not in i.parts or i.parts[-1] != "b16":
            raise Unsupported(i)
        to = i.operands[0] if isinstance(i.operands[0], tuple) else (i.operands[0],)
        address, turned = self._address(i.operands[1], False), "trans" in i.parts
        lines = [f"w = m.load_matrix({address}, {len(to)}, {turned}, {self._mask or None}, {self._here(i)})"]
        return lines + [self.put(o, f"w[{k}]", "b32") for k, o in enumerate(to)]

    def _stmatrix(self, i: Instruction) -> str:
        if "trans" in i.parts or "m8n8" not in i.parts:
            raise Unsupported(i)
        of = i.operands[1] if isinstance(i.operands[1], tuple) else (i.operands[1],)
        values = ", ".join(self.use(o, "b32") for o in of)
        return (
            f"m.store_matrix({self._address(i.operands[0], False)}, [{values}], {self._mask or None}, {self._here(i)})"
        )

    def _shfl(self, i: Instruction) -> list[str]:
        if i.parts[1] != "sync":
            raise Unsupported(i)
        to, *rest = i.operands
        second = rest.pop(0) if len(rest) == 5 else "_"
        home = self.kernel.registers[str(rest[0])][0] if str(rest[0]) in self.at else "u"
        kind = "f32" if home == REAL else "b32"
        a, by, clamp, members = self.use(rest[0], kind), *(self.use(o, "u32") for o in rest[1:])
        fixed = all(literal(str(o)) is not None for o in rest[1:3])
        key = f"({rest[1]!r}, {rest[2]!r})" if fixed else None
        lines = [
            f"s, c = m.shuffled({i.parts[2]!r}, {by}, {clamp}, {members}, {self._mask or None}, {self._here(i)}, {key})"
        ]
        return [*lines, self.put(to, f"{a}[s]", kind), self.put(second, "c", "pred")]

    def _redux(self, i: Instruction) -> str:
        kind = i.parts[-1]
        if i.parts[1] != "sync" or i.parts[2] not in ("add", "min", "max", "and", "or", "xor") or kind[1:] != "32":
            raise Unsupported(i)
        a, members = self.use(i.operands[1], kind), self.use(i.operands[2], "u32")
        line = f"m.reduced({i.parts[2]!r}, {a}, {members}, {self._mask or None}, {self._here(i)})"
        return self.put(i.operands[0], line, kind)

    def _bar(self, i: Instruction) -> str:
        if i.opcode == "bar.warp.sync":
            return f"m.warp_barrier({self.use(i.operands[0], 'u32')}, {self._mask or None}, {self._here(i)})"
        if i.opcode in ("bar.sync", "barrier.sync") and len(i.operands) == 1 and not i.guard and i.operands[0] == "0":
            return "return None"
        raise Unsupported(i)

    _barrier = _bar

    def _fence(self, i: Instruction) -> str:
        if i.opcode.startswith("fence.proxy.async"):
            return f"m.fence({self._mask or None})"
        raise Unsupported(i)

    def _wgmma(self, i: Instruction) -> list[str]:
        if i.parts[1] != "mma_async":
            return [f"m.tensor_{i.parts[1]}({i.operands[0] if i.operands else ''})"]
        kind = i.parts[-1]
        shape = re.fullmatch(r"m64n(\d+)k(8|16)", next(p for p in i.parts if p.startswith("m64")))
        if shape is None or i.parts[-3:] not in KINDS or self._mask or i.operands[4:6] != ("1", "1"):
            raise Unsupported(i)
        sums, a, turned = i.operands[0], i.operands[1], [int(str(o)) for o in i.operands[6:]]
        in_registers = isinstance(a, tuple)
        turned = [0] * (2 - len(turned)) + turned
        left = f"[{', '.join(self.use(o, 'b32') for o in a)}]" if in_registers else self.use(a, "u64")
        flag = str(i.operands[3])
        kept = self.flag(flag) if flag in self.at else self.constant(int(flag), "p")
        given = f"[{', '.join(self.use(o, 'f32') for o in sums)}], {left}, {self.use(i.operands[2], 'u64')}, {kept}"
        line = f"w = m.wgmma({given}, {shape[1]}, {kind!r}, {tuple(turned)}, {self._here(i)})"
        return [line, *(self.put(o, f"w[{k}]", "f32") for k, o in enumerate(sums))]

    def _mma(self, i: Instruction) -> list[str]:
        kind = i.parts[-2]
        shape = "m16n8k8" if kind == "tf32" else "m16n8k16"
        if i.opcode != f"mma.sync.aligned.{shape}.row.col.f32.{kind}.{kind}.f32" or ("f32", kind, kind) not in KINDS:
            raise Unsupported(i)
        d, *rest = i.operands
        types = ("b32", "b32", "f32")
        given = [f"[{', '.join(self.use(o, t) for o in part)}]" for part, t in zip(rest, types, strict=True)]
        line = f"w = m.mma({', '.join(given)}, {kind!r}, {self._mask or None}, {self._here(i)})"
        return [line, *(self.put(o, f"w[{k}]", "f32") for k, o in enumerate(d))]
