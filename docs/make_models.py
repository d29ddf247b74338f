"""Writes the tables of docs/models.md from the registered models, windows and parameter sets.

python docs/make_models.py
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from devicelab import MODELS, WINDOWS, parameter_sets
from devicelab.models import SeparableModel
from devicelab.parameter_sets import parameter_set_info

PAGE = Path(__file__).parent / "models.md"


def source(cls: type) -> str:
    """The source that a docstring names."""
    found = re.search(r"Source: (.*?)(?:\n\n|\Z)", inspect.getdoc(cls) or "", re.DOTALL)
    return " ".join(found.group(1).split()) if found else ""


def status(cls: type) -> str:
    """What the docstring says of a model that is not all of what was published, or not yet proved."""
    text = inspect.getdoc(cls) or ""
    return "experimental" if "Experimental:" in text else "in part" if "is not covered" in text else "complete"


def models() -> str:
    """One row a model."""
    rows = ["| model | status | SETs at | parameters | simulated | source |", "| --- | --- | --- | --- | --- | --- |"]
    for name, cls in MODELS.items():
        parameters = ", ".join(f"`{entry.name}`" for entry in cls.parameters())
        kind = "exactly" if issubclass(cls, SeparableModel) else "in steps"
        sign = "v > 0" if cls.set_sign > 0 else "v < 0"
        rows.append(f"| `{cls.__name__}` (`{name}`) | {status(cls)} | {sign} | {parameters} | {kind} | {source(cls)} |")
    return f"{len(MODELS)} models:\n\n" + "\n".join(rows)


def equations() -> str:
    """The docstring of every model, which states its equations."""
    parts = []
    for cls in MODELS.values():
        text = (inspect.getdoc(cls) or "").split("\n\nSource:")[0]
        parts.append(f"### {cls.__name__}\n\n```text\n{text}\n```")
    return "\n\n".join(parts)


def windows() -> str:
    """One row a window."""
    rows = ["| window | profile | depends on direction | source |", "| --- | --- | --- | --- |"]
    for name, cls in WINDOWS.items():
        formula = (inspect.getdoc(cls) or "").split("\n\n")[0].replace("\n", " ").replace("|", "\\|")
        rows.append(f"| `{name}` | {formula} | {'no' if cls.symmetric else 'yes'} | {source(cls)} |")
    return f"{len(WINDOWS)} windows:\n\n" + "\n".join(rows)


def sets() -> str:
    """One row a parameter set."""
    rows = ["| set | model | source | fitted to |", "| --- | --- | --- | --- |"]
    for name in parameter_sets():
        info = parameter_set_info(name)
        rows.append(f"| `{name}` | {info['model']} | {info['source']} | {info['fitted_to']} |")
    return f"{len(parameter_sets())} sets:\n\n" + "\n".join(rows)


def page(text: str) -> str:
    """The page with every table between its markers written anew."""
    for name, make in (("models", models), ("windows", windows), ("sets", sets), ("equations", equations)):
        begin, end = f"<!-- {name} -->\n", f"\n<!-- /{name} -->"
        head, rest = text.split(begin)
        text = head + begin + make() + end + rest.split(end)[1]
    return text


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
