"""Intervals, settings from tables, a user's own network: what they promise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
import torch
from torch import nn

from crossbar import own
from crossbar.settings import from_table, read_toml
from crossbar.statistics import accuracy_interval, over_draws, over_images
from devicelab.errors import FileFormatError, ParameterError

FLOAT = 1e-12


def test_the_t_interval_is_students() -> None:
    # mean 0.8, standard deviation 0.1, n = 4: t(0.975, 3) = 3.182446 (tables), so 0.159122 either way
    found = over_draws([0.7, 0.9, 0.8 + 0.1 / math.sqrt(2), 0.8 - 0.1 / math.sqrt(2)])
    assert found.mean == pytest.approx(0.8, abs=FLOAT)
    assert found.high - found.mean == pytest.approx(3.182446 * 0.1 / 2, abs=1e-7)
    assert over_draws([1.0, 0.9, 1.0]).high == 1.0  # an accuracy ends at 1
    with pytest.raises(ParameterError, match="two or more"):
        over_draws([0.5])


def test_one_draw_has_the_binomial_interval_of_wilson() -> None:
    # closed form: (p + z^2/2n -+ z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n)
    right, n, z = 90, 100, 1.959963984540054
    p = right / n
    middle, reach = p + z**2 / (2 * n), z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    found = over_images(right, n)
    assert found.low == pytest.approx((middle - reach) / (1 + z**2 / n), abs=1e-9)
    assert found.high == pytest.approx((middle + reach) / (1 + z**2 / n), abs=1e-9)
    assert accuracy_interval([90], 100) == found
    assert "draws" in accuracy_interval([90, 91], 100).method
    with pytest.raises(ParameterError, match="right answers"):
        over_images(3, 2)


@dataclass(frozen=True)
class Inner:
    a: float = 1.0
    kind: Literal["x", "y"] = "x"


@dataclass(frozen=True)
class Outer:
    n: int
    inner: Inner | None = None
    values: tuple[float, ...] = ()
    flag: bool = False

    def __post_init__(self) -> None:
        if self.n < 0:
            raise ParameterError("n must not be negative", got=self.n)


def test_tables_become_dataclasses() -> None:
    found = from_table(Outer, {"n": 3, "inner": {"a": 2, "kind": "y"}, "values": [1, 2.5], "flag": True}, "t")
    assert found == Outer(3, Inner(2.0, "y"), (1.0, 2.5), True)
    assert isinstance(found.inner, Inner)
    assert isinstance(found.inner.a, float)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"n": 1, "iner": {}}, r"key in t(.|\n)*did you mean inner"),
        ({"n": 1, "inner": {"b": 1}}, r"key in t.inner(.|\n)*allowed: +a, kind"),
        ({"n": 1.5}, r"t.n has the wrong kind(.|\n)*a whole number"),
        ({"n": True}, "t.n has the wrong kind"),
        ({"n": 1, "flag": 1}, r"t.flag(.|\n)*true or false"),
        ({"n": 1, "inner": {"kind": "z"}}, r"t.inner.kind(.|\n)*'x', 'y'"),
        ({"n": 1, "values": [1, "2"]}, r"t.values\[1\](.|\n)*a number"),
        ({"n": 1, "inner": 3}, r"t.inner(.|\n)*a table with a, kind"),
        ({"n": -1}, "t: n must not be negative"),
        ({}, "t lacks n"),
    ],
)
def test_bad_tables_name_the_key_and_what_is_allowed(table: dict[str, object], words: str) -> None:
    with pytest.raises(ParameterError, match=words):
        from_table(Outer, table, "t")


def test_an_exported_program_gives_the_layers_back(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3, stride=2, padding=1, groups=2), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(36, 5)
    ).eval()
    x = torch.rand(3, 2, 6, 6)
    torch.export.save(torch.export.export(net, (x,), dynamic_shapes=({0: torch.export.Dim("b")},)), tmp_path / "n.pt2")
    found = own.from_program(tmp_path / "n.pt2")
    assert sorted(type(m).__name__ for m in found.modules() if isinstance(m, nn.Linear | nn.Conv2d)) == [
        "Conv2d",
        "Linear",
    ]
    y = torch.rand(5, 2, 6, 6)
    torch.testing.assert_close(found(y), net(y))
    (tmp_path / "bad.pt2").write_bytes(b"nothing")
    with pytest.raises(FileFormatError, match="not an exported program"):
        own.from_program(tmp_path / "bad.pt2")


def test_a_factory_runs_only_when_trusted_and_weights_never_run_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_nets_for_a_test.py").write_text(
        "from torch import nn\nran = []\ndef make():\n    ran.append(1)\n    return nn.Linear(2, 3)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ParameterError, match="would run code"):
        own.from_factory("my_nets_for_a_test:make")
    lines: list[str] = []
    weights = tmp_path / "w.pt"
    torch.save({"weight": torch.ones(3, 2), "bias": torch.zeros(3)}, weights)
    net = own.from_factory("my_nets_for_a_test:make", weights, trust=True, say=lines.append)
    assert float(net(torch.ones(1, 2))[0, 0]) == 2.0
    assert "running make() of" in lines[0]
    torch.save(nn.Linear(2, 3), weights)  # a whole pickled module
    with pytest.raises(FileFormatError, match="cannot be read safely"):
        own.from_factory("my_nets_for_a_test:make", weights, trust=True)
    torch.jit.save(torch.jit.script(nn.Linear(2, 3)), str(weights))
    own.from_factory("my_nets_for_a_test:make", weights, trust=True)
    torch.save({"weight": torch.ones(3, 3)}, weights)
    with pytest.raises(ParameterError, match="do not fit"):
        own.from_factory("my_nets_for_a_test:make", weights, trust=True)
    for name, words in (("nocolon", "module:function"), ("no_such_module:f", "not found"), ("os:getcwd", "no network")):
        with pytest.raises(ParameterError, match=words):
            own.from_factory(name, trust=True)


def test_a_file_that_is_not_toml_says_where(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text("a = \n")
    with pytest.raises(FileFormatError, match="line 1"):
        read_toml(tmp_path / "x.toml")
