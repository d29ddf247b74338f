"""Calibration of a network on arrays: converter ranges, column gains and offsets, batch-norm statistics."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from devicelab.errors import ParameterError

from .converters import percentile
from .gpu_layers import at_once
from .layers import ArrayLayer
from .mapping import Source, TiledMatrix, Written

Inputs = Tensor | tuple[Any, ...]
"""A batch, or a tuple of what the network takes."""

_KEPT = 1_000_000
"""Numbers of one batch from which a percentile is taken."""


def calibrate(net: nn.Module, inputs: Inputs) -> None:
    """Set the ranges of all converters that have none of their own, from what data bring to them.

    Inputs are those that each matrix has in the floating-point network; currents are then those of the arrays.

    Args:
        net: Network on arrays.
        inputs: A batch of inputs.
    """
    probes = [_Peak(matrix, weight) for matrix, weight in _weights(net) if matrix.config.dac.range is None]
    with torch.no_grad(), _probing(probes):
        _call(net, inputs)
    for probe in probes:
        probe.finish()
    watched = [m for m, _ in _weights(net) if m.config.adc.bits is not None and m.config.adc.range is None]
    for matrix in watched:
        matrix.has_adc_range, matrix.watching = False, True
    try:
        if watched:
            with torch.no_grad():
                _call(net, inputs)
    finally:
        for matrix in watched:
            matrix.watching = False
            if not bool(matrix.adc_range.any()):  # it saw nothing, as the state of a cell at its first step
                matrix.has_adc_range, matrix.adc_range = False, matrix._largest_current()


def tune(net: nn.Module, inputs: Inputs) -> None:
    """Give every column the digital gain and offset that bring it nearest, by least squares, to floating point.

    Each matrix is fitted on the inputs that it has in the floating-point network. (MemTorch's `tune_` does so layer by
    layer.)

    Args:
        net: Network on arrays.
        inputs: A batch of inputs.
    """
    probes = [_Fit(matrix, weight) for matrix, weight in _weights(net)]
    with torch.no_grad(), _probing(probes):
        _call(net, inputs)
    for probe in probes:
        probe.finish()


def reestimate_batch_norm(net: nn.Module, batches: Inputs | Iterable[Inputs]) -> None:
    """Take the running mean and variance of every batch-norm layer anew, from data that pass the arrays.

    Args:
        net: Network on arrays; only its batch-norm statistics change.
        batches: A batch of inputs, or several.

    Raises:
        ParameterError: If the network has no batch norm with running statistics.
    """
    norms = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.running_mean is not None]
    if not norms:
        raise ParameterError("this network has no batch norm with running statistics", got=type(net).__name__)
    before = [(norm.momentum, norm.training) for norm in norms]
    try:
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a plain mean over the batches
            norm.train()
        with torch.no_grad():
            for batch in [batches] if isinstance(batches, Tensor | tuple) else batches:
                _call(net, batch)
    finally:
        for norm, (momentum, training) in zip(norms, before, strict=True):
            norm.momentum = momentum
            norm.train(training)


def _call(net: nn.Module, inputs: Inputs) -> None:
    with at_once():  # what is gathered on the way comes once, and right
        net(*inputs) if isinstance(inputs, tuple) else net(inputs)


def _weights(net: nn.Module) -> Iterator[tuple[TiledMatrix, Tensor]]:
    """Every matrix on arrays once, with the weights that it should have, [M, n_out, n_in]."""
    seen: set[int] = set()
    for layer in net.modules():
        if isinstance(layer, ArrayLayer):
            weights = layer.weights()
            for name, matrix in layer.matrices():
                if id(matrix) not in seen:
                    seen.add(id(matrix))
                    weight = weights[name][0].detach()
                    yield matrix, weight if weight.dim() == 3 else weight.unsqueeze(0)
    if not seen:
        raise ParameterError("nothing in this network runs on arrays", got=type(net).__name__)


class _Probe:
    """Stands in for a matrix's product: computes it in floating point, and looks."""

    def __init__(self, matrix: TiledMatrix, weight: Tensor) -> None:
        self.matrix, self.weight = matrix, weight.mT.unsqueeze(1)  # [M, 1, n_in, n_out]

    def __call__(self, source: Source, written: Written | None) -> Tensor:
        exact = source.direct([source.x], self.weight.to(source.x.dtype))
        self.look(source, exact, written)
        return exact

    def look(self, source: Source, exact: Tensor, written: Written | None) -> None:
        raise NotImplementedError

    def finish(self) -> None:
        raise NotImplementedError


class _Peak(_Probe):
    """The percentile of the inputs."""

    def __init__(self, matrix: TiledMatrix, weight: Tensor) -> None:
        super().__init__(matrix, weight)
        self.seen: list[Tensor] = []

    def look(self, source: Source, exact: Tensor, written: Written | None) -> None:
        size = source.x.detach().abs().flatten()
        if self.matrix.config.dac.percentile >= 100:
            self.seen.append(size.max().view(1))
        else:
            self.seen.append(size[:: max(1, len(size) // _KEPT)].clone())

    def finish(self) -> None:
        if self.seen:
            peak = percentile(torch.cat(self.seen), self.matrix.config.dac.percentile)
            if bool(peak > 0):
                self.matrix.input_range.copy_(peak)
                self.matrix.has_input_range = True


class _Fit(_Probe):
    """The straight line from what each column gives to what it should give."""

    def __init__(self, matrix: TiledMatrix, weight: Tensor) -> None:
        super().__init__(matrix, weight)
        self.sums: Tensor | None = None
        matrix.has_column_fit = False

    def look(self, source: Source, exact: Tensor, written: Written | None) -> None:
        found = self.matrix.product(source, written)
        a, d = (t.movedim(1, 0).flatten(1).double() for t in (found, exact))  # [columns, samples]
        sums = torch.stack([torch.ones_like(a).sum(1), a.sum(1), d.sum(1), (a * a).sum(1), (a * d).sum(1)])
        self.sums = sums if self.sums is None else self.sums + sums

    def finish(self) -> None:
        if self.sums is None:
            return
        n, a, d, aa, ad = self.sums
        spread = aa - a * a / n
        moves = spread > 1e-12 * aa  # a column that never moves has an offset only
        gain = torch.where(moves, (ad - a * d / n) / torch.where(moves, spread, 1.0), 1.0)
        self.matrix.column_gain.copy_(gain)
        self.matrix.column_offset.copy_((d - gain * a) / n)
        self.matrix.has_column_fit = True


@contextmanager
def _probing(probes: list[Any]) -> Iterator[None]:
    try:
        for probe in probes:
            probe.matrix.probe = probe
        yield
    finally:
        for probe in probes:
            probe.matrix.probe = None
