"""What the arrays multiply: plain vectors, or every window of an image (in one, two or three dimensions)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

_CONVOLUTIONS: dict[int, Callable[..., Tensor]] = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}


@dataclass(frozen=True)
class Window:
    """A convolution's window on an image that is padded already."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]

    def size(self, spatial: tuple[int, ...]) -> tuple[int, ...]:
        """Positions along each dimension of an image."""
        return tuple(
            (n - d * (k - 1) - 1) // s + 1
            for n, k, s, d in zip(spatial, self.kernel, self.stride, self.dilation, strict=True)
        )

    def offsets(self, channels: int, spatial: tuple[int, ...], device: torch.device | None = None) -> Tensor:
        """Where the inputs of a window lie from its corner in a flat image, [channels * prod(kernel)]."""
        inner = _grid(self.kernel, self.dilation, spatial, device)
        return (torch.arange(channels, device=device).unsqueeze(1) * math.prod(spatial) + inner).flatten()

    def corners(self, spatial: tuple[int, ...], device: torch.device | None = None) -> Tensor:
        """Where the windows begin in one channel of a flat image, [positions]."""
        return _grid(self.size(spatial), self.stride, spatial, device)


def _grid(
    counts: tuple[int, ...], pitch: tuple[int, ...], spatial: tuple[int, ...], device: torch.device | None
) -> Tensor:
    """Flat indices of a regular grid of points in an array of the shape `spatial`, made on the device."""
    flat = torch.zeros(1, dtype=torch.int64, device=device)
    for count, step, size in zip(counts, pitch, spatial, strict=True):
        flat = (flat.unsqueeze(1) * size + torch.arange(count, device=device) * step).flatten()
    return flat


@dataclass(frozen=True)
class Vectors:
    """Input vectors [b, n_in]."""

    x: Tensor

    def peaks(self) -> Tensor:
        """Largest |input| of each vector, broadcasts with inputs and outputs."""
        return self.x.detach().abs().amax(-1, keepdim=True)

    def direct(self, features: list[Tensor], w: Tensor) -> Tensor:
        """The product in one go, [b, n_out].

        Args:
            features: Functions of the inputs, each like `x`.
            w: One matrix a feature, [1, F, n_in, n_out].
        """
        out: Tensor = sum(f @ w[0, k] for k, f in enumerate(features))  # type: ignore[assignment]
        return out

    def gathered(self, u: Tensor, order: Tensor | None) -> Tensor:
        """Inputs as vectors [1, b, n_in], in a given order of lines."""
        return (u if order is None else u[:, order]).unsqueeze(0)

    def placed(self, out: Tensor) -> Tensor:
        """Outputs [1, b, n_out] in the shape of the result."""
        return out[0]

    def sums(self, u: Tensor, n_out: int) -> Tensor:
        """Sum of the inputs of every output."""
        return u.sum(-1, keepdim=True)


@dataclass(frozen=True)
class Image:
    """Padded images [B, M C, *spatial], and the window that moves over them."""

    x: Tensor
    window: Window
    matrices: int

    @property
    def spatial(self) -> tuple[int, ...]:
        """Size of the padded image."""
        return tuple(self.x.shape[2:])

    @property
    def channels(self) -> int:
        """Channels of one matrix."""
        return int(self.x.shape[1]) // self.matrices

    def peaks(self) -> Tensor:
        """Largest |input| of each image, broadcasts with inputs and outputs."""
        return self.x.detach().abs().flatten(1).amax(1).view(-1, *(1,) * (self.x.dim() - 1))

    def direct(self, features: list[Tensor], w: Tensor) -> Tensor:
        """The product as a convolution, [B, M n_out, *positions]; arguments as for `Vectors`."""
        m, f, _, n_out = w.shape
        x = features[0]
        if f > 1:
            parts = [part.unflatten(1, (m, -1)) for part in features]
            x = torch.cat(parts, dim=2).flatten(1, 2)
        kernel = w.permute(0, 3, 1, 2).reshape(m * n_out, f * self.channels, *self.window.kernel)
        convolve = _CONVOLUTIONS[len(self.window.kernel)]
        return convolve(x, kernel, stride=self.window.stride, dilation=self.window.dilation, groups=m)

    def gathered(self, u: Tensor, order: Tensor | None) -> Tensor:
        """Inputs as vectors [M, B positions, n_in], in a given order of lines."""
        offsets = self.window.offsets(self.channels, self.spatial, u.device)
        if order is not None:
            offsets = offsets[order]
        index = offsets + self.window.corners(self.spatial, u.device).unsqueeze(1)  # [positions, n_in]
        flat: Tensor = u.unflatten(1, (self.matrices, -1)).flatten(2)
        return flat[..., index].transpose(0, 1).flatten(1, 2)

    def placed(self, out: Tensor) -> Tensor:
        """Outputs [M, B positions, n_out] as [B, M n_out, *positions]."""
        m, _, n_out = out.shape
        size = self.window.size(self.spatial)
        return (
            out.reshape(m, len(self.x), math.prod(size), n_out)
            .permute(1, 0, 3, 2)
            .reshape(len(self.x), m * n_out, *size)
        )

    def sums(self, u: Tensor, n_out: int) -> Tensor:
        """Sum of the inputs of every output."""
        ones = u.new_ones(self.matrices, self.channels, *self.window.kernel)
        convolve = _CONVOLUTIONS[len(self.window.kernel)]
        found = convolve(u, ones, stride=self.window.stride, dilation=self.window.dilation, groups=self.matrices)
        return found.repeat_interleave(n_out, dim=1)


Source = Vectors | Image
