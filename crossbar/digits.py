"""A small network on real handwritten digits, to show what an array does to it.

The 1797 images of 8 x 8 pixels are those of Alpaydin and Kaynak (UCI, 1998), which scikit-learn ships; the last fifth
is the test set.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from devicelab import Lut
from devicelab.errors import MissingDependencyError

from .config import Config
from .convert import convert
from .datasets import Data
from .wires import Wires

TRAINING_IMAGES = 1437


def load_digits() -> Data:
    """The digits, images [b, 64].

    Raises:
        MissingDependencyError: If scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits as load
    except ImportError as error:
        raise MissingDependencyError(
            "the digits come with scikit-learn, which is not installed", hint='pip install "devicelab[examples]"'
        ) from error
    raw = load()
    x, y = torch.tensor(raw.data / 16.0, dtype=torch.float32), torch.tensor(raw.target)
    n = TRAINING_IMAGES
    return Data("digits", x[:n], y[:n], x[n:], y[n:])


def train_mlp(digits: Data, *, hidden: int = 64, epochs: int = 60, seed: int = 0) -> nn.Module:
    """A trained perceptron 64-`hidden`-10; the same seed gives the same network."""
    generator = torch.Generator().manual_seed(seed)
    net = nn.Sequential(nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, 10))
    with torch.no_grad():
        for parameter in net.parameters():
            bound = parameter.shape[-1] ** -0.5
            parameter.uniform_(-bound, bound, generator=generator)
    optimiser = torch.optim.Adam(net.parameters(), lr=3e-3, weight_decay=1e-4)
    for _ in range(epochs):
        for part in torch.randperm(len(digits.train_x), generator=generator).split(64):
            optimiser.zero_grad()
            nn.functional.cross_entropy(net(digits.train_x[part]), digits.train_y[part]).backward()
            optimiser.step()
    return net.eval()


@dataclass(frozen=True)
class Cost:
    """What one kind of array does to a network.

    Args:
        arrays: Which.
        accuracy: Share of right answers on the test images.
        error: Distance of the outputs from those in floating point, relative to their norm.
        seconds: Time for mapping and all test images.
    """

    arrays: str
    accuracy: float
    error: float
    seconds: float


@torch.no_grad()
def costs(
    net: nn.Module,
    lut: Lut,
    config: Config,
    lines: Mapping[str, Wires],
    digits: Data,
    say: Callable[[str], None] = lambda line: None,
) -> list[Cost]:
    """The test set in floating point, on ohmic cells, on the device's own cells, and both with line resistance.

    Args:
        net: Trained network.
        lut: The device.
        config: The arrays; `nonlinear`, `wires` and `digital` are varied.
        lines: Line resistances by name.
        digits: The data; the training images calibrate the input ranges.
        say: Called with a line of text for every case.
    """
    flat, real = config.but(nonlinear=False), config.but(nonlinear=True)
    cases = [("floating point", Config.ideal()), ("ohmic cells", flat), ("non-linear cells", real)]
    for name, wires in lines.items():
        cases += [(f"ohmic, {name} lines", flat.but(wires=wires)), (f"non-linear, {name} lines", real.but(wires=wires))]
    exact = net(digits.test_x)
    out = []
    for name, case in cases:
        start = time.perf_counter()
        scores = convert(net, lut, case, calibration=digits.train_x)(digits.test_x)
        right = float((scores.argmax(dim=1) == digits.test_y).float().mean())
        row = Cost(name, right, float((scores - exact).norm() / exact.norm()), time.perf_counter() - start)
        say(f"  {name:<28} {100 * row.accuracy:5.1f} %, outputs off by {100 * row.error:5.2f} %  ({row.seconds:.1f} s)")
        out.append(row)
    return out
