"""Trained networks on arrays, and back."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any

import torch
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from devicelab import Lut
from devicelab.errors import ParameterError

from .attention import ArrayMultiheadAttention
from .calibrate import Inputs, calibrate
from .chip import Chip
from .config import Config
from .floorplan import Floorplan
from .layers import (
    ArrayBilinear,
    ArrayConv,
    ArrayConvTranspose,
    ArrayEmbedding,
    ArrayEmbeddingBag,
    ArrayLayer,
    ArrayLinear,
    Builder,
)
from .mapping import TiledMatrix
from .passes import attach, detach
from .recurrent import ArrayRNN, ArrayRNNCell

LAYERS: dict[type[nn.Module], Callable[..., ArrayLayer]] = {
    nn.Linear: ArrayLinear,
    nn.Conv1d: ArrayConv,
    nn.Conv2d: ArrayConv,
    nn.Conv3d: ArrayConv,
    nn.ConvTranspose1d: ArrayConvTranspose,
    nn.ConvTranspose2d: ArrayConvTranspose,
    nn.ConvTranspose3d: ArrayConvTranspose,
    nn.RNN: ArrayRNN,
    nn.LSTM: ArrayRNN,
    nn.GRU: ArrayRNN,
    nn.RNNCell: ArrayRNNCell,
    nn.LSTMCell: ArrayRNNCell,
    nn.GRUCell: ArrayRNNCell,
    nn.MultiheadAttention: ArrayMultiheadAttention,
    nn.Embedding: ArrayEmbedding,
    nn.EmbeddingBag: ArrayEmbeddingBag,
    nn.Bilinear: ArrayBilinear,
}
"""Digital layers and what runs in their place."""


def convert(
    net: nn.Module,
    lut: Lut | None,
    config: Config | None = None,
    *,
    calibration: Inputs | None = None,
    skip: tuple[str, ...] = (),
    own: Mapping[str, Config] | None = None,
) -> nn.Module:
    """A copy of a network whose layers (see `LAYERS`) run on arrays of the device in `lut`.

    Args:
        net: Trained network; it is not changed.
        lut: The device; None for ohmic cells between `config.g_low` and `config.g_high`.
        config: The arrays. With `Config.ideal()` the copy stays in floating point.
        calibration: A batch of inputs (a tuple if the network takes several) that sets the ranges of DACs and ADCs;
            without it every input vector, or image, is scaled by its own largest element, and the range of an ADC is
            the largest current that can occur.
        skip: Names of layers that stay digital, as patterns: "features.0", "head*".
        own: Arrays of their own for some layers, by pattern.

    Returns:
        The copy, in evaluation mode; `report` says what was replaced, `revert` undoes it.

    Raises:
        ParameterError: If there is nothing to replace, a pattern fits nothing, or a layer cannot be mapped.
        LutError: If the device cannot do what the configuration asks.
    """
    if torch.is_inference_mode_enabled():  # what is made there could never be trained
        with torch.inference_mode(False):
            return convert(net, lut, config, calibration=calibration, skip=skip, own=own)
    config = config or Config()
    digital = copy.deepcopy(net).eval()
    if config.digital:
        return digital
    names = {module: name for name, module in digital.named_modules() if type(module) in LAYERS}
    own = own or {}
    for pattern in (*skip, *own):
        if not any(fnmatch(name, pattern) for name in names.values()):
            raise ParameterError("no layer has such a name", got=pattern, allowed=", ".join(names.values()))
    builders: dict[int, Builder] = {}
    on_arrays: dict[nn.Module, ArrayLayer] = {}
    for module, name in names.items():
        if any(fnmatch(name, pattern) for pattern in skip):
            continue
        used = next((own[pattern] for pattern in own if fnmatch(name, pattern)), config)
        build = builders.setdefault(id(used), Builder(lut, used, first=1000 * len(builders)))
        try:
            on_arrays[module] = LAYERS[type(module)](module, build)
        except ParameterError as error:
            error.add_note(f"in the layer {name or type(module).__name__}")
            raise
    for build in builders.values():
        build.finish()
    if not on_arrays:
        raise ParameterError(
            "nothing to convert in this network",
            got=", ".join(sorted({type(module).__name__ for module in net.modules()})),
            allowed=", ".join(cls.__name__ for cls in LAYERS),
            hint="every layer is skipped"
            if skip and names
            else "only these layers run on arrays; pass the module that contains them",
        )
    out = _replaced(digital, on_arrays).eval()
    for module in out.modules():
        if isinstance(module, nn.TransformerEncoder):
            module.use_nested_tensor = False  # its fused path would bypass the arrays
    if calibration is not None:
        calibrate(out, calibration)
    attach(out)
    return out


def revert(net: nn.Module) -> nn.Module:
    """A copy of a converted network in floating point again, with its present weights.

    Raises:
        ParameterError: If nothing in it runs on arrays.
    """
    layers = {module: module.digital for module in net.modules() if isinstance(module, ArrayLayer)}
    if not layers:
        raise ParameterError("nothing in this network runs on arrays", got=type(net).__name__)
    out = copy.deepcopy(_replaced(net, layers)).train(net.training)
    detach(out)
    return out


def _replaced(net: nn.Module, by: Mapping[Any, nn.Module]) -> nn.Module:
    """A copy in which every use of a layer, also the second one, is its replacement; parameters stay shared."""
    memo: dict[int, Any] = {id(layer): new for layer, new in by.items()}
    memo |= {id(parameter): parameter for parameter in net.parameters()}
    out: nn.Module = copy.deepcopy(net, memo)
    return out


@dataclass(frozen=True)
class Placed:
    """One matrix of a network on arrays."""

    layer: str
    kind: str
    part: str
    matrix: TiledMatrix

    @property
    def name(self) -> str:
        """Of the layer and, where it has several, the matrix."""
        return self.layer + (f".{self.part}" if self.part != "matrix" else "")

    @property
    def shape(self) -> str:
        """Size of the matrix; "3 x 8x9" for three of them."""
        m = self.matrix.layout.matrices
        return (f"{m} x " if m > 1 else "") + f"{self.matrix.n_out}x{self.matrix.n_in}"


def placed(net: nn.Module) -> Iterator[Placed]:
    """Every matrix of a network on arrays; one that several layers share comes once."""
    seen: set[int] = set()
    for name, module in net.named_modules():
        if isinstance(module, ArrayLayer):
            for part, matrix in module.matrices():
                if id(matrix) not in seen:
                    seen.add(id(matrix))
                    yield Placed(name, type(module).__name__, part, matrix)
        elif isinstance(module, TiledMatrix) and not name:
            yield Placed(name, "TiledMatrix", "matrix", module)


def floorplans(net: nn.Module) -> dict[Floorplan, dict[Chip, str]]:
    """The tiles that layers of a network share, and the names of the matrices on them.

    There is one floor plan for each configuration with ``share_tiles="layers"``.
    """
    found: dict[Floorplan, dict[Chip, str]] = {}
    for p in placed(net):
        if p.matrix.place is not None:
            found.setdefault(p.matrix.place.floor, {})[p.matrix] = p.name
    return found


def left_digital(net: nn.Module) -> list[tuple[str, str, str]]:
    """Name, type and reason of every module with parameters of its own that does not run on arrays."""
    on_arrays = {id(p) for m in net.modules() if isinstance(m, ArrayLayer) for p in m.digital.parameters()}
    rows = []
    for name, module in net.named_modules():
        own = [p for p in module.parameters(recurse=False) if id(p) not in on_arrays]
        if not own or isinstance(module, ArrayLayer):
            continue
        if type(module) in LAYERS:
            why = "skipped"
        elif is_parametrized(module):
            why = "its weights are computed; remove its parametrizations first"
        elif isinstance(module, tuple(LAYERS)):
            why = "a subclass may compute anything"
        else:
            why = "no layer that arrays compute"
        rows.append((name, type(module).__name__, why))
    return rows


def report(net: nn.Module) -> str:
    """A table of the matrices that run on arrays: size, tiles, devices; then what was left digital, and why.

    Where layers share tiles, a matrix's tiles are those that it lies on and its devices those of its blocks; the total
    is what is there, and a line says what it would be without sharing.
    """
    matrices = list(placed(net))
    floors = floorplans(net)
    rows = [(p.name, p.kind, p.shape, p.matrix.tiles, p.matrix.devices) for p in matrices]
    digital = left_digital(net)
    wide = max([24, *(len(str(row[0])) + 2 for row in (*rows, *digital))])
    lines = [f"{'layer':<{wide}}{'type':<26}{'matrix':>16}{'tiles':>10}{'devices':>14}"]
    apart = [p.matrix for p in matrices if p.matrix.place is None]
    tiles = sum(m.tiles for m in apart) + sum(floor.tiles for floor in floors)
    rows.append(("total", "", "", tiles, sum(m.devices for m in apart) + sum(floor.devices for floor in floors)))
    if floors:
        alone = [floor.alone for floor in floors] + [(m.tiles, m.devices) for m in apart]
        rows.append(("without sharing tiles", "", "", sum(t for t, _ in alone), sum(d for _, d in alone)))
    lines += [f"{name:<{wide}}{kind:<26}{size:>16}{tiles:>10,}{cells:>14,}" for name, kind, size, tiles, cells in rows]
    lines += [str(floor) for floor in floors]
    if digital:
        lines += ["left digital"] + [f"{name:<{wide}}{kind:<26}{why}" for name, kind, why in digital]
    return "\n".join(lines)
