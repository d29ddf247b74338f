"""What an experiment is made of, read from a TOML file: data, network, device, arrays, and a grid over any of them.

[data]
name = "digits"

[network]
name = "digits-mlp"
epochs = 30

[device]
r_on = 1e4
r_off = 1e5

[config]              # any field of crossbar.Config
rows = 16
nonlinear = false
[config.devices]
d2d = 0.1

[sweep]
draws = 5
[sweep.grid]          # dotted names of values above; every combination is run
"config.devices.d2d" = [0.0, 0.1, 0.3]
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

import torch
from torch import nn

from devicelab import VTEAM, Lut
from devicelab.errors import ParameterError, unknown_name
from devicelab.files import sha256
from devicelab.parameter_sets import parameter_set

from . import own, zoo
from .config import Config
from .datasets import Data, load_data
from .settings import from_table, read_toml
from .study import BATCH, CALIBRATION, train

FORMAT = 2
"""Changes whenever the same settings would give other numbers."""
MOST_POINTS = 100_000


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """Which data: a name, the folder of its files, and how many test inputs (none: all)."""

    name: str
    folder: Path | None = None
    images: int | None = None


@dataclass(frozen=True, kw_only=True)
class NetworkSettings:
    """Which network: a name of the zoo, a program (`.pt2`) or a factory ``module:function``; weights; or training.

    Args:
        name: Of a network in `crossbar.zoo`.
        program: File of an exported program.
        factory: ``module:function``, code of the user's.
        weights: File of a state dict.
        epochs: Training before the experiment; 0: none.
        seed: Of starting weights and training.
    """

    name: str | None = None
    program: Path | None = None
    factory: str | None = None
    weights: Path | None = None
    epochs: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        given = [key for key in ("name", "program", "factory") if getattr(self, key) is not None]
        if len(given) != 1:
            raise ParameterError("one network is needed", got=given or None, allowed="name, program or factory")
        if self.program is not None and (self.weights is not None or self.epochs):
            raise ParameterError("a program has its weights already", got="weights or epochs", allowed="program alone")
        if self.epochs < 0:
            raise ParameterError("epochs must not be negative", got=self.epochs)


@dataclass(frozen=True, kw_only=True)
class DeviceSettings:
    """Which device: a lookup table, a parameter set, or an ohmic device of two resistances.

    Args:
        lut: File of a lookup table.
        set: Name or file of a parameter set.
        parameters: Changes of its parameters.
        r_on: Low resistance of an ohmic device [ohm].
        r_off: High resistance [ohm].
        v_max: Largest voltage of the table that is made [V].
    """

    lut: Path | None = None
    set: str | None = None
    parameters: dict[str, float] = field(default_factory=dict)
    r_on: float | None = None
    r_off: float | None = None
    v_max: float = 1.0

    def __post_init__(self) -> None:
        ohmic = self.r_on is not None and self.r_off is not None
        if (self.lut is not None) + (self.set is not None) + ohmic != 1 or (self.r_on is None) != (self.r_off is None):
            raise ParameterError("one device is needed", allowed="lut, set, or both r_on and r_off")
        if self.r_on is not None and self.r_off is not None and not 0 < self.r_on < self.r_off:
            raise ParameterError("r_on must be below r_off", got=(self.r_on, self.r_off), allowed="0 < r_on < r_off")
        if self.parameters and self.set is None:
            raise ParameterError("parameters change a set", allowed="set")

    def table(self) -> Lut:
        """The lookup table."""
        if self.lut is not None:
            return Lut.load(self.lut)
        if self.set is not None:
            model = parameter_set(self.set)
            for name in self.parameters:
                if name not in model.values():
                    raise unknown_name("parameter", name, list(model.values()))
            return Lut.from_model(model.replace(**self.parameters), self.v_max)
        assert self.r_on is not None  # noqa: S101
        assert self.r_off is not None  # noqa: S101
        return Lut.from_model(
            VTEAM(r_on=self.r_on, r_off=self.r_off, v_on=-0.9, v_off=0.9, k_on=1.0, k_off=1.0), self.v_max
        )


@dataclass(frozen=True, kw_only=True)
class SweepSettings:
    """How often, and over what: draws of devices at each point; dotted names of settings to their values."""

    draws: int = 1
    grid: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.draws < 1:
            raise ParameterError("draws must be positive", got=self.draws)
        for name, values in self.grid.items():
            if not isinstance(values, list) or not values:
                raise ParameterError(f"grid values of {name} are not a list", got=repr(values), allowed="[a, b, ...]")


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One experiment: everything that decides its numbers.

    Args:
        data: Which data.
        network: Which network.
        device: Which device.
        config: The arrays.
        sweep: Draws, and the grid.
        title: For figures.
        batch: Inputs at once.
        calibration: Training inputs that set the ranges of converters.
    """

    data: DataSettings
    network: NetworkSettings
    device: DeviceSettings
    config: Config = field(default_factory=Config)
    sweep: SweepSettings = field(default_factory=SweepSettings)
    title: str = ""
    batch: int = BATCH
    calibration: int = CALIBRATION

    def __post_init__(self) -> None:
        for name in ("batch", "calibration"):
            if getattr(self, name) < 1:
                raise ParameterError(f"{name} must be positive", got=getattr(self, name))

    def key(self, draw: int) -> str:
        """SHA-256 of all that decides the result of a draw: settings, and the content of files in place of names."""
        content = _plain(replace(self, sweep=SweepSettings(), title=""))
        content |= {"draw": draw, "format": FORMAT}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Point:
    """One point of a grid: the values that were set, and the experiment they give."""

    values: dict[str, Any]
    experiment: Experiment


