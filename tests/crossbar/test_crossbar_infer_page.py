"""The page on running experiments: its file is valid, its options and names exist."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from crossbar.datasets import ON_DISK, SHIPPED
from crossbar.experiment import read_experiment
from crossbar.sweep import run_sweep
from crossbar.zoo import NETWORKS
from devicelab.commands.infer import command as infer
from devicelab.commands.sweep import command as sweep

PAGE = (Path(__file__).parents[2] / "docs" / "infer.md").read_text()


def block(language: str, k: int = 0) -> str:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)[k]


def test_the_file_on_the_page_runs(tmp_path: Path) -> None:
    text = block("toml")
    assert tomllib.loads(text)["sweep"]["draws"] == 3
    file = tmp_path / "spread.toml"
    file.write_text(text)
    assert len(read_experiment(file)[1]) == 6
    quick = text.replace("[0.0, 0.2, 0.5]", "[0.5]").replace("[4, 6]", "[6]").replace("epochs = 10", "epochs = 1")
    file.write_text(quick.replace("images = 200", "images = 20"))
    assert len(run_sweep(file, tmp_path / "out").cases[0].draws) == 3


def test_options_and_names_on_the_page_exist() -> None:
    known = {option for command in (infer, sweep) for parameter in command.params for option in parameter.opts}
    for line in block("sh", 0).splitlines() + block("sh", 1).splitlines():
        for option in re.findall(r"--[a-z-]+", line):
            assert option in known, option
    for option in re.findall(r"^\| `(--[a-z-]+)", PAGE, flags=re.MULTILINE):
        assert option in known, option
    for name in NETWORKS:
        assert f"`{name}`" in PAGE
    for name in (*SHIPPED, *ON_DISK):
        assert f"`{name}`" in PAGE
