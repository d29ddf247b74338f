"""What the README tells a newcomer to type works as printed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

import netlists
from devicelab.cli import main

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SLOW = ("demo", "--conformance")  # the first is run by itself before every release, the second has its own test


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_commands_and_code_of_the_readme_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").symlink_to(ROOT / "data")
    lines = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("devicelab ")]
    commands = [line for line in lines if not any(word in line for word in SLOW)]
    if not netlists.available():
        commands = [line for line in commands if not line.startswith("devicelab spice")]
    pytest.importorskip("sklearn", reason="the digits come with scikit-learn")
    assert len(commands) >= 4
    for line in commands:
        try:
            code = main(shlex.split(line)[1:])
        except SystemExit as stop:
            code = stop.code
        assert not code, line
    for code_block in blocks("python"):
        exec(compile(code_block, "README.md", "exec"), {})
    assert {path.name for path in tmp_path.iterdir()} >= {"loops.png", "out", "device.h5"}


def test_files_the_readme_points_to_exist() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if "://" not in target:
            assert (ROOT / target).exists(), target
