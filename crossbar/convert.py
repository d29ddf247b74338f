"""Trained networks on arrays."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from devicelab import Lut
from devicelab.errors import ParameterError

from .config import Config
from .layers import ArrayConv2d, ArrayLayer, ArrayLinear

_LAYERS: dict[type[nn.Module], Callable[..., ArrayLayer]] = {nn.Linear: ArrayLinear, nn.Conv2d: ArrayConv2d}


def convert(net: nn.Module, lut: Lut, config: Config | None = None, *, calibration: Tensor | None = None) -> nn.Module:
    """A copy of a network whose Linear and Conv2d layers run on arrays of the device in `lut`.

    Args:
        net: Trained network; it is not changed.
        lut: The device.
        config: The arrays. With `Config.ideal()` the copy stays in floating point.
        calibration: A batch of inputs that sets each layer's largest input; without it every input vector is scaled by
            its own largest element.

    Returns:
        The copy, in evaluation mode; `report` says what was replaced.

    Raises:
        ParameterError: If there is nothing to replace, or a layer cannot be mapped.
        LutError: If the table does not reach `config.v_read`.
    """
    config = config or Config()
    digital = copy.deepcopy(net).eval()
    if config.digital:
        return digital
    layers = [module for module in digital.modules() if type(module) in _LAYERS]
    on_arrays = {layer: _LAYERS[type(layer)](layer, lut, config) for layer in layers}
    if not on_arrays:
        raise ParameterError(
            "nothing to convert in this network",
            got=", ".join(sorted({type(module).__name__ for module in net.modules()})),
            allowed=", ".join(cls.__name__ for cls in _LAYERS),
            hint="only these layers run on arrays; pass the module that contains them",
        )
    if calibration is not None:
        _calibrate(digital, on_arrays, calibration)
    # a copy in which every use of a layer, also the second one, is the layer on arrays
    out = copy.deepcopy(digital, {id(layer): array for layer, array in on_arrays.items()})
    return (nn.Sequential(out) if isinstance(out, ArrayLayer) else out).eval()


def _calibrate(net: nn.Module, on_arrays: Mapping[nn.Module, ArrayLayer], inputs: Tensor) -> None:
    """Set each layer's largest input from what reaches it in the floating-point network."""
    peaks: dict[nn.Module, Tensor] = {}

    def hook(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        peak = args[0].detach().abs().max()
        peaks[module] = torch.maximum(peaks.get(module, peak), peak)

    handles = [module.register_forward_pre_hook(hook) for module in on_arrays]
    try:
        with torch.no_grad():
            net(inputs)
    finally:
        for handle in handles:
            handle.remove()
    for module, peak in peaks.items():
        on_arrays[module].input_range.copy_(peak)


def report(net: nn.Module) -> str:
    """A table of the layers that run on arrays: shape, tiles, devices."""
    lines = [f"{'layer':<24}{'type':<14}{'matrix':>12}{'tiles':>8}{'devices':>12}"]
    total = 0
    for name, module in net.named_modules():
        if isinstance(module, ArrayLayer):
            matrix = module.matrix
            shape = f"{matrix.n_out}x{matrix.n_in}"
            kind = type(module).__name__
            lines.append(f"{name:<24}{kind:<14}{shape:>12}{matrix.tiles:>8}{matrix.devices:>12,}")
            total += matrix.devices
    lines.append(f"{'total':<24}{'':<14}{'':>12}{'':>8}{total:>12,}")
    return "\n".join(lines)
