"""Network layers whose matrix products run on arrays: linear, convolutions, transposed convolutions, embeddings."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, Self

import torch
from torch import Tensor, nn

from devicelab import Lut
from devicelab.errors import ParameterError, ShapeError

from .compiled import version
from .config import Config
from .floorplan import Floorplan
from .mapping import TiledMatrix, Written
from .windows import Window


class Builder:
    """Makes the matrices of a network, numbered, and one only for weights that several layers share.

    Args:
        lut: The device.
        config: The arrays.
        first: Number of the first matrix, for its draws.
    """

    def __init__(self, lut: Lut | None, config: Config, first: int = 0) -> None:
        self.lut, self.config, self.first = lut, config, first
        self._made: dict[tuple[int, str], TiledMatrix] = {}
        self._floor = Floorplan(lut, config, first) if config.share_tiles == "layers" else None

    def __call__(self, weight: Tensor, owner: nn.Parameter, use: str) -> TiledMatrix:
        """The matrix of a weight.

        Args:
            weight: The matrix, as `TiledMatrix` takes it.
            owner: The parameter that it comes from.
            use: Says how it was made from the parameter; the same owner and use share one matrix.
        """
        key = id(owner), use
        if key not in self._made:
            stream = self.first + len(self._made)
            self._made[key] = TiledMatrix(weight, self.lut, self.config, stream=stream, floor=self._floor)
        return self._made[key]

    def finish(self) -> None:
        """Pack the matrices, where they share tiles; until then they cannot be read."""
        if self._floor is not None and self._made:
            self._floor.close()


class ArrayLayer(nn.Module):
    """What array layers share: the digital layer's parameters, matrices made from them, and the way back.

    In evaluation the arrays are what was written. In training every forward pass writes the present weights, and
    gradients reach them through the arrays; `eval()` then writes the arrays anew if weights have changed.

    Args:
        layer: The digital layer; its parameters are shared, not copied.
        build: Makes matrices.
    """

    def __init__(self, layer: nn.Module, build: Builder) -> None:
        super().__init__()
        self.training = False
        self._digital = (layer,)  # in a tuple, so that it is not one of this module's own layers
        self._versions: tuple[int, ...] = ()
        for name, parameter in layer._parameters.items():
            self.register_parameter(name, parameter)
        for name, (weight, owner) in self.weights().items():
            setattr(self, name, build(weight, owner, f"{self.use()} {name}"))
        self._remember()
        self.register_load_state_dict_post_hook(_after_loading)  # type: ignore[no-untyped-call]

    def use(self) -> str:
        """How this layer uses its weights; layers with shared weights share arrays if they say the same."""
        return type(self).__name__

    def weights(self) -> dict[str, tuple[Tensor, nn.Parameter]]:
        """Matrices by attribute, and the parameter that each comes from."""
        raise NotImplementedError

    @property
    def digital(self) -> nn.Module:
        """The layer in floating point, with the present weights."""
        return self._digital[0]

    def matrices(self) -> Iterator[tuple[str, TiledMatrix]]:
        """Names and matrices."""
        for name in self.weights():
            yield name, getattr(self, name)

    @property
    def input_range(self) -> Tensor:
        """Largest input of the (first) matrix; 0: every vector is scaled on its own."""
        found: Tensor = next(self.matrices())[1].input_range
        return found

    def program(self) -> None:
        """Write the arrays anew with the present weights."""
        for name, (weight, _) in self.weights().items():
            getattr(self, name).program(weight)
        self._remember()

    def written(self) -> dict[str, Written | None]:
        """What the products run on: freshly written weights in training, else what the arrays hold."""
        weights = self.weights()
        if not self.training:
            return dict.fromkeys(weights)
        return {name: getattr(self, name).live(weight) for name, (weight, _) in weights.items()}

    def train(self, mode: bool = True) -> Self:
        """As for every module; back in evaluation, changed weights are written."""
        back = self.training and not mode
        super().train(mode)
        if back and self._versions != self._now():
            self.program()
        return self

    def _now(self) -> tuple[int, ...]:
        return tuple(version(owner) for _, owner in self.weights().values())

    def _remember(self) -> None:
        self._versions = self._now()


def _after_loading(layer: ArrayLayer, _: Any) -> None:
    """Weights without what was written of them, from a digital network, are written."""
    if all(matrix.loaded for _, matrix in layer.matrices()):
        layer._remember()
    elif layer._versions != layer._now():
        layer.program()


class ArrayLinear(ArrayLayer):
    """`torch.nn.Linear` on arrays."""

    weight: nn.Parameter
    bias: nn.Parameter | None
    matrix: TiledMatrix

    def weights(self) -> dict[str, tuple[Tensor, nn.Parameter]]:
        """The matrix."""
        return {"matrix": (self.weight, self.weight)}

    def forward(self, x: Tensor) -> Tensor:
        """As `torch.nn.Linear`, [..., n_in] to [..., n_out]."""
        out: Tensor = self.matrix(x, self.written()["matrix"])
        return out if self.bias is None else out + self.bias


class ArrayConv(ArrayLayer):
    """`torch.nn.Conv1d`, `Conv2d` or `Conv3d` on arrays: every window is one input vector.

    Each group is a matrix of its own; with `share_tiles="groups"`, as many as fit lie in one tile, on rows and columns
    of their own.
    """

    weight: nn.Parameter
    bias: nn.Parameter | None
    matrix: TiledMatrix

    def __init__(self, layer: Any, build: Builder) -> None:
        if build.config.share_tiles in (True, "groups") and layer.groups > 1:
            n_out, n_in = layer.out_channels // layer.groups, layer.weight[0].numel()
            per_tile = build.config.columns // (2 if build.config.scheme == "two columns" else 1)
            most = max(1, min(build.config.rows // n_in, per_tile // n_out))
            together = max(p for p in range(1, most + 1) if layer.groups % p == 0)
        else:
            together = 1
        self._geometry = layer.groups, together
        super().__init__(layer, build)
        self.window = Window(layer.kernel_size, layer.stride, layer.dilation)
        self.pads = layer._reversed_padding_repeated_twice
        self.mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode

    def use(self) -> str:
        """Convolutions with other groups make other matrices of a weight."""
        return f"{super().use()} {self._geometry}"

    def weights(self) -> dict[str, tuple[Tensor, nn.Parameter]]:
        """A matrix for every group, or for those that share a tile."""
        groups, together = self._geometry
        w = self.weight.reshape(groups, self.weight.shape[0] // groups, -1)
        if together > 1:
            parts = w.unflatten(0, (-1, together))  # [groups apart, together, n_out, n_in]
            eye = torch.eye(together, dtype=w.dtype, device=w.device)
            w = torch.einsum("aton,ts->atosn", parts, eye).flatten(3).flatten(1, 2)
        return {"matrix": (w, self.weight)}

    def forward(self, x: Tensor) -> Tensor:
        """As the convolution, [b, channels, *spatial] or [channels, *spatial]."""
        single = x.dim() == len(self.window.kernel) + 1
        x = x.unsqueeze(0) if single else x
        if any(self.pads):
            x = nn.functional.pad(x, self.pads, mode=self.mode)
        out = self.matrix.windowed(x, self.window, self.written()["matrix"])
        out = out if self.bias is None else out + self.bias.view(-1, *(1,) * len(self.window.kernel))
        return out.squeeze(0) if single else out


ArrayConv2d = ArrayConv
"""The name for one kind."""

_OVERLAPS: dict[int, Callable[..., Tensor]] = {
    1: nn.functional.conv_transpose1d,
    2: nn.functional.conv_transpose2d,
    3: nn.functional.conv_transpose3d,
}


class ArrayConvTranspose(ArrayLayer):
    """`torch.nn.ConvTranspose1d`, `2d` or `3d` on arrays.

    Every input position is one input vector of channels; its product with the whole kernel is added digitally to the
    outputs that it overlaps.
    """

    weight: nn.Parameter
    bias: nn.Parameter | None
    matrix: TiledMatrix

    def __init__(self, layer: Any, build: Builder) -> None:
        self._groups = layer.groups
        super().__init__(layer, build)
        one = (1,) * len(layer.kernel_size)
        self.window = Window(one, one, one)
        self.geometry = {name: getattr(layer, name) for name in ("stride", "padding", "dilation")}
        taps = math.prod(layer.kernel_size)
        spread = torch.eye(taps, dtype=layer.weight.dtype).view(taps, 1, *layer.kernel_size)
        self.register_buffer("spread", spread.to(layer.weight.device), persistent=False)

    spread: Tensor

    def use(self) -> str:
        """Convolutions with other groups make other matrices of a weight."""
        return f"{super().use()} {self._groups}"

    def weights(self) -> dict[str, tuple[Tensor, nn.Parameter]]:
        """A matrix from channels to channels times taps for every group."""
        w = self.weight.unflatten(0, (self._groups, -1))  # [groups, n_in, n_out, *kernel]
        return {"matrix": (w.flatten(2).mT, self.weight)}

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """As the transposed convolution, [b, channels, *spatial] or [channels, *spatial]."""
        layer: Any = self.digital
        dims = len(self.window.kernel)
        single = x.dim() == dims + 1
        x = x.unsqueeze(0) if single else x
        extra = layer._output_padding(
            x, output_size, layer.stride, layer.padding, layer.kernel_size, dims, layer.dilation
        )
        taps = self.matrix.windowed(x, self.window, self.written()["matrix"])
        n_out = taps.shape[1] // len(self.spread)
        kernel = self.spread.repeat(n_out, *(1,) * (dims + 1)).to(taps.dtype)
        with torch.autocast(taps.device.type, enabled=False):  # what the arrays gave is not rounded to be added
            out = _OVERLAPS[dims](taps, kernel, self.bias, output_padding=extra, groups=n_out, **self.geometry)
        return out.squeeze(0) if single else out


class ArrayEmbedding(ArrayLayer):
    """`torch.nn.Embedding` on arrays: a word's vector is what the columns carry when its word line alone is driven."""

    weight: nn.Parameter
    matrix: TiledMatrix

    def __init__(self, layer: nn.Embedding, build: Builder) -> None:
        if layer.max_norm is not None:
            raise ParameterError("an embedding that renormalises its weights cannot stay on arrays", got=layer)
        super().__init__(layer, build)

    def weights(self) -> dict[str, tuple[Tensor, nn.Parameter]]:
        """The matrix from words to vectors."""
        return {"matrix": (self.weight.T, self.weight)}

    def forward(self, index: Tensor) -> Tensor:
        """As `torch.nn.Embedding`, [...] to [..., n_out]."""
        return self.matrix.rows(index, self.written()["matrix"])


