"""Networks on arrays as CUDA graphs: all kernels of a forward pass launched at once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from devicelab.errors import ParameterError, ShapeError

from .compiled import version
from .mapping import TiledMatrix

WARM = 3
"""Forward passes before a capture: kernels are compiled and tables made in them."""


class Captured:
    """A network in evaluation, captured for inputs of one shape; made by `captured`.

    Noise differs from call to call as it does without a graph. When arrays have been written anew since the capture,
    the next call captures again.
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
        with torch.cuda.stream(side):
            for _ in range(WARM):
                self.net(*self._inputs)
        torch.cuda.current_stream().wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._out = self.net(*self._inputs)
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
        return torch.utils._pytree.tree_map(lambda a: a.clone() if isinstance(a, Tensor) else a, self._out)


def captured(net: nn.Module, *inputs: Tensor) -> Captured:
    """A network on arrays as one CUDA graph, for small batches, in which launching kernels takes longer than they run.

    Args:
        net: The network, in evaluation mode, on a GPU.
        inputs: Examples of what it takes; later inputs have their shapes.

    Raises:
        ParameterError: If an input is not on a GPU, the network trains, or it has arrays that are solved step by step,
            whose number of steps depends on values.
    """
    places = {a.device.type for a in inputs}
    if places != {"cuda"}:
        raise ParameterError(
            "graphs are captured on a GPU", got=", ".join(sorted(places)) or "no input", allowed="cuda"
        )
    if net.training:
        raise ParameterError("graphs are captured in evaluation", got="a network in training", hint="net.eval()")
    solved = [name for name, m in net.named_modules() if isinstance(m, TiledMatrix) and m._solved]
    if solved:
        raise ParameterError(
            "arrays that are solved step by step cannot be captured",
            got=f"{len(solved)} matrices, the first of them {solved[0]}",
            allowed="ohmic cells, or ideal lines",
        )
    return Captured(net, inputs)
