"""Pages that are written from the code agree with it, and their code runs."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).parents[2] / "docs"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_tables_of_the_models_page_are_those_of_the_code() -> None:
    text = (DOCS / "models.md").read_text(encoding="utf-8")
    assert script("make_models").page(text) == text, "run python docs/make_models.py"


@pytest.mark.parametrize("page", ["models.md", "add_a_model.md", "variability.md"])
def test_the_code_of_a_page_runs(page: str, tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    (tmp_path / "page.py").write_text("\n".join(blocks))
    done = subprocess.run(
        [sys.executable, tmp_path / "page.py"], capture_output=True, text=True, cwd=DOCS.parent, check=False
    )
    assert done.returncode == 0, done.stderr
