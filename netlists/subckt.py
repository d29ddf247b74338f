"""A model as an ngspice sub-circuit.

The text of `current` and `rate` comes from the model itself, called with symbols; nothing is written twice. Parameters
stay symbols, with the model's values as defaults, so one sub-circuit serves every fitted set and every draw::

    X1 plus minus state vteam x0=0.3 r_on=1200

The state is x0 plus the voltage of a 1 F capacitor that starts at zero and moves only while time > 0. So an operating
point and a transient, with or without ``uic``, all start from x0. (Not for ``.dc``, where time is the sweep.)

The second state of a device that has two is y0 plus the voltage of a second capacitor, in the same way::

    X1 plus minus state second pku_growing x0=0.3 y0=0.1
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from devicelab.errors import ParameterError
from devicelab.models import Model, TwoStateModel
from devicelab.ops import Ops, Value

from .expression import Expression, Scalar, SpiceOps, number, plain, wrapped

WIDTH = 110
"""Longest line of a netlist; continued lines begin with a plus."""

EDGE = 1e-5
"""Width of the hard bound at 0 and 1: over the last 1e-5 of its way the state comes to a stop."""

WINDOW = "window_"
"""Prefix of the window's parameters, which may share names with the model's."""

_AnyModel = TypeVar("_AnyModel", bound=Model)

STATE, SECOND = "x0", "y0"

INSIDE = "min(max(V({node}), 0), 1)"
"""A state, also between Newton steps, whose V(x) may be anywhere."""

SENSED = "I(Vi)"
"""The device current as the rate sees it; its equation, which may be long, is then written once."""

SCALE = "tau"
"""Parameter with which the rate [1/s] becomes a voltage that ngspice's tolerances suit."""


def subckt(model: Model, name: str | None = None) -> str:
    """The sub-circuit of a model, as text that ends with a newline.

    Terminals: plus, minus, and the state x as a voltage between 0 and 1 V (1 = low resistance), then the second state y
    of a device that has two. Parameters: `x0` (state at time 0), `y0` likewise where there is one, the model's
    parameters, and the window's with the prefix ``window_``.

    Args:
        model: The device; its parameters must be numbers, not batches.
        name: Name of the sub-circuit; the model's name by default.

    Raises:
        ParameterError: If the model is a batch or the name is not a SPICE name.
    """
    name = name or model.name
    if not re.fullmatch(r"[A-Za-z_]\w*", name):
        raise ParameterError("not a name for a sub-circuit", got=repr(name), allowed="letters, digits, underscores")
    two = isinstance(model, TwoStateModel)
    defaults = {STATE: 0.0, **({SECOND: 0.0} if two else {}), SCALE: 1.0, **subckt_parameters(model)}
    bound = _symbolic(model)
    plus, minus = ("plus", "minus") if model.polarity > 0 else ("minus", "plus")
    v, x, y = Expression(f"V({plus},{minus})"), _inside("x"), _inside("y")
    ops = SpiceOps()
    if isinstance(bound, TwoStateModel):
        current, sensing = bound._current(v, x, ops, y), _sensing(bound, v, x)
        rates = [sensing._rate(v, x, ops, y), sensing._second_rate(v, x, ops, y)]
    else:
        current = bound._current(v, x, ops)
        rates = [_sensing(bound, v, x)._rate(v, x, ops)]
    parameters = " ".join(f"{key}={number(value)}" for key, value in defaults.items())
    nodes, starts = ("x", "y")[: len(rates)], (STATE, SECOND)
    lines = [
        f"* {_title(model)}; x = 1 is the low resistance",
        f".subckt {name} plus minus {' '.join(nodes)} params: {parameters}",
        *ops.elements,
        *_current_elements(plus, minus, plain(current), any(SENSED in plain(rate) for rate in rates)),
        *(
            line
            for rate, node, start, tag in zip(rates, nodes, starts, ("", "2"), strict=False)
            for line in _state_elements(rate, node, start, tag)
        ),
        f".ends {name}",
    ]
    return "".join(f"{wrap(line)}\n" for line in lines)


