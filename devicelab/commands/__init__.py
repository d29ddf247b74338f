"""Sub-commands of the command line, one a file; and what they share."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click

from ..drive import Drive, pulses, sine, triangle
from ..errors import ParameterError, unknown_name
from ..models.base import Model
from ..parameter_sets import parameter_set, parameter_sets
from ..trace import Trace
from ..windows import window as make_window

Item = TypeVar("Item")


def say(line: str) -> None:
    """Progress, on standard error."""
    click.echo(line, err=True)


def show_json(value: Any) -> None:
    """A result for machines, on standard output."""
    click.echo(json.dumps(value, indent=2, default=str))


def device_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Options that choose a device: --set, --window, --parameter; the command gets `model` and `set_name`."""

    @click.option(
        "--set",
        "set_name",
        default="vteam_pt_hf_ti",
        show_default=True,
        metavar="NAME|FILE.toml",
        help=f"Parameter set: a file, or one of {', '.join(parameter_sets())}.",
    )
    @click.option("--window", metavar="NAME[:p=2]", help="Window function, for instance biolek:p=2.")
    @click.option("-p", "--parameter", multiple=True, metavar="NAME=VALUE", help="Change a parameter (SI units).")
    @wraps(function)
    def command(set_name: str, window: str | None, parameter: tuple[str, ...], **rest: Any) -> Any:
        return function(model=_device(set_name, window, parameter), set_name=set_name, **rest)

    return command


def _device(set_name: str, window: str | None, parameter: tuple[str, ...]) -> Model:
    model = parameter_set(set_name)
    changes: dict[str, Any] = {name: number(text, name) for name, text in map(_assignment, parameter)}
    for name in changes:
        if name not in model.values():
            raise unknown_name("parameter", name, list(model.values()))
    if window is not None:
        changes["window"] = parse_window(window)
    return model.replace(**changes) if changes else model


def parse_window(text: str) -> Any:
    """A window from text such as ``biolek:p=2``."""
    name, _, rest = text.partition(":")
    values = dict(_assignment(part) for part in rest.split(",") if part)
    try:
        return make_window(name, **{key: number(value, key) for key, value in values.items()})
    except TypeError as error:
        raise ParameterError("this window does not take that parameter", got=text, hint=str(error)) from error


def drive_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Options that choose a drive and the circuit; the command gets `drive`, and `circuit` for `simulate`."""

    @click.option("--drive", "shape", type=click.Choice(["sine", "triangle", "pulses"]), default="triangle")
    @click.option("--amplitude", default=1.0, show_default=True, help="Peak voltage [V]; its sign comes first.")
    @click.option("--period", default=2.0, show_default=True, help="Period, or width of a pulse [s].")
    @click.option("--cycles", default=1, show_default=True, help="Periods, or number of pulses.")
    @click.option("--points", default=1000, show_default=True, help="Samples a period.")
    @click.option("--x0", default=0.1, show_default=True, help="Initial state (1 = low resistance).")
    @click.option("--y0", type=float, help="Initial second state, of a model with two.  [default: 0]")
    @click.option("--series-resistance", default=0.0, show_default=True, help="Between source and device [ohm].")
    @click.option("--compliance", type=float, help="Largest current of the source [A].")
    @wraps(function)
    def command(
        shape: str,
        amplitude: float,
        period: float,
        cycles: int,
        points: int,
        x0: float,
        y0: float | None,
        series_resistance: float,
        compliance: float | None,
        **rest: Any,
    ) -> Any:
        circuit = {"x0": x0, "series_resistance": series_resistance, "compliance": compliance, "y0": y0}
        return function(drive=_drive(shape, amplitude, period, cycles, points), circuit=circuit, **rest)

    return command


def _drive(shape: str, amplitude: float, period: float, cycles: int, points: int) -> Drive:
    if not period > 0:
        raise ParameterError("period must be positive", got=f"{period:g} s")
    if shape == "sine":
        return sine(amplitude, 1.0 / period, periods=cycles, points=points)
    if shape == "triangle":
        return triangle(amplitude, period, cycles=cycles, points=points)
    return pulses(amplitude, period, count=cycles, points=max(2, points // 50))


def read_files(paths: tuple[str, ...], **options: Any) -> list[Trace]:
    """All traces of some files; says which profile read each, and what was assumed."""
    from ..readers import read_traces

    out: list[Trace] = []
    for path in paths:
        found = read_traces(path, **{key: value for key, value in options.items() if value is not None})
        first = found[0].meta
        say(f"{Path(path).name}: {len(found)} trace(s), profile {first.get('profile', 'devicelab')}")
        if str(first.get("time", "")).startswith("synthetic"):
            say(f"  time {first['time']}")
        out += found
    return out


def choose(traces: list[Item], index: tuple[int, ...], of: str = "trace") -> list[Item]:
    """The traces, or others, with these numbers, or all."""
    if not index:
        return traces
    for k in index:
        if not 0 <= k < len(traces):
            raise ParameterError(f"no such {of}", got=k, allowed=f"0 to {len(traces) - 1}")
    return [traces[k] for k in index]


def number(text: str, name: str) -> float:
    """A float, or a `ParameterError`."""
    try:
        return float(text)
    except ValueError:
        raise ParameterError(f"{name} is not a number", got=repr(text)) from None


def _assignment(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign:
        raise ParameterError("expected NAME=VALUE", got=repr(text))
    return name.strip(), value.strip()