class ArrayEmbeddingBag(ArrayLayer):
    """`torch.nn.EmbeddingBag` on arrays.

    Sums and means are one read a bag: the word lines of its words are driven at once, each in proportion to its weight,
    and the columns add up the vectors. For "max" every word is read on its own.
    """

    weight: nn.Parameter
    matrix: TiledMatrix

    def __init__(self, layer: nn.EmbeddingBag, build: Builder) -> None:
        if layer.max_norm is not None:
            raise ParameterError("an embedding that renormalises its weights cannot stay on arrays", got=layer)
        super().__init__(layer, build)
        self.mode, self.padding_idx, self.include_last = layer.mode, layer.padding_idx, layer.include_last_offset

    def weights(self) -> dict[str, tuple[Tensor, nn.Parameter]]:
        """The matrix from words to vectors."""
        return {"matrix": (self.weight.T, self.weight)}

    def forward(self, index: Tensor, offsets: Tensor | None = None, per_sample_weights: Tensor | None = None) -> Tensor:
        """As `torch.nn.EmbeddingBag`: bags [b, words], or all words in a row with the place where each bag begins."""
        if (index.dim() == 2) != (offsets is None):
            shape = tuple(index.shape)
            raise ShapeError("bags are rows, or begin at offsets", got=shape, allowed="[b, n], or [n] and [b]")
        if per_sample_weights is not None and (self.mode != "sum" or per_sample_weights.shape != index.shape):
            raise ShapeError(
                "weights of words do not fit", got=(self.mode, tuple(per_sample_weights.shape)),
                allowed=f"mode sum, {tuple(index.shape)}",
            )  # fmt: skip
        place = torch.arange(index.numel(), device=index.device)
        if offsets is None:
            bags, bag = len(index), place // max(1, index.shape[1])
        else:
            starts = (offsets[:-1] if self.include_last else offsets).contiguous()
            bags, bag = len(starts), torch.searchsorted(starts, place, right=True) - 1
        word = index.flatten().long()
        counts = (word != self.padding_idx) if self.padding_idx is not None else torch.ones_like(word, dtype=torch.bool)
        if self.mode == "max":
            return self._largest(word, bag, bags, counts)
        weight = counts.to(self.weight.dtype)
        weight = weight if per_sample_weights is None else weight * per_sample_weights.flatten()
        written, n_words = self.written()["matrix"], len(self.weight)
        at_once = max(1, int(self.matrix.config.budget // (8 * n_words)))
        parts = []
        for first in range(0, bags, at_once):
            count = min(at_once, bags - first)
            here = torch.where((bag >= first) & (bag < first + count), bag - first, count)  # others beyond the last
            driven = weight.new_zeros(count + 1, n_words).index_put((here, word), weight, accumulate=True)[:count]
            parts.append(self.matrix(driven, written))
        out = torch.cat(parts) if parts else weight.new_zeros(0, self.weight.shape[1])
        if self.mode == "mean":
            out = out / weight.new_zeros(bags).index_add(0, bag, counts.to(weight)).clamp_min(1).unsqueeze(1)
        return out

    def _largest(self, word: Tensor, bag: Tensor, bags: int, counts: Tensor) -> Tensor:
        """The largest element of the vectors of each bag; 0 for an empty one."""
        vectors = self.matrix.rows(word, self.written()["matrix"])
        vectors = vectors.masked_fill(~counts.unsqueeze(1), -math.inf)
        none = vectors.new_full((bags, vectors.shape[1]), -math.inf)
        largest = none.scatter_reduce(0, bag.unsqueeze(1).expand_as(vectors), vectors, "amax")
        return largest.masked_fill(largest == -math.inf, 0.0)


class ArrayBilinear(ArrayLayer):
    """`torch.nn.Bilinear` on arrays: a matrix for each output multiplies the second input; the first one, digitally."""

    weight: nn.Parameter
    bias: nn.Parameter | None
    matrix: TiledMatrix

    def weights(self) -> dict[str, tuple[Tensor, nn.Parameter]]:
        """The matrices of all outputs below each other, [n_out n_1, n_2]."""
        return {"matrix": (self.weight.flatten(0, 1), self.weight)}

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        """As `torch.nn.Bilinear`, [..., n_1] and [..., n_2] to [..., n_out]."""
        rows = self.matrix(x2, self.written()["matrix"]).unflatten(-1, self.weight.shape[:2])
        out: Tensor = (rows * x1.unsqueeze(-2)).sum(-1)
        return out if self.bias is None else out + self.bias
