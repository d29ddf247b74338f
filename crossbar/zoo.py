"""Networks on which arrays are compared, by name; with random weights unless trained.

They are here rather than among the benchmarks because experiments, sweeps and the command line name them too.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from devicelab.errors import unknown_name

_INCEPTION = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "pool4": (),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "pool5": (),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
"""Channels of each module: 1x1, 3x3 reduced, 3x3, 5x5 reduced, 5x5, after the pooling (Szegedy et al., table 1)."""


def mlp(inputs: int = 784, hidden: tuple[int, ...] = (128,), classes: int = 10) -> nn.Sequential:
    """A perceptron with ReLU; by default 784-128-10."""
    layers: list[nn.Module] = [nn.Flatten()]
    for before, after in zip((inputs, *hidden), hidden, strict=False):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(hidden[-1] if hidden else inputs, classes))


def dense3x200(inputs: int = 256, classes: int = 2) -> nn.Sequential:
    """Three hidden layers of 200 neurons."""
    return mlp(inputs, (200, 200, 200), classes)


def lenet() -> nn.Sequential:
    """LeNet-5's layers with ReLU and maximum pooling, images [b, 1, 28, 28].

    Source: LeCun et al., Proc. IEEE 86, 2278 (1998), doi:10.1109/5.726791.
    """
    return nn.Sequential(
        *(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)),
    )


def vgg8(channels: int = 48, hidden: int = 384) -> nn.Sequential:
    """Six convolutions in pairs and two dense layers, images [b, 3, 32, 32].

    With its defaults it is the network that aihwkit trains and the survey of Lammie and Rahimi Azghadi runs: 48, 96 and
    144 channels, 75 million products an image. NeuroSim's has 128, 256 and 512 channels: see `neurosim_vgg8`.
    """
    return _pairs((channels, 2 * channels, 3 * channels), hidden)


def neurosim_vgg8() -> nn.Sequential:
    """The VGG-8 of DNN+NeuroSim (its NetWork_VGG8.csv): 128, 256, 512 channels and 1024 neurons, 0.62 G products."""
    return _pairs((128, 256, 512), 1024)


def _pairs(channels: tuple[int, int, int], hidden: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    before = 3
    for after in channels:
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.Conv2d(after, after, 3, padding=1)]
        layers += [nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2)]
        before = after
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(16 * before, hidden), nn.ReLU(), nn.Linear(hidden, 10))


def _convolution(before: int, after: int, size: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, size, padding=size // 2), nn.BatchNorm2d(after), nn.ReLU())


class Inception(nn.Module):
    """Four branches side by side; the 5x5 convolution is two of 3x3.

    Args:
        before: Channels that enter.
        widths: Channels as in `_INCEPTION`.
    """

    def __init__(self, before: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        one, three_in, three, five_in, five, pooled = widths
        self.branches = nn.ModuleList(
            [
                _convolution(before, one, 1),
                nn.Sequential(_convolution(before, three_in, 1), _convolution(three_in, three, 3)),
                nn.Sequential(
                    _convolution(before, five_in, 1), _convolution(five_in, five, 3), _convolution(five, five, 3)
                ),
                nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), _convolution(before, pooled, 1)),
            ]
        )

    def forward(self, x: Tensor) -> Tensor:
        """[b, before, height, width] to [b, one + three + five + pooled, height, width]."""
        return torch.cat([branch(x) for branch in self.branches], dim=1)


def googlenet() -> nn.Sequential:
    """GoogLeNet for images [b, 3, 32, 32]: nine inception modules after one 3x3 convolution, 1.5 G products an image.

    Source: Szegedy et al., CVPR 2015, table 1, doi:10.1109/CVPR.2015.7298594; the stem and the 5x5 branches in the
    form common for small images.
    """
    layers: list[nn.Module] = [_convolution(3, 192, 3)]
    before = 192
    for widths in _INCEPTION.values():
        layers.append(Inception(before, widths) if widths else nn.MaxPool2d(3, stride=2, padding=1))
        before = widths[0] + widths[2] + widths[4] + widths[5] if widths else before
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, 10))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mlp": (mlp, (1, 28, 28)),
    "digits-mlp": (lambda: mlp(64, (64,)), (64,)),
    "lenet": (lenet, (1, 28, 28)),
    "dense3x200": (dense3x200, (4, 64)),
    "vgg8": (vgg8, (3, 32, 32)),
    "neurosim-vgg8": (neurosim_vgg8, (3, 32, 32)),
    "googlenet": (googlenet, (3, 32, 32)),
}
"""Name to maker and shape of one input."""


def network(name: str, *, seed: int = 0) -> nn.Module:
    """A network with random weights; the same seed gives the same network, and no global seed is touched.

    Raises:
        ParameterError: If there is no such network.
    """
    if name not in NETWORKS:
        raise unknown_name("network", name, list(NETWORKS))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return NETWORKS[name][0]().eval()


def input_shape(name: str) -> tuple[int, ...]:
    """Shape of one input of a network of `NETWORKS`."""
    if name not in NETWORKS:
        raise unknown_name("network", name, list(NETWORKS))
    return NETWORKS[name][1]


def products(net: nn.Module, shape: tuple[int, ...]) -> int:
    """Multiplications of one input in the Linear and Conv2d layers of a network."""
    total = 0

    def count(module: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> None:
        nonlocal total
        weight = module.weight
        assert isinstance(weight, Tensor)  # noqa: S101
        total += out.numel() * weight[0].numel()

    handles = [m.register_forward_hook(count) for m in net.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    try:
        with torch.no_grad():
            net(torch.zeros(1, *shape))
    finally:
        for handle in handles:
            handle.remove()
    return total
