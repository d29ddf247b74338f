"""Networks on arrays as CUDA graphs: all kernels of a forward pass launched at once, and waited for once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from devicelab.errors import ParameterError, ShapeError

from . import gpu
from .compiled import version
from .gpu_layers import Pass, at_once, deferred, running, steep
from .mapping import TiledMatrix
from .passes import State, once

WARM = 3
"""Forward passes before a capture: kernels are compiled and tables made in them."""


class Captured:
    """A network in evaluation, captured for inputs of one shape; made by `captured`.

    Noise differs from call to call as it does without a graph. When arrays have been written anew since the capture,
    the next call captures again. Where arrays are solved, every call looks once, at its end, whether a vector was too
    hard for the kernels; then the pass is made again with care, with the same noise, and from what the network's
    tensors held before.
    """

    def __init__(self, net: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.net = net
        self._matrices = [m for m in net.modules() if isinstance(m, TiledMatrix)]
        self._inputs = tuple(a.clone() for a in inputs)
        self._capture()

    @torch.no_grad()
    def _capture(self) -> None:
        with torch.cuda.device_of(self._inputs[0]):
            self._capture_there()

    def _capture_there(self) -> None:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM):
                with running(Pass(None)) as last:
                    self.net(*self._inputs)
        torch.cuda.current_stream().wait_stream(side)
        if last.looking:
            raise ParameterError(
                "a graph cannot hold arrays that torch solves or packs in every pass, for it looks at values then",
                got=", ".join(name or "the network" for name, m in self.net.named_modules() if m in last.looking),
                allowed=f"one terminal a line, none floating, up to {gpu.LARGEST} bit lines, and Triton installed",
                hint="a larger Config.budget for arrays that these are, or the network itself instead of a graph",
            )
        self._graph = torch.cuda.CUDAGraph()
        before = [m.reads for m in self._matrices]
        with torch.cuda.graph(self._graph), deferred() as flags:
            self._state = State(self.net)  # copies that every replay makes
            self._out = self.net(*self._inputs)
            self._hard = torch.stack(flags).any() if flags else None
        self._reads = [m.reads - then for m, then in zip(self._matrices, before, strict=True)]
        for m, then in zip(self._matrices, before, strict=True):
            m.reads = then  # nothing was read yet
        self._made_of = self._now()

    def _now(self) -> list[tuple[Any, int]]:
        """What the graph is made of; tensors themselves, for their numbers would be given to others after them."""
        tensors = [(t, version(t)) for m in self._matrices for t in m._buffers.values()]
        return tensors + [(None, steep(m)) for m in self._matrices]

    def _stale(self) -> bool:
        pairs = zip(self._now(), self._made_of, strict=True)
        return any(a is not b or i != j for (a, i), (b, j) in pairs)

    def __call__(self, *inputs: Tensor) -> Any:
        """What the network gives for inputs of the captured shapes.

        Raises:
            ShapeError: If an input has another shape.
        """
        for given, kept in zip(inputs, self._inputs, strict=True):
            if given.shape != kept.shape:
                raise ShapeError("a graph takes inputs of one shape", got=tuple(given.shape), allowed=tuple(kept.shape))
            kept.copy_(given)
        if self._stale():
            self._capture()
        self._graph.replay()
        if self._hard is not None and bool(self._hard):
            return self._with_care(inputs)
        for m, count in zip(self._matrices, self._reads, strict=True):
            m.reads += count
        return torch.utils._pytree.tree_map(lambda a: a.clone() if isinstance(a, Tensor) else a, self._out)

    @torch.no_grad()
    def _with_care(self, inputs: tuple[Tensor, ...]) -> Any:
        self._state.restore_tensors()
        for given, kept in zip(inputs, self._inputs, strict=True):
            kept.copy_(given)
        with at_once():
            return self.net(*self._inputs)


@torch.no_grad()
def waiting_once(net: nn.Module, *inputs: Tensor) -> Any:
    """A forward pass that looks once, at its end, whether solved arrays need care, and not in every layer.

    What `convert` returns does so when it is called; this is for networks with several such parts.

    Args:
        net: The network, in evaluation mode.
        inputs: What it takes.
    """
    return once(net, inputs, {}, net)


def captured(net: nn.Module, *inputs: Tensor) -> Captured:
    """A network on arrays as one CUDA graph, for small batches, in which launching kernels takes longer than they run.

    Args:
        net: The network, in evaluation mode, on a GPU.
        inputs: Examples of what it takes; later inputs have their shapes.

    Raises:
        ParameterError: If an input is not on a GPU, the network trains, or the kernels do not take some of its arrays.
    """
    places = {a.device.type for a in inputs}
    if places != {"cuda"}:
        raise ParameterError(
            "graphs are captured on a GPU", got=", ".join(sorted(places)) or "no input", allowed="cuda"
        )
    if net.training:
        raise ParameterError("graphs are captured in evaluation", got="a network in training", hint="net.eval()")
    return Captured(net, inputs)
