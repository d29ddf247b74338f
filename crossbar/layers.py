"""Network layers whose matrix products run on arrays."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from devicelab import Lut
from devicelab.errors import ParameterError

from .config import Config
from .mapping import TiledMatrix


class ArrayLayer(nn.Module):
    """What array layers share: inputs become word-line voltages, output currents become numbers again.

    The largest input gets `config.v_read`. It is that of the calibration data if there was a calibration, otherwise of
    each input vector on its own, so that a result never depends on what else is in the batch.
    """

    input_range: Tensor

    def __init__(self, weight: Tensor, bias: Tensor | None, lut: Lut, config: Config) -> None:
        super().__init__()
        self.matrix = TiledMatrix(weight, lut, config)
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone())
        self.register_buffer("input_range", torch.zeros((), dtype=weight.dtype))

    def product(self, inputs: Tensor) -> Tensor:
        """Inputs [b, n_in] times the matrix, plus bias: [b, n_out]."""
        peak = inputs.detach().abs().amax(dim=1, keepdim=True)
        if bool(self.input_range > 0):
            peak = self.input_range
            inputs = inputs.clamp(-peak, peak)
        scale = self.matrix.config.v_read / torch.where(peak > 0, peak, torch.ones_like(peak))
        out: Tensor = self.matrix(inputs * scale) / scale
        return out if self.bias is None else out + self.bias


class ArrayLinear(ArrayLayer):
    """`torch.nn.Linear` on arrays."""

    def __init__(self, layer: nn.Linear, lut: Lut, config: Config) -> None:
        super().__init__(layer.weight, layer.bias, lut, config)

    def forward(self, x: Tensor) -> Tensor:
        """As `torch.nn.Linear`, [..., n_in] to [..., n_out]."""
        return self.product(x.reshape(-1, x.shape[-1])).reshape(*x.shape[:-1], -1)


class ArrayConv2d(ArrayLayer):
    """`torch.nn.Conv2d` on arrays: every patch of the image is one input vector."""

    def __init__(self, layer: nn.Conv2d, lut: Lut, config: Config) -> None:
        if layer.groups != 1 or layer.padding_mode != "zeros" or isinstance(layer.padding, str):
            raise ParameterError(
                "this convolution is not supported on arrays yet",
                got=str(layer),
                allowed="groups=1, zero padding given as numbers",
            )
        super().__init__(layer.weight.flatten(1), layer.bias, lut, config)
        self.geometry: dict[str, Any] = {
            "kernel_size": layer.kernel_size,
            "stride": layer.stride,
            "padding": layer.padding,
            "dilation": layer.dilation,
        }

    def forward(self, x: Tensor) -> Tensor:
        """As `torch.nn.Conv2d`, [b, channels, height, width]."""
        patches = nn.functional.unfold(x, **self.geometry)  # [b, n_in, positions]
        b, n_in, positions = patches.shape
        out = self.product(patches.transpose(1, 2).reshape(-1, n_in))
        return out.reshape(b, positions, -1).transpose(1, 2).reshape(b, -1, *self._size(x))

    def _size(self, x: Tensor) -> list[int]:
        g = self.geometry
        return [
            (size + 2 * p - d * (k - 1) - 1) // s + 1
            for size, k, s, p, d in zip(
                x.shape[2:], g["kernel_size"], g["stride"], g["padding"], g["dilation"], strict=True
            )
        ]
