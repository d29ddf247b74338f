"""A pretended GPU: tensors that say they are on "cuda:0" and lie on the CPU, held to the rules of a real one.

While `pretended()` lasts, `device="cuda"`, `.to("cuda")` and `.cuda()` give `Pretended` tensors. Below autograd every
operation on them passes through `Gpu`, which refuses what CUDA refuses (tensors of both devices in one operation,
`.numpy()`, compiled kernels for CPUs) and counts what makes the host wait. The operators that stand for Triton kernels
run by Triton's interpreter. What it cannot show: speed, memory, races, and arithmetic other than the CPU's.
"""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map, tree_map_only

HERE = torch.device("cuda", 0)
FREE, TOTAL = 2**30, 2**31  # bytes of memory it says it has
MULTIPROCESSORS = 2

ON_CPUS_ONLY = {"devicelab::tabulated", "devicelab::powers", "devicelab::tiled_product"}
"""Operators whose kernels read the memory of the CPU."""
MOVES = {"aten::_to_copy", "aten::copy_"}
FROM_HOST = {"aten::index": (1,), "aten::index_put": (1,), "aten::index_put_": (1,), "aten::_index_put_impl_": (1,),
             "aten::_pack_padded_sequence": (1,), "aten::_pad_packed_sequence": (1,),
             "aten::tensor_split": (1,)}  # fmt: skip
"""Arguments that CUDA also takes from the CPU: indices, lengths of sequences."""
LENGTHS = {"aten::_pack_padded_sequence", "aten::_pad_packed_sequence"}
"""Operations whose second result stays on the CPU."""
SCALARS_TOO = {"aten::where", "aten::masked_fill", "aten::masked_fill_", "aten::fill_", "aten::clamp", "aten::clamp_",
               "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"}  # fmt: skip
"""Not pointwise by torch's tags, and takes numbers in tensors of the CPU all the same."""
WAITS = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive", "equal",
         "bincount", "_linalg_check_errors", "is_nonzero", "multinomial"}  # fmt: skip
"""Operations whose result, or its shape, the host has to know before it goes on."""


def refused(other: object = "cpu") -> RuntimeError:
    return RuntimeError(
        f"Expected all tensors to be on the same device, but found at least two devices, {HERE} and {other}!"
    )


class Pretended(Tensor):
    """A tensor that says it is on a GPU; its numbers are those of `inner`, on the CPU."""

    inner: Tensor

    @staticmethod
    def __new__(cls: type[Pretended], inner: Tensor) -> Pretended:
        inner = inner.resolve_conj().resolve_neg()
        self = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, inner.size(), strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype,
            layout=inner.layout, device=HERE,
        )  # fmt: skip
        self.inner = inner
        return self  # type: ignore[no-any-return]

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError(f"{func} on a pretended GPU that is not there any more")

    def numpy(self, *, force: bool = False) -> Any:
        if force:
            return self.detach().cpu().numpy()
        raise TypeError(f"can't convert {HERE} device type tensor to numpy. Use Tensor.cpu() to copy it to the host.")

    def tolist(self) -> Any:
        return self.detach().cpu().tolist()

    def data_ptr(self) -> int:
        raise RuntimeError("a pretended tensor has no address")

    def __repr__(self) -> str:  # type: ignore[override]
        return f"Pretended({self.inner!r})"

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if id(self) not in memo:
            if not self.is_leaf:
                raise RuntimeError("Only Tensors created explicitly by the user support the deepcopy protocol")
            other = self.detach().clone()
            if getattr(self, "_is_param", False):
                other._is_param = True  # type: ignore[attr-defined]
            memo[id(self)] = other.requires_grad_(self.requires_grad)
        return memo[id(self)]  # type: ignore[no-any-return]

    def __reduce_ex__(self, protocol: object) -> Any:
        return _sent, (self.detach().cpu(), self.requires_grad, getattr(self, "_is_param", False))

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        """Tells `Module.to` that this is no plain tensor."""
        return ["inner"], None

    @staticmethod
    def __tensor_unflatten__(inner: dict[str, Tensor], *_: Any) -> Pretended:
        return Pretended(inner["inner"])


def _sent(values: Tensor, requires_grad: bool, is_param: bool) -> Tensor:
    tensor = values.to(HERE)
    return torch.nn.Parameter(tensor, requires_grad) if is_param else tensor.requires_grad_(requires_grad)


class Graph:
    """Of operations done once, to be done again in the same memory; stands for `torch.cuda.CUDAGraph`."""

    def __init__(self) -> None:
        self.tape: list[Callable[[], None]] = []

    def replay(self) -> None:
        with torch.no_grad():
            for again in self.tape:
                again()


