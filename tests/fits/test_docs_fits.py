"""The code of docs/fits.md runs, and says what the page says it says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "fits.md"


@pytest.mark.slow
def test_the_code_of_the_page_runs(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 2
    (tmp_path / "page.py").write_text("\n".join(blocks))
    done = subprocess.run(
        [sys.executable, tmp_path / "page.py"], capture_output=True, text=True, cwd=PAGE.parents[1], check=False
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"k_on.*at least.*t_set at -1 V at most", done.stdout)


def test_pictures_of_the_page_exist() -> None:
    names = re.findall(r"\]\((images/[^)]*)\)", PAGE.read_text(encoding="utf-8"))
    assert names
    assert all((PAGE.parent / name).is_file() for name in names)
