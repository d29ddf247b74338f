"""Trained networks on arrays, and back."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any

from torch import nn

from devicelab import Lut
from devicelab.errors import ParameterError

from .attention import ArrayMultiheadAttention
from .calibrate import Inputs, calibrate
from .config import Config
from .layers import ArrayConv, ArrayConvTranspose, ArrayEmbedding, ArrayLayer, ArrayLinear, Builder
from .mapping import TiledMatrix
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
    if not on_arrays:
        raise ParameterError(
            "nothing to convert in this network",
            got=", ".join(sorted({type(module).__name__ for module in net.modules()})),
            allowed=", ".join(cls.__name__ for cls in LAYERS),
            hint="only these layers run on arrays; pass the module that contains them",
        )
    out = _replaced(digital, on_arrays).eval()
    for module in out.modules():
        if isinstance(module, nn.TransformerEncoder):
            module.use_nested_tensor = False  # its fused path would bypass the arrays
    if calibration is not None:
        calibrate(out, calibration)
    return out


def revert(net: nn.Module) -> nn.Module:
    """A copy of a converted network in floating point again, with its present weights.

    Raises:
        ParameterError: If nothing in it runs on arrays.
    """
    layers = {module: module.digital for module in net.modules() if isinstance(module, ArrayLayer)}
    if not layers:
        raise ParameterError("nothing in this network runs on arrays", got=type(net).__name__)
    return copy.deepcopy(_replaced(net, layers)).train(net.training)


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


def report(net: nn.Module) -> str:
    """A table of the matrices that run on arrays: size, scheme, tiles, devices."""
    rows = [
        (p.layer + (f".{p.part}" if p.part != "matrix" else ""), p.kind, p.shape, p.matrix.tiles, p.matrix.devices)
        for p in placed(net)
    ]
    wide = max([24, *(len(row[0]) + 2 for row in rows)])
    lines = [f"{'layer':<{wide}}{'type':<26}{'matrix':>16}{'tiles':>10}{'devices':>14}"]
    rows.append(("total", "", "", sum(row[3] for row in rows), sum(row[4] for row in rows)))
    lines += [f"{name:<{wide}}{kind:<26}{size:>16}{tiles:>10,}{cells:>14,}" for name, kind, size, tiles, cells in rows]
    return "\n".join(lines)