class Gpu(TorchDispatchMode):
    """What runs operations on pretended tensors, by the rules of CUDA."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()  # operations in which the host waited for the device
        self.sent: Counter[str] = Counter()  # copies of pageable memory to the device, in which it waits as well
        self.strict = False  # as torch.cuda.set_sync_debug_mode("error")
        self.tape: list[Callable[[], None]] | None = None  # of a graph that is captured now

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        device = kwargs.get("device")
        there = any(_pretended(a) for a in (*args, *kwargs.values()))
        if not there and (device is None or device.type != "cuda"):
            return func(*args, **kwargs)
        name = func._schema.name
        if torch.is_inference_mode_enabled():
            raise NotImplementedError("the pretended GPU knows no inference mode; use torch.no_grad()")
        if name not in MOVES and device is None:  # else it makes something there like something here
            _check(func, name, args, kwargs)
        self._count(func, name, args, kwargs)
        kept: dict[int, Pretended] = {}

        def unwrapped(a: Pretended) -> Tensor:
            kept[id(a.inner)] = a
            return a.inner

        args, kwargs = tree_map_only(Pretended, unwrapped, (args, kwargs))
        if device is not None:
            kwargs["device"] = torch.device("cpu")
        out = CELLS.get(name, func)(*args, **kwargs)
        if name == "aten::_to_copy" and not kept and out is args[0]:
            out = out.clone()
        if device is not None and device.type != "cuda":
            return out
        if self.tape is not None:
            self._record(func, args, kwargs, out)
        if name == "aten::copy_" and id(args[0]) not in kept:  # to the host
            return out

        if name in LENGTHS:
            return Pretended(out[0]), out[1]

        def wrapped(a: Any) -> Any:
            if not isinstance(a, Tensor):
                return a
            return kept[id(a)] if id(a) in kept else Pretended(a)

        out = tree_map(wrapped, out)
        for a in kept.values():
            if a.shape != a.inner.shape or a.stride() != a.inner.stride():
                with no_dispatch():  # squeeze_ and its like
                    torch.ops.aten.as_strided_(a, a.inner.size(), a.inner.stride(), a.inner.storage_offset())
        return out

    def _count(self, func: Any, name: str, args: Any, kwargs: Any) -> None:
        short = name.split("::")[1]
        waits = short in WAITS
        if name in MOVES:
            target = kwargs.get("device") if name == "aten::_to_copy" else args[0].device
            source = args[0] if name == "aten::_to_copy" else args[1]
            kind = None if target is None else target.type
            # what is sent without blocking is read before the call returns, and nothing waits for its arrival
            blocks = not (kwargs.get("non_blocking") or args[2:] == (True,)) or self.tape is not None
            if not isinstance(source, Pretended) and kind == "cuda" and source.numel() and blocks:
                self._waited(self.sent, short)
            waits = isinstance(source, Pretended) and kind == "cpu"
        elif short in ("index", "index_put", "index_put_", "_index_put_impl_"):
            masks = [a for a in args[1] if a is not None and a.dtype in (torch.bool, torch.uint8)]
            number = short != "index" and args[2].numel() == 1 and not isinstance(args[2], Pretended)
            waits = any(isinstance(a, Pretended) for a in masks) and not number
            if any(not isinstance(a, Pretended) for a in args[1] if a is not None):
                self._waited(self.sent, short)
        elif short == "repeat_interleave":
            waits = kwargs.get("output_size") is None
        if waits:
            self._waited(self.waits, short)

    def _waited(self, counter: Counter[str], name: str) -> None:
        counter[name] += 1
        if self.strict or self.tape is not None:
            raise RuntimeError(f"called a synchronizing CUDA operation: {name}")

    def _record(self, func: Any, args: Any, kwargs: Any, out: Any) -> None:
        """Keep an operation for replays, which put its results where they were; views see them without."""
        changes = [r.alias_info for r in func._schema.returns]
        if any(a is not None and not a.is_write for a in changes):
            return
        held = [] if any(changes) else [a for a in tree_leaves(out) if isinstance(a, Tensor)]

        def again() -> None:
            found = [a for a in tree_leaves(func(*args, **kwargs)) if isinstance(a, Tensor)]
            for old, new in zip(held, found, strict=False):
                old.copy_(new)

        self.tape.append(again)  # type: ignore[union-attr]


def _pretended(a: Any) -> bool:
    return isinstance(a, Pretended) or (isinstance(a, list | tuple) and any(_pretended(b) for b in a))


def _check(func: Any, name: str, args: Any, kwargs: Any) -> None:
    """Raise what CUDA raises for these arguments."""
    if name in ON_CPUS_ONLY:
        raise TypeError(f"{name} reads memory of the CPU, and its tensors are on {HERE}")
    if name.startswith(("aten::index", "aten::_index")) and name in FROM_HOST and not isinstance(args[0], Pretended):
        raise RuntimeError("indices should be either on cpu or on the same device as the indexed tensor (cpu)")
    scalars = torch.Tag.pointwise in func.tags or name in SCALARS_TOO
    for place, argument in enumerate(func._schema.arguments):
        given = args[place] if place < len(args) else kwargs.get(argument.name)
        if isinstance(given, torch.Generator) and given.device.type != "cuda":
            raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")
        for a in given if isinstance(given, list | tuple) else [given]:
            if not isinstance(a, Tensor) or isinstance(a, Pretended) or place in FROM_HOST.get(name, ()):
                continue
            if argument.is_write or not (scalars and a.dim() == 0):
                raise refused(a.device)


def _lstm(i: Tensor, h: Tensor, c: Tensor, *bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    gates = torch.stack((i + h + sum(bias)).chunk(4, -1))
    a, b, o = gates[[0, 1, 3]].sigmoid()
    c = b * c + a * gates[2].tanh()
    return o * c.tanh(), c, gates


def _gru(i: Tensor, h: Tensor, before: Tensor, *bias: Tensor) -> tuple[Tensor, Tensor]:
    i, h = (a + b for a, b in zip((i, h), bias or (0, 0), strict=True))
    r, z = torch.stack((i + h).chunk(3, -1)[:2]).sigmoid()
    n = (i.chunk(3, -1)[2] + r * h.chunk(3, -1)[2]).tanh()
    return n + z * (before - n), torch.cat([r, z, n, before, h], -1)


CELLS = {"aten::_thnn_fused_lstm_cell": _lstm, "aten::_thnn_fused_gru_cell": _gru}
"""Operators that torch has on CUDA only; without their gradients."""


def missing() -> str | None:
    """Why a GPU cannot be pretended here; None if it can."""
    library = _library()
    return f"a GPU cannot be pretended: {library}" if isinstance(library, str) else None


@contextmanager
def pretended() -> Iterator[Gpu]:
    """A machine with one GPU, which is not there."""
    library = _library()
    if isinstance(library, str):
        raise RuntimeError(library)
    lifted = torch._C._only_lift_cpu_tensors()
    properties = SimpleNamespace(
        name="pretended GPU", major=9, minor=0, multi_processor_count=MULTIPROCESSORS, total_memory=TOTAL
    )
    gpu = Gpu()

    def debug(mode: object) -> None:
        gpu.strict = mode in ("error", 2)

    @contextmanager
    def captured(graph: Graph) -> Iterator[None]:
        gpu.tape = graph.tape
        try:
            yield
        finally:
            gpu.tape = None

    stream = SimpleNamespace(wait_stream=lambda other: None)
    known: dict[str, Callable[..., Any]] = {
        "CUDAGraph": Graph, "graph": captured, "Stream": lambda: stream, "current_stream": lambda: stream,
        "stream": lambda stream: nullcontext(), "device_of": lambda tensor: nullcontext(),
        "is_available": lambda: True, "device_count": lambda: 1, "current_device": lambda: 0,
        "_lazy_init": lambda: None, "is_current_stream_capturing": lambda: gpu.tape is not None,
        "get_device_name": lambda device=None: properties.name, "get_device_properties": lambda device=None: properties,
        "get_device_capability": lambda device=None: (9, 0), "mem_get_info": lambda device=None: (FREE, TOTAL),
        "synchronize": lambda device=None: None, "empty_cache": lambda: None, "set_sync_debug_mode": debug,
        "max_memory_allocated": lambda device=None: 0, "reset_peak_memory_stats": lambda device=None: None,
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch, torch.autograd.set_multithreading_enabled(False):
        for name, function in known.items():
            patch.setattr(torch.cuda, name, function)
        patch.setattr(torch.backends.cudnn, "is_acceptable", lambda tensor: False)
        patch.setattr(torch.nn.Module, "_apply", _applied)
        torch._C._set_only_lift_cpu_tensors(True)
        library.pretend(True)
        try:
            with gpu:
                yield gpu
        finally:
            library.pretend(False)
            torch._C._set_only_lift_cpu_tensors(lifted)


@cache
def _library() -> ctypes.CDLL | str:
    """What tells torch's C++ that there is a CUDA device, compiled in about two seconds; or why it is not there."""
    torch_at = Path(torch.__file__).parent
    with tempfile.TemporaryDirectory() as folder:  # a library that is loaded needs its file no more
        library = Path(folder) / "pretend_gpu.so"
        command = [
            *("c++", "-std=c++20", "-O0", "-w", "-shared", "-fPIC"),
            *(f"-I{torch_at / 'include'}", str(Path(__file__).with_suffix(".cpp")), "-o", str(library)),
            *(f"-L{torch_at / 'lib'}", "-lc10", "-ltorch_cpu"),
        ]
        try:
            done = subprocess.run(command, capture_output=True, text=True)
            return ctypes.CDLL(str(library)) if done.returncode == 0 else f"C++ compiler: {done.stderr[:500]}"
        except OSError as error:
            return str(error)


def _exchanged(a: Tensor, b: Tensor) -> None:
    """What `Module.to` does to parameters of another class. The count of their changes stays, as in plain ones."""
    version = a._version
    a.__class__, b.__class__ = b.__class__, a.__class__
    a.__dict__, b.__dict__ = b.__dict__, a.__dict__
    torch._C._swap_tensor_impl(a, b)
    torch._C._autograd._unsafe_set_version_counter((a,), (version,))


_apply = torch.nn.Module._apply


def _applied(module: torch.nn.Module, *given: Any, **options: Any) -> torch.nn.Module:
    """`Module._apply`, by exchanging: plain and pretended tensors do not take each other's data."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.__future__, "get_swap_module_params_on_conversion", lambda: True)
        patch.setattr(torch.utils, "swap_tensors", _exchanged)
        return _apply(module, *given, **options)
