"""What arrays do to a trained network: accuracy over draws of devices, what each non-ideality costs, error by layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from devicelab import Lut
from devicelab.errors import ParameterError, ShapeError

from .config import Config
from .datasets import Data
from .draws import BATCH as BATCH
from .draws import CALIBRATION as CALIBRATION
from .draws import Draw as Draw
from .draws import _answered, draws
from .draws import calibration_inputs as calibration_inputs
from .draws import draw as draw
from .draws import outputs as outputs
from .layers import ArrayLayer
from .statistics import Interval, accuracy_interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CHANCE = frozenset({"d2d", "c2c", "stuck on", "stuck off", "read noise", "drift", "sense gain", "sense offset"})
"""Non-idealities that differ between draws; without them one draw is all there is."""


def train(net: nn.Module, data: Data, *, epochs: int, seed: int = 0, rate: float = 1e-3, batch: int = 64) -> nn.Module:
    """Train a network in place by Adam; the same seed gives the same weights.

    Args:
        net: The network.
        data: Its training set is used.
        epochs: Passes over it.
        seed: Of the order of the inputs.
        rate: Learning rate, falling to zero along a half cosine.
        batch: Inputs a step.

    Raises:
        ParameterError: If it has nothing to train.
        ShapeError: If it does not take these inputs, or gives no score for every class.
    """
    if not any(p.requires_grad for p in net.parameters()):
        raise ParameterError("this network has no parameters to train", got=type(net).__name__, hint="epochs = 0")
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(net.parameters(), lr=rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(1, epochs))
    net.train()
    for _ in range(epochs):
        for part in torch.randperm(len(data.train_x), generator=generator).split(batch):
            optimiser.zero_grad()
            scores = _answered(net, data.train_x[part])
            largest = int(data.train_y.max())
            if not isinstance(scores, Tensor) or scores.dim() != 2 or scores.shape[1] <= largest:
                shape = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
                raise ShapeError("the network does not score the classes", got=shape, allowed=f"[b, {largest + 1}]")
            nn.functional.cross_entropy(scores, data.train_y[part]).backward()
            optimiser.step()
        schedule.step()
    return net.eval()


@dataclass(frozen=True)
class Case:
    """A configuration and its draws.

    Args:
        name: Of the configuration.
        draws: One or more.
    """

    name: str
    draws: tuple[Draw, ...]

    @property
    def accuracy(self) -> Interval:
        """Share of right answers: mean and interval."""
        return accuracy_interval([one.right for one in self.draws], self.draws[0].images)

    @property
    def error(self) -> float:
        """Error of the outputs, mean over draws."""
        return sum(one.error for one in self.draws) / len(self.draws)

    def row(self) -> dict[str, Any]:
        """Plain values."""
        accuracy = self.accuracy
        return {
            "arrays": self.name,
            "accuracy [%]": 100 * accuracy.mean,
            "low [%]": 100 * accuracy.low,
            "high [%]": 100 * accuracy.high,
            "interval": f"{accuracy.method} ({accuracy.n})",
            "output error [%]": 100 * self.error,
            "seconds": sum(one.seconds for one in self.draws) / len(self.draws),
            "peak memory [MB]": max(one.memory for one in self.draws),
        }


def case(
    name: str,
    net: nn.Module,
    lut: Lut,
    config: Config,
    data: Data,
    *,
    draws: int = 1,
    workers: int | None = None,
    **options: Any,
) -> Case:
    """Several draws of one configuration, with the seeds `config.seed`, `config.seed + 1`, and so on.

    Args:
        name: Of the case.
        net: Trained network.
        lut: The device.
        config: The arrays.
        data: Calibrates and tests.
        draws: Their number.
        workers: Processes, as for `crossbar.draws.draws`.
        options: As for `draw`: images, batch, calibration.
    """
    (found,) = _cases(net, lut, [(name, config, draws)], data, workers, lambda done: None, options)
    return found


def _cases(
    net: nn.Module,
    lut: Lut,
    wanted: Sequence[tuple[str, Config, int]],
    data: Data,
    workers: int | None,
    done: Callable[[Case], None],
    options: dict[str, Any],
) -> list[Case]:
    """Cases of names, arrays and numbers of draws, all draws side by side; `done` is called as each is complete."""
    tasks: list[tuple[int, Config]] = []
    for index, (_, config, number) in enumerate(wanted):
        if number < 1:
            raise ParameterError("unusable number of draws", got=number, allowed="1 or more")
        tasks += [(index, config.but(seed=config.seed + k)) for k in range(number)]
    found: dict[int, Draw] = {}
    cases: dict[int, Case] = {}
    for k, one in draws(net, lut, [config for _, config in tasks], data, workers=workers, **options):
        found[k] = one
        index = tasks[k][0]
        mine = [n for n, (other, _) in enumerate(tasks) if other == index]
        if all(n in found for n in mine):
            cases[index] = Case(wanted[index][0], tuple(found[n] for n in mine))
            done(cases[index])
    return [cases[index] for index in range(len(wanted))]


@dataclass(frozen=True)
class Sensitivity:
    """What each non-ideality costs on its own, and what its absence gains.

    Args:
        floating_point: The network without arrays.
        none: Arrays with every non-ideality off.
        alone: One on.
        without: All but one on.
        all: All on.
    """

    floating_point: Case
    none: Case
    alone: dict[str, Case]
    without: dict[str, Case]
    all: Case

    def cases(self) -> list[Case]:
        """All, in the order of a table."""
        return [self.floating_point, self.none, *self.alone.values(), *self.without.values(), self.all]

    def rows(self) -> list[dict[str, Any]]:
        """Plain values."""
        return [one.row() for one in self.cases()]

    def __str__(self) -> str:
        """A table."""
        return table(self.rows())

    def figure(self) -> Figure:
        """Loss of accuracy [percentage points] by each non-ideality alone, and what its absence gives back."""
        import matplotlib.pyplot as plt

        top = 100 * self.none.accuracy.mean
        names = list(self.alone)
        figure, axes = plt.subplots(1, 2, figsize=(9.5, 0.4 * len(names) + 1.9), sharey=True, layout="constrained")
        for ax, cases, title, colour in (
            (axes[0], self.alone, "alone", "#1f4e79"),
            (axes[1], self.without, "all but this one", "#d95f02"),
        ):
            found = [cases[name].accuracy for name in names]
            mean = [100 * one.mean for one in found]
            reach = errors(found)
            ax.barh(names, mean, color=colour, height=0.6)
            ax.errorbar(mean, names, xerr=reach, fmt="none", color="black", capsize=2, lw=1)
            ax.axvline(top, color="0.4", lw=1, ls="--", label="none of them")
            ax.axvline(100 * self.all.accuracy.mean, color="0.4", lw=1, ls=":", label="all of them")
            ax.set_xlim(0, 103)
            ax.set_title(title)
            ax.set_xlabel("test accuracy [%]")
            ax.spines[["top", "right"]].set_visible(False)
        axes[0].invert_yaxis()
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
        return figure


def sensitivity(
    net: nn.Module,
    lut: Lut,
    config: Config,
    data: Data,
    *,
    draws: int = 5,
    workers: int | None = None,
    say: Callable[[str], None] = lambda line: None,
    **options: Any,
) -> Sensitivity:
    """Accuracy with each non-ideality of a configuration alone, with all but one, with none and with all.

    Args:
        net: Trained network.
        lut: The device.
        config: The arrays with everything on that matters; see `Config.active`.
        data: Calibrates and tests.
        draws: Draws of devices a case; one where nothing is drawn.
        workers: Processes, as for `crossbar.draws.draws`.
        say: Called with a line for every case.
        options: As for `draw`: images, batch, calibration.

    Raises:
        ParameterError: If no non-ideality is on.
    """
    names = config.active()
    if not names:
        raise ParameterError(
            "no non-ideality is on", hint="nothing to tell apart; set some fields of the configuration"
        )
    wanted = [("floating point", Config.ideal()), ("none", config.only())]
    wanted += [(f"{name} alone", config.only(name)) for name in names]
    wanted += [(f"all but {name}", config.without(name)) for name in names]
    wanted += [("all", config)]
    numbered = [(name, one, draws if CHANCE.intersection(one.active()) else 1) for name, one in wanted]
    complete = 0

    def tell(found: Case) -> None:
        nonlocal complete
        complete += 1
        say(f"[{complete}/{len(wanted)}] {found.name:<32} {found.accuracy.percent()}")

    point, none, *rest = _cases(net, lut, numbered, data, workers, tell, options)
    alone, without = (dict(zip(names, part, strict=True)) for part in (rest[: len(names)], rest[len(names) : -1]))
    return Sensitivity(point, none, alone, without, rest[-1])


@dataclass(frozen=True)
class LayerError:
    """How far one layer on arrays is from the same layer in floating point.

    Args:
        name: Of the layer.
        own: Error of its outputs for the right inputs, relative to their norm.
        with_inputs: Error of its outputs within the network on arrays, where its inputs are wrong as well.
        snr: Signal-to-noise ratio of `own` [dB].
    """

    name: str
    own: float
    with_inputs: float
    snr: float


@torch.no_grad()
def layer_errors(net: nn.Module, mapped: nn.Module, inputs: Tensor) -> list[LayerError]:
    """Error and signal-to-noise ratio of every layer on arrays against the network in floating point.

    Args:
        net: The network in floating point.
        mapped: What `convert` made of it.
        inputs: A batch of inputs.

    Raises:
        ParameterError: If the two networks do not belong together.
    """
    arrays: dict[str, nn.Module] = {
        name: module for name, module in mapped.named_modules() if isinstance(module, ArrayLayer)
    }
    alone = list(arrays) == ["0"] and not any(True for _ in net.children())
    digital = dict(net.named_modules())
    pairs = {name: "" if alone else name for name in arrays}
    if not arrays or any(name not in digital for name in pairs.values()):
        raise ParameterError("these networks do not belong together", got=f"{len(arrays)} layers on arrays")
    seen, real = _io(net, {pairs[name]: digital[pairs[name]] for name in arrays}, inputs), _io(mapped, arrays, inputs)
    out = []
    for name in arrays:
        given, exact = seen[pairs[name]]
        own = _distance(arrays[name](*given), exact)
        snr = -20 * float(torch.log10(torch.tensor(own))) if own > 0 else float("inf")
        out.append(LayerError(name, own, _distance(real[name][1], exact), snr))
    return out


def _io(net: nn.Module, modules: dict[str, nn.Module], inputs: Tensor) -> dict[str, tuple[tuple[Any, ...], Any]]:
    """First inputs and output of some modules."""
    found: dict[str, tuple[tuple[Any, ...], Any]] = {}

    def keep(name: str) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], out: Any) -> None:
            found.setdefault(name, (args, out))

        return hook

    handles = [module.register_forward_hook(keep(name)) for name, module in modules.items()]
    try:
        outputs(net, inputs, len(inputs))
    finally:
        for handle in handles:
            handle.remove()
    return found


def _distance(found: Any, exact: Any) -> float:
    """Relative distance of outputs; of all tensors of a tuple together."""
    pairs = list(zip(_tensors(found), _tensors(exact), strict=True))
    apart = sum(float((a - b).double().square().sum()) for a, b in pairs)
    return float((apart / sum(float(b.double().square().sum()) for _, b in pairs)) ** 0.5)


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _tensors(part)


def errors(intervals: Sequence[Interval]) -> list[list[float]]:
    """Distances of the ends from the means [%], below and above, as matplotlib draws them."""
    below = [100 * max(0.0, one.mean - one.low) for one in intervals]
    return [below, [100 * max(0.0, one.high - one.mean) for one in intervals]]


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Rows as aligned text; numbers with four digits."""
    shown = [{key: f"{v:.4g}" if isinstance(v, float) else str(v) for key, v in row.items()} for row in rows]
    widths = {key: max(len(key), *(len(row[key]) for row in shown)) for key in shown[0]}
    left = {key for key in shown[0] if not isinstance(rows[0][key], int | float)}

    def line(cells: dict[str, str]) -> str:
        parts = [v.ljust(widths[k]) if k in left else v.rjust(widths[k]) for k, v in cells.items()]
        return "  ".join(parts).rstrip()

    return "\n".join([line({key: key for key in shown[0]}), *map(line, shown)])
