"""Published and fitted parameter sets: one TOML file each, with its source and what it was fitted to."""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

from ..errors import FileFormatError, ParameterError, unknown_name
from ..models import model_class
from ..models.base import Model
from ..windows import window


def parameter_set(name: str) -> Model:
    """The device called `name`, or the one in a TOML file at that path.

    Raises:
        ParameterError: If there is no such set; the message names the nearest ones.
        FileFormatError: If the file is not a parameter set.
    """
    return model_from_dict(parameter_set_info(name))


def parameter_set_info(name: str) -> dict[str, Any]:
    """Everything a set's file says: model, parameters, window, source, note."""
    if not isinstance(name, str):
        raise ParameterError("a parameter set is found by its name", got=repr(name), allowed="text")
    if name.endswith(".toml"):
        return _load(Path(name))
    if name not in parameter_sets():
        raise unknown_name("parameter set", name, parameter_sets())
    text = (resources.files(__package__) / f"{name}.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def parameter_sets() -> list[str]:
    """Names of the sets that come with the package."""
    return sorted(entry.name[:-5] for entry in resources.files(__package__).iterdir() if entry.name.endswith(".toml"))


def model_from_dict(info: dict[str, Any]) -> Model:
    """The model that a set's dictionary describes; `physical` parameters go through the model's own conversion."""
    cls = model_class(info["model"])
    shape = dict(info.get("window", {"name": "none"}))
    options = {key: info[key] for key in ("polarity", "resistance") if key in info}
    made = window(shape.pop("name"), **shape)
    if "physical" in info:
        build = getattr(cls, info["conversion"])
        return build(window=made, **info["physical"], **options)  # type: ignore[no-any-return]
    return cls(window=made, **info["parameters"], **options)


def _load(path: Path) -> dict[str, Any]:
    try:
        info = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FileFormatError("cannot read parameter set", got=str(path), hint=str(error)) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FileFormatError("not a TOML file", got=str(path), hint=str(error)) from error
    if "model" not in info or not ("parameters" in info or "physical" in info):
        raise FileFormatError("not a parameter set", got=str(path), allowed="keys `model` and `parameters`")
    return info
