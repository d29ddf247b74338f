"""What docs/readers.md promises is so: its profile loads, its table names every profile."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from devicelab.readers import load_profile, profiles

DOCS = Path(__file__).parents[2] / "docs" / "readers.md"

pytestmark = pytest.mark.skipif(not DOCS.is_file(), reason="the docs are not in this checkout")


def test_profile_of_the_docs_loads(tmp_path: Path) -> None:
    (block,) = re.findall(r"```toml\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "station.toml").write_text(block, encoding="utf-8")
    profile = load_profile(tmp_path / "station.toml")
    assert (profile.name, profile.layout.names[1], profile.columns["i"]) == ("station", "Current [uA]", 4)


def test_table_of_the_docs_names_every_profile() -> None:
    text = DOCS.read_text(encoding="utf-8")
    missing = [p.name for p in profiles() if f"`{p.name}`" not in text and not p.name.startswith("dataset_")]
    assert not missing