def read_experiment(path: str | Path) -> tuple[Experiment, list[Point]]:
    """The experiment of a TOML file, and the points of its grid (one, without a grid); each is checked.

    Files named in it are looked for beside it.

    Raises:
        FileFormatError: If it is not TOML.
        ParameterError: If a key or value is unusable; it is named.
    """
    table = read_toml(path)
    folder = Path(path).resolve().parent
    base = _experiment(table, folder)
    grid = base.sweep.grid
    for name in grid:
        _check_name(name)
    count = 1
    for values in grid.values():
        count *= len(values)
    if count > MOST_POINTS:
        raise ParameterError("grid too large", got=f"{count} points", allowed=f"{MOST_POINTS}")
    points = []
    for values in itertools.product(*grid.values()):
        changed = deepcopy(table)
        chosen = dict(zip(grid, values, strict=True))
        for name, value in chosen.items():
            _set(changed, name, value)
        points.append(Point(chosen, _experiment(changed, folder)))
    return base, points


def experiment_from(table: Mapping[str, Any], folder: Path, changes: Mapping[str, Any]) -> Experiment:
    """The experiment of a table with some settings changed.

    Args:
        table: As in a TOML file.
        folder: Where its relative paths begin.
        changes: Dotted names of settings to values; they replace a network or a device of the table.
    """
    changed = deepcopy(dict(table))
    for part, keys in (("network", ("name", "program", "factory")), ("device", ("lut", "set", "r_on", "r_off"))):
        if any(f"{part}.{key}" in changes for key in keys):
            changed[part] = {k: v for k, v in changed.get(part, {}).items() if k not in keys}
    for name, value in changes.items():
        _set(changed, name, value)
    for part in ("data", "network", "device"):
        if part not in changed:
            raise ParameterError(f"no {part}", allowed=f"a table [{part}] in the file, or an option", hint=_HINTS[part])
    return _experiment(changed, folder)


_HINTS = {"data": "--data digits", "network": "--network NAME", "device": "--lut FILE"}


def _experiment(table: Mapping[str, Any], folder: Path) -> Experiment:
    made: Experiment = from_table(Experiment, table, "the file")
    return replace(
        made,
        data=_beside(made.data, folder),
        network=_beside(made.network, folder),
        device=_beside(made.device, folder),
    )


