"""Parameters declared once: unit, bounds, meaning, role; read by validation, fits, SPICE, LUT files and docs."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from .errors import ParameterError, unknown_name
from .ops import Value, is_tensor

Role = Literal["resistance", "current", "threshold", "rate", "exponent", "curvature", "shape"]
"""What a parameter does, so that a fit knows its scale and where to look for it in a trace."""


@dataclass(frozen=True)
class Parameter:
    """Declaration of one parameter.

    Args:
        name: The attribute's name, the same in equations, SPICE, HDF5 and on the command line.
        unit: SI unit as text, "1" for a pure number.
        meaning: One line.
        low: Smallest allowed value.
        high: Largest allowed value.
        role: What it does in the model.
        fit: Whether traces can determine it.
    """

    name: str
    unit: str
    meaning: str
    low: float
    high: float
    role: Role
    fit: bool


def parameter(
    unit: str,
    meaning: str,
    *,
    role: Role,
    default: float | None = None,
    low: float = -np.inf,
    high: float = np.inf,
    fit: bool = True,
) -> Any:
    """Dataclass field that declares a `Parameter`; its name is that of the attribute."""
    declared = {"unit": unit, "meaning": meaning, "low": low, "high": high, "role": role, "fit": fit}
    if default is None:
        return dataclasses.field(metadata={"parameter": declared})
    return dataclasses.field(default=default, metadata={"parameter": declared})


class Checked(type):
    """Says which parameters of a class are unknown or missing, before anything is made."""

    def __call__(cls, *args: Any, **values: Any) -> Any:
        """An instance; raises `ParameterError` unless `values` are its parameters."""
        made: tuple[Any, ...] = dataclasses.fields(cls) if dataclasses.is_dataclass(cls) else ()
        fields = {field.name: field for field in made}
        if args:
            names = f"{next(iter(_needed(fields)), 'name')}=..."
            raise ParameterError(
                f"{cls.__name__} takes parameters by name", got=f"{args[0]!r} without a name", hint=f"write {names}"
            )
        for name in values:
            if name not in fields:
                raise unknown_name(f"parameter of {cls.__name__}", name, list(fields))
        missing = [name for name in _needed(fields) if name not in values]
        if missing:
            raise ParameterError(
                f"{cls.__name__} misses parameters",
                got=", ".join(values) or "none",
                allowed=f"all of: {', '.join(_needed(fields))}",
                hint=f"add {', '.join(missing)}; parameter_set(NAME) gives a device with published values",
            )
        return super().__call__(**values)


def _needed(fields: dict[str, Any]) -> list[str]:
    """Fields without a default."""
    empty = dataclasses.MISSING
    return [name for name, field in fields.items() if field.default is empty and field.default_factory is empty]


@dataclass(frozen=True, kw_only=True)
class Parametrised(metaclass=Checked):
    """Base of models and windows: a frozen dataclass whose parameters are validated when it is made.

    A parameter may be a number, or an array or tensor for a batch of devices or draws.
    """

    def __post_init__(self) -> None:
        for declared in self.parameters():
            _check_bounds(type(self).__name__, declared, getattr(self, declared.name))
        self._check()

    def _check(self) -> None:
        """Check relations between parameters; raise `ParameterError`."""

    @classmethod
    def parameters(cls) -> list[Parameter]:
        """The declared parameters, in order."""
        return list(_declared(cls))

    def values(self) -> dict[str, Value]:
        """Name and value of every parameter."""
        return {declared.name: getattr(self, declared.name) for declared in _declared(type(self))}

    def replace(self, **changes: Value) -> Self:
        """A copy with some parameters changed, validated again."""
        return dataclasses.replace(self, **changes)

    def bind(self, **values: Value) -> Self:
        """A copy with some parameters replaced unchecked: symbols, or arrays known to be good."""
        copy = object.__new__(type(self))
        for field in dataclasses.fields(self):
            object.__setattr__(copy, field.name, values.get(field.name, getattr(self, field.name)))
        return copy


@cache
def _declared(cls: type[Parametrised]) -> tuple[Parameter, ...]:
    return tuple(
        Parameter(name=field.name, **field.metadata["parameter"])
        for field in dataclasses.fields(cls)
        if "parameter" in field.metadata
    )


def numbers(value: object) -> NDArray[np.float64] | None:
    """A number, array or nested list as an array of real numbers; None if it is none, as text is."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):  # ragged lists
        return None
    return array.astype(float) if array.dtype.kind in "fiu" else None


def _check_bounds(owner: str, declared: Parameter, value: Value) -> None:
    if is_tensor(value):
        value = value.detach().cpu().numpy()
    array = numbers(value)
    if array is None:
        raise ParameterError(
            f"{owner}: {declared.name} ({declared.meaning}) is not a number", got=repr(value), allowed="numbers, arrays"
        )
    good = np.isfinite(array) & (array >= declared.low) & (array <= declared.high)
    if good.all():
        return
    unit = "" if declared.unit == "1" else f" {declared.unit}"
    raise ParameterError(
        f"{owner}: {declared.name} ({declared.meaning}) is out of bounds",
        got=f"{float(array[~good].flat[0]):.6g}{unit}",
        allowed=f"{declared.low:g} to {declared.high:g}{unit}",
        hint="parameters are in SI units; check the sign and the power of ten",
    )
