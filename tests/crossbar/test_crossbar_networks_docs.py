"""The page on networks: its examples run, one after the other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import crossbar
from crossbar import config

PAGE = (Path(__file__).parents[2] / "docs" / "networks.md").read_text(encoding="utf-8")


def test_the_examples_run(capsys: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for code in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(compile(code, "networks.md", "exec"), names)
    assert names["y"].shape == (5, 30)
    assert "total" in capsys.readouterr().out
    assert (tmp_path / "tiles.png").stat().st_size > 1000


def test_every_scheme_layer_and_device_field_is_on_the_page() -> None:
    for scheme in config.SCHEMES:
        assert f'"{scheme}"' in PAGE
    for law in (*config.ENCODINGS[1:], *config.LAWS, *config.SHARED_BY, *config.IDLE):
        assert law in PAGE
    for name in crossbar.Devices.__dataclass_fields__:
        assert name in PAGE or name == "drift_start"
    for layer in crossbar.convert.__globals__["LAYERS"]:
        assert re.sub(r"Cell$|[123]d$", "", layer.__name__) in PAGE
