"""A device for Triton that is not there: kernels are specialised, compiled for an H100 and run by the PTX machine.

Launches go through Triton's own dispatch, so that what is tested is the code, the order of arguments and the
specialisation that a GPU would get. Needs a process without TRITON_INTERPRET.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import triton
from ptx_machine import Machine, Report
from ptx_memory import Buffer
from ptx_text import Kernel, parsed
from torch import Tensor
from triton.backends.compiler import GPUTarget

APART = 1 << 40
"""Buffers lie so far apart that no offset of a kernel leads from one into another."""


@dataclass
class Launch:
    """One launch: what was run and what came of it."""

    name: str
    report: Report
    machine: Machine
    text: str
    unwritten: dict[str, int]  # bytes of results and scratch that nobody has written
    tensors: dict[str, Tensor]
    binary: bytes  # for the device


@dataclass
class Device:
    """Stands for a GPU of compute capability `arch` while it is `active`."""

    arch: int = 90
    schedule: str = "together"
    counting: bool = False
    uniform: bool | tuple[str, ...] = True  # or the names of kernels that are
    edit: Callable[[Kernel], Kernel] = lambda kernel: kernel
    adjust: Callable[[dict[str, Any]], None] = lambda arguments: None
    forgotten: tuple[str, ...] = ()  # arguments that count as not written
    launches: list[Launch] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._fresh: dict[int, int] = {}
        self._texts: dict[int, tuple[str, int, bytes]] = {}
        self._loading: list[str] = []
        self.utils = SimpleNamespace(
            load_binary=self._load, unload_module=lambda module: None, get_device_properties=self._properties
        )

    @property
    def findings(self) -> list[str]:
        return [str(f) for launch in self.launches for f in launch.report.findings]

    @contextmanager
    def active(self) -> Iterator[Device]:
        """Triton's launches go to the machine, and what torch leaves empty counts as not written."""
        if triton.knobs.runtime.interpret:
            raise RuntimeError("TRITON_INTERPRET is set: nothing would be compiled")
        started = triton.knobs.runtime.kernel_load_start_hook
        empty, new_empty = torch.empty, Tensor.new_empty
        before = triton.runtime.driver._active

        def noted(make: Any) -> Any:
            def made(*given: Any, **named: Any) -> Any:
                a = make(*given, **named)
                self._fresh[a.data_ptr()] = a.nbytes
                weakref.finalize(a, self._fresh.pop, a.data_ptr(), None)  # the memory may become another tensor
                return a

            return made

        started.add(self._start)
        triton.runtime.driver.set_active(self)
        torch.empty, Tensor.new_empty = noted(empty), noted(new_empty)  # type: ignore[method-assign]
        try:
            yield self
        finally:
            torch.empty, Tensor.new_empty = empty, new_empty  # type: ignore[method-assign]
            triton.runtime.driver._active = before
            started.remove(self._start)

    # what Triton asks a driver for

    def get_current_device(self) -> int:
        return id(self) % (1 << 30)  # its own cache of kernels

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.arch, 32)

    def _properties(self, device: int) -> dict[str, int]:
        return {"max_shared_mem": 232448, "multiprocessor_count": 132, "warpSize": 32}

    def _start(self, module: Any, function: Any, name: str, files: dict[str, str], key: str) -> None:
        (path,) = (p for file, p in files.items() if file.endswith(".ptx"))
        self._loading.append(Path(path).read_text())

    def _load(self, name: str, binary: bytes, shared: int, device: int) -> tuple[int, int, int, int, int]:
        handle = len(self._texts) + 1
        self._texts[handle] = self._loading.pop(), shared, binary
        return handle, handle, 0, 0, 1024

    def launcher_cls(self, source: Any, metadata: Any) -> Callable[..., None]:
        names = [name for name, kind in source.signature.items() if kind != "constexpr"]
        kinds = [kind for kind in source.signature.values() if kind != "constexpr"]

        def launch(x: int, y: int, z: int, stream: int, function: int, packed: Any, *rest: Any) -> None:
            given = dict(zip(source.signature, rest[3:], strict=True))
            self._launch(
                (x, y, z), function, [(n, kind, given[n]) for n, kind in zip(names, kinds, strict=True)], metadata
            )

        return launch

    def _launch(self, grid: tuple[int, int, int], function: int, given: list[Any], metadata: Any) -> None:
        text, shared, binary = self._texts[function]
        kernel = self.edit(parsed(text))
        grain = 1 if kernel.small else 4
        tensors = {name: a for name, _, a in given if isinstance(a, Tensor) and a.numel()}
        buffers, bases = list[Buffer](), dict[int, int]()
        for k, (name, a) in enumerate(tensors.items(), 1):
            if not a.is_contiguous():
                raise ValueError(f"{name} is not contiguous")
            if a.data_ptr() in bases:
                continue
            bases[a.data_ptr()] = k * APART + a.data_ptr() % 256
            raw = (ctypes.c_uint8 * a.nbytes).from_address(a.data_ptr())
            fresh = self._fresh.pop(a.data_ptr(), 0) >= a.nbytes or name in self.forgotten
            buffers.append(Buffer(name, bases[a.data_ptr()], np.frombuffer(raw, np.uint8), grain, written=not fresh))
            if fresh and name not in self.forgotten:
                buffers[-1].data[:] = 0xFFFFFFFF if grain == 4 else 0xFF
        arguments = {}
        for name, kind, a in given:
            if isinstance(a, Tensor):
                arguments[name] = bases.get(a.data_ptr(), 0) if a.numel() else 0
            else:
                arguments[name] = float(a) if kind.startswith("fp") else int(a)
        self.adjust(arguments)
        values = [*arguments.values(), 0, 0]  # Triton's own scratch spaces
        if metadata.global_scratch_size or metadata.num_ctas > 1:
            raise NotImplementedError("scratch space of Triton's own")
        uniform = self.uniform if isinstance(self.uniform, bool) else kernel.name in self.uniform
        how: Any = {"schedule": self.schedule, "counting": self.counting, "uniform": uniform}
        machine = Machine(kernel, grid, values, buffers, shared, **how)
        report = machine.run()
        unwritten = {b.name: int((~b.known).sum()) * grain for b in buffers}
        self.launches.append(Launch(kernel.name, report, machine, text, unwritten, tensors, binary))
