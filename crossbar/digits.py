"""A small network on real handwritten digits, to show what an array does to it.

The 1797 images of 8 x 8 pixels are those of Alpaydin and Kaynak (UCI, 1998), which scikit-learn ships; the last fifth,
from writers the training set does not hold, is the test set.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from devicelab.errors import MissingDependencyError

TRAINING_IMAGES = 1437


@dataclass(frozen=True)
class Digits:
    """Images [b, 64] with values 0 to 1, and labels [b]."""

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor


def load_digits() -> Digits:
    """The digits.

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
    return Digits(x[:n], y[:n], x[n:], y[n:])


def train_mlp(digits: Digits, *, hidden: int = 64, epochs: int = 60, seed: int = 0) -> nn.Module:
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


@torch.no_grad()
def accuracy(net: nn.Module, x: Tensor, y: Tensor) -> float:
    """Share of right answers."""
    return float((net(x).argmax(dim=1) == y).float().mean())
