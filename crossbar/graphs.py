"""Networks on arrays as CUDA graphs: all kernels of a forward pass launched at once, and waited for once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from devicelab.errors import ParameterError, ShapeError

from .compiled import version
from .gpu_layers import deferred
from .mapping import TiledMatrix

WARM = 3
"""Forward passes before a capture: kernels are compiled and tables made in them."""


class Captured:
    """A network in evaluation, captured for inputs of one shape; made by `captured`.

    Noise differs from call to call as it does without a graph. When arrays have been written anew since the capture,
    the next call captures again. Where arrays are solved, every call looks once, at its end, whether a vector was too
    hard for the kernels; then the pass is made again with care.
    """

    def __init__(self, net: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.net = net
        self._matrices = [m for m in net.modules() if isinstance(m, TiledMatrix)]
        self._inputs = tuple(a.clone() for a in inputs)
        self._capture()

    @torch.no_grad()
    def _capture(self) -> None:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side), deferred():
            for _ in range(WARM):
                self.net(*self._inputs)
        torch.cuda.current_stream().wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph), deferred() as flags:
            self._out = self.net(*self._inputs)
            self._hard = torch.stack(flags).any() if flags else None
        self._made_of = self._now()

    def _now(self) -> list[Any]:
        tensors = [t for m in self._matrices for t in (m.g, m.matrix, m.adc_range, m.input_range)]
        return [(id(t), version(t)) for t in tensors]

    def __call__(self, *inputs: Tensor) -> Any:
        """What the network gives for inputs of the captured shapes.

        Raises:
            ShapeError: If an input has another shape.
        """
        for given, kept in zip(inputs, self._inputs, strict=True):
            if given.shape != kept.shape:
                raise ShapeError("a graph takes inputs of one shape", got=tuple(given.shape), allowed=tuple(kept.shape))
            kept.copy_(given)
        if self._now() != self._made_of:
            self._capture()
        self._graph.replay()
        if self._hard is not None and bool(self._hard):
            with torch.no_grad():
                return self.net(*inputs)
        return torch.utils._pytree.tree_map(lambda a: a.clone() if isinstance(a, Tensor) else a, self._out)


@torch.no_grad()
def waiting_once(net: nn.Module, *inputs: Tensor) -> Any:
    """A forward pass that looks once, at its end, whether solved arrays need care, and not in every layer.

    Args:
        net: The network, in evaluation mode.
        inputs: What it takes.
    """
    with deferred() as flags:
        out = net(*inputs)
    if flags and bool(torch.stack(flags).any()):
        return net(*inputs)
    return out


def captured(net: nn.Module, *inputs: Tensor) -> Captured:
    """A network on arrays as one CUDA graph, for small batches, in which launching kernels takes longer than they run.

    Args:
        net: The network, in evaluation mode, on a GPU.
        inputs: Examples of what it takes; later inputs have their shapes.

    Raises:
        ParameterError: If an input is not on a GPU, or the network trains.
    """
    places = {a.device.type for a in inputs}
    if places != {"cuda"}:
        raise ParameterError(
            "graphs are captured on a GPU", got=", ".join(sorted(places)) or "no input", allowed="cuda"
        )
    if net.training:
        raise ParameterError("graphs are captured in evaluation", got="a network in training", hint="net.eval()")
    return Captured(net, inputs)