def _inside(node: str) -> Expression:
    return Expression(INSIDE.format(node=node))


def _state_elements(rate: Scalar, node: str, start: str, tag: str) -> list[str]:
    """What integrates a rate from its start, as the voltage of a node; `tag` tells one state from another."""
    return [
        f"Br{tag} rate{tag} 0 V={{{SCALE}}} * {wrapped(rate)}",
        f"Bm{tag} move{tag} 0 V=(time > 0 ? {_stopped(Expression(f'V(rate{tag})'), f'({{{start}}} + V(s{tag}))')} : 0)",
        f"Gs{tag} 0 s{tag} move{tag} 0 1",
        f"Cs{tag} s{tag} 0 {{{SCALE}}}",
        f"Rs{tag} s{tag} 0 1e12",
        f"Bx{tag} {node} 0 V=min(max({{{start}}} + V(s{tag}), 0), 1)",
    ]


def subckt_parameters(model: Model) -> dict[str, float]:
    """Parameters of the model and of its window by their names in the sub-circuit.

    Raises:
        ParameterError: If one of them is a batch.
    """
    named = {**model.values(), **{WINDOW + key: value for key, value in model.window.values().items()}}
    return {key: _single(key, value) for key, value in named.items()}


def instance_parameters(model: Model) -> str:
    """The model's values as an instance writes them: ``r_on=1200.0 r_off=...``."""
    return " ".join(f"{key}={number(value)}" for key, value in subckt_parameters(model).items())


def wrap(line: str) -> str:
    """A line broken at spaces into continued lines of at most `WIDTH` characters, where it has spaces."""
    out: list[str] = []
    current = ""
    for word in line.split(" "):
        if current and len(current) + 1 + len(word) > WIDTH:
            out.append(current)
            current = f"+ {word}"
        else:
            current = f"{current} {word}" if current else word
    return "\n".join([*out, current])


def _current_elements(plus: str, minus: str, current: str, sensed: bool) -> list[str]:
    """The current source, in series with a sensor where the rate is written in terms of the current."""
    if not sensed:
        return [f"Bi {plus} {minus} I={current}"]
    return [f"Vi {plus} inside 0", f"Bi inside {minus} I={current}"]


def _symbolic(model: Model) -> Model:
    window = model.window
    leaves = {key: Expression(f"{{{WINDOW}{key}}}") for key in window.values()}
    return model.bind(window=window.bind(**leaves), **{key: Expression(f"{{{key}}}") for key in model.values()})


def _sensing(model: _AnyModel, v: Expression, x: Expression) -> _AnyModel:
    """The same model, whose current at this v and x is what a sensor in series with it sees."""
    original: Callable[..., Value] = model._current
    copy = model.bind()

    def current(voltage: Value, state: Value, ops: Ops, *second: Value) -> Value:
        here = str(voltage) == str(v) and str(state) == str(x) and all(str(y) == str(_inside("y")) for y in second)
        return Expression(SENSED) if here else original(voltage, state, ops, *second)

    object.__setattr__(copy, "_current", current)  # shadows the method in this copy only
    return copy


def _stopped(rate: Scalar, state: str) -> str:
    """The rate, brought to a stop over the last `EDGE` of the way to the bound it moves towards.

    Beyond the bound the factor is negative, so that the overshoot of a time step is undone; away from the bound the
    state moves freely, so nothing sticks.
    """
    up = f"min(max((1 - {state}) / {EDGE!r}, -1), 1)"
    down = f"min(max({state} / {EDGE!r}, -1), 1)"
    return f"({plain(rate)} > 0 ? {plain(rate)} * {up} : {plain(rate)} * {down})"


def _single(name: str, value: Value) -> float:
    if np.size(value) != 1:
        raise ParameterError(
            "a sub-circuit is one device",
            got=f"{name} with {np.size(value)} values",
            allowed="single numbers",
            hint="emit it once and give each instance its own parameters (netlists.instance_parameters)",
        )
    return float(value.item() if hasattr(value, "item") else value)


def _title(model: Model) -> str:
    kind = type(model.window).__name__
    return f"{model.name}, window {kind}"
