"""Draws of devices: what one chip, written once, makes of a network; and many of them over the cores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from devicelab import Lut
from devicelab.errors import DevicelabError, ShapeError
from devicelab.parallel import outcomes

from .config import Config
from .convert import convert
from .datasets import Data
from .measure import measured

BATCH = 256
CALIBRATION = 256
"""Training inputs that set ranges."""


@dataclass(frozen=True)
class Draw:
    """One draw of devices.

    Args:
        seed: Of the draw.
        right: Right answers.
        images: Test inputs.
        error: Distance of the outputs from those in floating point, relative to their norm.
        seconds: Wall time of mapping and inference.
        memory: Peak memory of the process meanwhile [MB]; not a number where the system does not tell.
    """

    seed: int
    right: int
    images: int
    error: float
    seconds: float
    memory: float


@torch.no_grad()
def outputs(net: nn.Module, x: Tensor, batch: int = BATCH) -> Tensor:
    """Outputs for all inputs, computed in batches.

    Raises:
        ShapeError: If the network does not take these inputs.
    """
    return torch.cat([_answered(net, part) for part in x.split(batch)])


def _answered(net: nn.Module, x: Tensor) -> Any:
    """What a network makes of inputs, or an error that says that they do not fit."""
    try:
        return net(x)
    except DevicelabError:
        raise
    except (RuntimeError, AssertionError, ValueError, IndexError, TypeError) as error:
        message = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ShapeError(
            "the network fails on these inputs", got=f"inputs {tuple(x.shape[1:])}: {message}",
            hint="does the network belong to this data set? was it exported for one batch size only?",
        ) from error  # fmt: skip


def calibration_inputs(data: Data, count: int = CALIBRATION) -> Tensor:
    """Some training inputs, evenly spread."""
    chosen = torch.linspace(0, len(data.train_x) - 1, min(count, len(data.train_x)), device="cpu").round().long()
    return data.train_x[chosen]


def draw(
    net: nn.Module,
    lut: Lut,
    config: Config,
    data: Data,
    *,
    images: int | None = None,
    batch: int = BATCH,
    calibration: int = CALIBRATION,
) -> Draw:
    """One draw of devices, of the configuration's seed.

    Args:
        net: Trained network.
        lut: The device.
        config: The arrays.
        data: Its training set calibrates, its test set is classified.
        images: Test inputs; None for all.
        batch: Inputs at once.
        calibration: Training inputs that set the ranges of converters.
    """
    x, y = data.test_part(images)
    exact = outputs(net, x, batch)
    with measured() as used:
        mapped = convert(net, lut, config, calibration=calibration_inputs(data, calibration))
        scores = outputs(mapped, x, batch)
    right = int((scores.argmax(dim=1) == y).sum())
    error = float((scores - exact).norm() / exact.norm())
    return Draw(config.seed, right, len(y), error, used["seconds"], used["memory"])


@contextmanager
def one_thread() -> Iterator[None]:
    """Numbers that do not depend on how many threads there are: sums are taken in one order only."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def draws(
    net: nn.Module, lut: Lut, configs: Sequence[Config], data: Data, *, workers: int | None = None, **options: Any
) -> Iterator[tuple[int, Draw]]:
    """One draw of each configuration, (index, draw), in the order in which they are done.

    Leaving the loop early, by Ctrl-C too, waits for those that run.

    Args:
        net: Trained network.
        lut: The device.
        configs: The arrays; each with its seed.
        data: Calibrates and tests.
        workers: Processes of one thread each, whose number changes no bit of a result; None: this process, with torch's
            threads.
        options: As for `draw`.

    Raises:
        ParameterError: If there are no workers.
        DevicelabError: What a draw was refused for, or if its process died.
    """
    if workers is None:
        for k, config in enumerate(configs):
            yield k, draw(net, lut, config, data, **options)
        return
    x = calibration_inputs(data, options.get("calibration", CALIBRATION))
    few = Data(data.name, x, data.train_y[: len(x)], *data.test_part(options.get("images")))  # all that is sent
    common = net, lut, few, options | {"images": None}
    for k, found in outcomes(_drawn, configs, workers, (_begin, (common,)), fresh="crossbar"):
        if isinstance(found, BaseException):
            raise found
        yield k, found


_COMMON: list[Any] = []
"""What all draws of a process have in common."""


def _begin(common: tuple[Any, ...]) -> None:
    _COMMON[:] = [common]


def _drawn(config: Config) -> Draw:
    net, lut, data, options = _COMMON[0]
    with one_thread():
        return draw(net, lut, config, data, **options)
