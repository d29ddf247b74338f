"""What MemTorch's paper found about defects, at small scale: the digits' perceptron on arrays, and its orderings.

Lammie et al., Neurocomputing 485, 124 (2022), arXiv:2004.10971, found with VGG-16 on CIFAR-10: accuracy falls with the
spread of devices, hardly with ten or more levels, sharply once a share of devices is stuck, much sooner when they are
stuck on, and with R_off / R_on near one.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from torch import nn

from crossbar import Config
from crossbar.datasets import Data, load_data
from crossbar.experiment import DeviceSettings, read_experiment
from crossbar.study import case
from crossbar.zoo import network

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs" / "experiments").glob("*.toml"))


@pytest.fixture(scope="module")
def trained() -> tuple[nn.Module, Data]:
    pytest.importorskip("sklearn", reason="the digits come with scikit-learn")
    from crossbar.study import train

    data = load_data("digits")
    return train(network("digits-mlp"), data, epochs=25, rate=3e-3), data


@pytest.fixture(scope="module")
def accuracy(trained: tuple[nn.Module, Data]) -> Callable[..., float]:
    net, data = trained

    def measure(draws: int = 4, r_off: float = 1e5, **changes: object) -> float:
        lut = DeviceSettings(r_on=1e4, r_off=r_off).table()
        config = Config(rows=32, columns=32, nonlinear=False).but(**changes)
        return 100 * case("", net, lut, config, data, draws=draws).accuracy.mean

    return measure


def test_stuck_on_hurts_far_more_than_stuck_off(accuracy: Callable[..., float]) -> None:
    perfect = accuracy(1)
    assert perfect > 85
    for share in (0.05, 0.1):
        on, off = accuracy(devices__stuck_on=share), accuracy(devices__stuck_off=share)
        assert perfect - on > 3 * (perfect - off), share


def test_stuck_devices_hurt_sharply(accuracy: Callable[..., float]) -> None:
    none, few, many = accuracy(1), accuracy(devices__stuck_on=0.01), accuracy(devices__stuck_on=0.2)
    assert none - few < 12
    assert none - many > 30


def test_ten_levels_are_nearly_lossless_and_two_are_not(accuracy: Callable[..., float]) -> None:
    full = accuracy(1)
    ten, four, two = (accuracy(1, devices__levels=levels) for levels in (10, 4, 2))
    assert full - ten < 1.5
    assert two < four - 3
    assert two < full - 10


def test_spread_hurts_more_the_larger_it_is(accuracy: Callable[..., float]) -> None:
    found = [accuracy(devices__d2d=sigma) for sigma in (0.0, 0.1, 0.5, 1.0)]
    assert found[0] - found[1] < 2
    assert found[1] > found[2] > found[3]
    assert found[0] - found[3] > 10


def test_a_ratio_near_one_loses_the_weights_in_the_spread(accuracy: Callable[..., float]) -> None:
    near, three, hundred = (accuracy(r_off=1e4 * ratio, devices__d2d=0.2) for ratio in (1.1, 3.0, 100.0))
    assert near < three - 10
    assert three < hundred
    assert accuracy(1, r_off=1.1e4) > accuracy(1) - 1  # a pair subtracts what is common


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_the_files_of_the_experiments_are_valid(path: Path) -> None:
    base, points = read_experiment(path)
    assert base.title
    assert points


def test_every_experiment_is_on_the_page() -> None:
    text = (ROOT / "docs" / "experiments.md").read_text()
    assert len(PAGES) >= 6
    for path in PAGES:
        assert f"experiments/{path.name}" in text
    images = [part.split(")")[0] for part in text.split("](images/")[1:]]
    assert len(images) >= 6
    for image in images:
        assert (ROOT / "docs" / "images" / image).is_file()