def _beside(settings: Any, folder: Path) -> Any:
    """The same with relative paths taken from a folder."""
    paths = {f.name: getattr(settings, f.name) for f in fields(settings)}
    return replace(settings, **{name: folder / path for name, path in paths.items() if isinstance(path, Path)})


def _check_name(name: str) -> None:
    """Refuse a dotted name that is no setting, with the nearest one."""
    cls: Any = Experiment
    above = ""
    for part in name.split("."):
        known = [f.name for f in fields(cls) if f.name != "sweep"] if cls is not None else []
        if cls is not None and part not in known:
            raise unknown_name("name in the grid", name, [above + one for one in known])
        hint = get_type_hints(cls).get(part) if cls is not None else None
        arms = [arm for arm in (hint, *get_args(hint)) if is_dataclass(arm)]
        cls = arms[0] if arms else None
        above += f"{part}."


def _set(table: dict[str, Any], name: str, value: Any) -> None:
    *outer, last = name.split(".")
    for part in outer:
        table = table.setdefault(part, {})
    table[last] = value


def _plain(value: Any) -> Any:
    """Settings as JSON; files by their content, since another machine keeps them elsewhere."""
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Path):
        return _content(value)
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, torch.Tensor):
        return value.tolist()
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _content(path: Path) -> str:
    if path.is_file():
        return sha256(path)
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else []
    return " ".join(f"{p.relative_to(path)}:{p.stat().st_size}" for p in files) or str(path)


class Parts:
    """Data, network and device of experiments, each made once.

    Args:
        trust: Whether a factory of the user's may run.
        folder: Where trained weights are kept; None: nowhere.
        say: Called with a line for what takes time or executes code.
    """

    def __init__(
        self, *, trust: bool = False, folder: Path | None = None, say: Callable[[str], None] = lambda line: None
    ) -> None:
        self.trust, self.folder, self.say = trust, folder, say
        self._made: dict[str, Any] = {}

    def _once(self, key: str, make: Callable[[], Any]) -> Any:
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def data(self, settings: DataSettings) -> Data:
        """The data."""
        made: Data = self._once(
            f"data {settings.name} {settings.folder}", lambda: load_data(settings.name, settings.folder)
        )
        return made

    def lut(self, settings: DeviceSettings) -> Lut:
        """The device."""
        made: Lut = self._once(f"lut {_plain(settings)}", settings.table)
        return made

    def network(self, experiment: Experiment) -> nn.Module:
        """The network, trained if its settings say so."""
        settings = experiment.network
        key = f"net {_plain(settings)} {experiment.data.name} {experiment.data.folder}"
        made: nn.Module = self._once(key, lambda: self._network(experiment))
        return made

    def _network(self, experiment: Experiment) -> nn.Module:
        settings = experiment.network
        if settings.program is not None:
            return own.from_program(settings.program)
        if settings.factory is not None:
            net = own.from_factory(settings.factory, settings.weights, trust=self.trust, say=self.say)
        else:
            net = zoo.network(str(settings.name), seed=settings.seed)
            if settings.weights is not None:
                own.load_weights(net, settings.weights)
        if not settings.epochs:
            return net
        data = self.data(experiment.data)
        content = {**_plain(settings), "data": _plain(replace(experiment.data, images=None)), "format": FORMAT}
        name = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
        kept = None if self.folder is None else self.folder / f"trained-{name}.pt"
        if kept is not None and kept.is_file():
            own.load_weights(net, kept)
            return net.eval()
        self.say(
            f"training {settings.name or settings.factory} on {len(data.train_y)} inputs, {settings.epochs} epochs"
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)  # dropout, if there is any
            train(net, data, epochs=settings.epochs, seed=settings.seed)
        if kept is not None:
            from devicelab.files import replacing

            with replacing(kept, force=True) as temporary:
                torch.save(net.state_dict(), temporary)
        return net
