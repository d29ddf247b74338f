"""A model as an ngspice sub-circuit.

The text of `current` and `rate` comes from the model itself, called with symbols; nothing is written twice. Parameters
stay symbols, with the model's values as defaults, so one sub-circuit serves every fitted set and every draw::

    X1 plus minus state vteam x0=0.3 r_on=1200

The state is x0 plus the voltage of a 1 F capacitor that starts at zero and moves only while time > 0. So an operating
point and a transient, with or without ``uic``, all start from x0. (Not for ``.dc``, where time is the sweep.)
"""

from __future__ import annotations

import re

import numpy as np

from devicelab.errors import ParameterError
from devicelab.models import Model
from devicelab.ops import Ops, Value

from .expression import Expression, Scalar, SpiceOps, number, plain, wrapped

WIDTH = 110
"""Longest line of a netlist; continued lines begin with a plus."""

EDGE = 1e-5
"""Width of the hard bound at 0 and 1: over the last 1e-5 of its way the state comes to a stop."""

WINDOW = "window_"
"""Prefix of the window's parameters, which may share names with the model's."""

STATE = "x0"

INSIDE = "min(max(V(x), 0), 1)"
"""The state, also between Newton steps, whose V(x) may be anywhere."""

SENSED = "I(Vi)"
"""The device current as the rate sees it; its equation, which may be long, is then written once."""

SCALE = "tau"
"""Parameter with which the rate [1/s] becomes a voltage that ngspice's tolerances suit."""


def subckt(model: Model, name: str | None = None) -> str:
    """The sub-circuit of a model, as text that ends with a newline.

    Terminals: plus, minus, and the state x as a voltage between 0 and 1 V (1 = low resistance). Parameters: `x0` (state
    at time 0), the model's parameters, and the window's with the prefix ``window_``.

    Args:
        model: The device; its parameters must be numbers, not batches.
        name: Name of the sub-circuit; the model's name by default.

    Raises:
        ParameterError: If the model is a batch or the name is not a SPICE name.
    """
    name = name or model.name
    if not re.fullmatch(r"[A-Za-z_]\w*", name):
        raise ParameterError("not a name for a sub-circuit", got=repr(name), allowed="letters, digits, underscores")
    defaults = {STATE: 0.0, SCALE: 1.0, **subckt_parameters(model)}
    bound = _symbolic(model)
    plus, minus = ("plus", "minus") if model.polarity > 0 else ("minus", "plus")
    v, x = Expression(f"V({plus},{minus})"), Expression(INSIDE)
    ops = SpiceOps()
    current = bound._current(v, x, ops)
    rate = _sensing(bound, v, x)._rate(v, x, ops)
    parameters = " ".join(f"{key}={number(value)}" for key, value in defaults.items())
    lines = [
        f"* {_title(model)}; x = 1 is the low resistance",
        f".subckt {name} plus minus x params: {parameters}",
        *ops.elements,
        *_current_elements(plus, minus, plain(current), SENSED in plain(rate)),
        f"Br rate 0 V={{{SCALE}}} * {wrapped(rate)}",
        f"Bm move 0 V=(time > 0 ? {_stopped(Expression('V(rate)'))} : 0)",
        "Gs 0 s move 0 1",
        f"Cs s 0 {{{SCALE}}}",
        "Rs s 0 1e12",
        f"Bx x 0 V=min(max({{{STATE}}} + V(s), 0), 1)",
        f".ends {name}",
    ]
    return "".join(f"{wrap(line)}\n" for line in lines)


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


def _sensing(model: Model, v: Expression, x: Expression) -> Model:
    """The same model, whose current at this v and x is what a sensor in series with it sees."""
    original = model._current
    copy = model.bind()

    def current(voltage: Value, state: Value, ops: Ops) -> Value:
        here = str(voltage) == str(v) and str(state) == str(x)
        return Expression(SENSED) if here else original(voltage, state, ops)

    object.__setattr__(copy, "_current", current)  # shadows the method in this copy only
    return copy


def _stopped(rate: Scalar) -> str:
    """The rate, brought to a stop over the last `EDGE` of the way to the bound it moves towards.

    Beyond the bound the factor is negative, so that the overshoot of a time step is undone; away from the bound the
    state moves freely, so nothing sticks.
    """
    state = f"({{{STATE}}} + V(s))"
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
