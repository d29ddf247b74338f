"""Draws the figure of docs/networks.md into docs/images and prints its tables.

python docs/make_networks.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import torch
from torch import nn

mpl.use("Agg")

from crossbar import Config, Wires, convert, floorplans
from crossbar.zoo import network

IMAGES = Path(__file__).parent / "images"
ARRAYS = Config(nonlinear=False, g_low=1e-5, g_high=1e-4)


def networks() -> dict[str, nn.Module]:
    """Those of the table, with random weights."""
    found = {name: network(name, seed=0) for name in ("lenet", "vgg8", "googlenet")}
    torch.manual_seed(0)
    encoder = nn.TransformerEncoderLayer(64, 4, 128, batch_first=True)
    return found | {"transformer": nn.TransformerEncoder(encoder, 2, enable_nested_tensor=False)}


def fill() -> None:
    """Tiles with and without sharing, and the bound."""
    for name, net in networks().items():
        for size in (16, 64, 128):
            ((floor, names),) = floorplans(
                convert(net, None, ARRAYS.but(rows=size, columns=size, share_tiles="layers"))
            ).items()
            tiles, cells = floor.alone
            shares = f"{100 * floor.used / cells:.0f} | {100 * floor.used / floor.devices:.0f}"
            print(f"| {name} | {size} | {tiles:,} | {floor.tiles:,} | {floor.least:,} | {shares} |")  # noqa: T201
            if (name, size) == ("lenet", 64):
                floor.figure(names).savefig(IMAGES / "networks_tiles.png", dpi=110)


def neighbours() -> None:
    """What neighbours' devices do to the outputs, by what idle lines do."""
    net, x = (
        network("lenet", seed=0).double(),
        torch.rand(8, 1, 28, 28, generator=torch.Generator().manual_seed(0)).double(),
    )
    ways: dict[str, dict[str, Any]] = {"apart": {"share_tiles": False}}
    ways |= {idle: {"idle_lines": idle} for idle in ("grounded", "floating word lines", "floating")}
    for r in (0.0, 1.0, 5.0):
        wires = Wires(r, r, r, r) if r else None
        errors = []
        for change in ways.values():
            config = ARRAYS.but(**{"rows": 64, "columns": 64, "wires": wires, "share_tiles": "layers"} | change)
            with torch.no_grad():
                out, exact = convert(net, None, config)(x), net(x)
            errors.append(f"{100 * float((out - exact).norm() / exact.norm()):.3g}")
        print(f"| {r:g} | {' | '.join(errors)} |")  # noqa: T201


if __name__ == "__main__":
    fill()
    neighbours()
