"""docs/measured: a page for each set, every figure there, every template filled, and a page made again is the page."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "measured"
DATA = ROOT.parent / "shared" / "data"
pytestmark = pytest.mark.skipif(not PAGES.is_dir(), reason="the docs are not in this checkout")


def test_every_set_has_a_page() -> None:
    if not DATA.is_dir():
        pytest.skip(f"the measured sets are not at {DATA}")
    index = (PAGES / "README.md").read_text(encoding="utf-8")
    for folder in (path for path in DATA.iterdir() if path.is_dir()):
        (page,) = re.findall(rf"\| `{folder.name}` \| \[[^\]]+\]\((\w+\.md)\)", index)
        assert (PAGES / page).is_file()


def test_pages_are_filled_and_show_figures_that_exist() -> None:
    pages = sorted(PAGES.glob("*.md"))
    assert {page.name for page in (PAGES / "templates").glob("*.md")} == {p.name for p in pages} - {"README.md"}
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert "{{" not in text
        for link in re.findall(r"\]\(([^)#]+)\)", text):
            assert (PAGES / link).is_file(), f"{page.name}: {link}"
        for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
            assert len({row.count("|") for row in table.splitlines()}) == 1, f"{page.name}: {table[:80]}"


def test_page_made_again_is_the_page(tmp_path: Path) -> None:
    if not DATA.is_dir():
        pytest.skip(f"the measured sets are not at {DATA}")
    made = "import sys; sys.path.insert(0, 'docs'); import make_measured as m; print(m.page('format_samples'), end='')"
    done = subprocess.run([sys.executable, "-c", made], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout == (PAGES / "format_samples.md").read_text(encoding="utf-8")


def test_unknown_page_is_named() -> None:
    done = subprocess.run(
        [sys.executable, "docs/make_measured.py", "vcn"], capture_output=True, text=True, cwd=ROOT, timeout=120
    )
    assert done.returncode == 1
    assert "vcn" in done.stderr
    assert "vcm_w264740" in done.stderr
