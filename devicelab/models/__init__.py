"""Device models, one a file, and the mapping that makes each known to every back end and every test."""

from __future__ import annotations

from ..errors import unknown_name
from .base import Model, SeparableModel
from .linear_ion_drift import LinearIonDrift
from .vteam import VTEAM

MODELS: dict[str, type[Model]] = {cls.name: cls for cls in (LinearIonDrift, VTEAM)}
"""Every model by its name on the command line and in files."""


def model_class(name: str) -> type[Model]:
    """The model class called `name`.

    Raises:
        ParameterError: If there is no such model.
    """
    if name not in MODELS:
        raise unknown_name("model", name, list(MODELS))
    return MODELS[name]


__all__ = ["MODELS", "VTEAM", "LinearIonDrift", "Model", "SeparableModel", "model_class"]
