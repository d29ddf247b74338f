"""Recurrent layers and their cells on arrays: products of inputs and of hidden states run there, gates digitally."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from .layers import ArrayLayer, Builder
from .mapping import Written

State = tuple[Tensor, ...]
Step = Callable[[Tensor, Tensor, State], State]


def _plain(nonlinearity: str) -> Step:
    act = torch.tanh if nonlinearity == "tanh" else torch.relu
    return lambda gi, gh, state: (act(gi + gh),)


def _lstm(gi: Tensor, gh: Tensor, state: State) -> State:
    i, f, g, o = (gi + gh).chunk(4, dim=-1)
    c = torch.sigmoid(f) * state[1] + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def _gru(gi: Tensor, gh: Tensor, state: State) -> State:
    (ri, zi, ni), (rh, zh, nh) = gi.chunk(3, dim=-1), gh.chunk(3, dim=-1)
    r, z = torch.sigmoid(ri + rh), torch.sigmoid(zi + zh)
    n = torch.tanh(ni + r * nh)
    return (n + z * (state[0] - n),)


class _Recurrent(ArrayLayer):
    """What cells and layers share: the gates, and the products with their biases.

    Settings are copied from the digital layer, for torch.compile does not look into recurrent ones.
    """

    def __init__(self, layer: Any, build: Builder) -> None:
        self._kind = type(layer).__name__.removesuffix("Cell")
        self._nonlinearity = str(getattr(layer, "nonlinearity", "tanh"))
        super().__init__(layer, build)

    def step(self) -> Step:
        """The gates: new states from the two products and the old states, hidden first."""
        return {"LSTM": _lstm, "GRU": _gru}.get(self._kind) or _plain(self._nonlinearity)

    @property
    def carries_cell(self) -> bool:
        """Whether the state has two parts."""
        return self._kind == "LSTM"

    def times(self, name: str, x: Tensor, written: dict[str, Written | None], bias: Tensor | None) -> Tensor:
        """A product with its bias."""
        out: Tensor = getattr(self, name)(x, written[name])
        return out if bias is None else out + bias


class ArrayRNNCell(_Recurrent):
    """`torch.nn.RNNCell`, `LSTMCell` or `GRUCell` on arrays."""

    weight_ih: nn.Parameter
    weight_hh: nn.Parameter
    bias_ih: nn.Parameter | None
    bias_hh: nn.Parameter | None

    def weights(self) -> dict[str, tuple[Tensor, nn.Parameter]]:
        """The matrices of inputs and of hidden states."""
        return {"ih": (self.weight_ih, self.weight_ih), "hh": (self.weight_hh, self.weight_hh)}

    def forward(self, x: Tensor, state: Any = None) -> Any:
        """As the cell: [b, n_in] or [n_in], and a hidden state, or a pair of states for an LSTM."""
        single = x.dim() == 1
        x = x.unsqueeze(0) if single else x
        if state is None:
            zeros = x.new_zeros(len(x), self.weight_hh.shape[1], dtype=self.weight_hh.dtype)
            states: State = (zeros, zeros) if self.carries_cell else (zeros,)
        else:
            states = tuple(state) if self.carries_cell else (state,)
            states = tuple(s.unsqueeze(0) for s in states) if single else states
        written = self.written()
        gi = self.times("ih", x, written, self.bias_ih)
        new = self.step()(gi, self.times("hh", states[0], written, self.bias_hh), states)
        new = tuple(s.squeeze(0) for s in new) if single else new
        return new if self.carries_cell else new[0]


class ArrayRNN(_Recurrent):
    """`torch.nn.RNN`, `LSTM` or `GRU` on arrays, with any number of layers and directions, and projections."""

    def __init__(self, layer: nn.RNNBase, build: Builder) -> None:
        self._suffixes = [
            f"l{k}{reverse}" for k in range(layer.num_layers) for reverse in ("", "_reverse")[: 1 + layer.bidirectional]
        ]
        self._parts = ("ih", "hh", "hr") if layer.proj_size else ("ih", "hh")
        self.batch_first, self.dropout = layer.batch_first, layer.dropout
        self.directions, self.num_layers = 1 + layer.bidirectional, layer.num_layers
        self._sizes = layer.proj_size or layer.hidden_size, layer.hidden_size
        super().__init__(layer, build)

    def weights(self) -> dict[str, tuple[Tensor, nn.Parameter]]:
        """The matrices of every layer and direction: of inputs, hidden states, and projections."""
        names = [f"{part}_{suffix}" for suffix in self._suffixes for part in self._parts]
        return {name: (getattr(self, f"weight_{name}"),) * 2 for name in names}

    def forward(self, x: Any, state: Any = None) -> tuple[Any, Any]:
        """As the layer: a padded or packed sequence, and a state or none."""
        lengths, order, packed = None, None, isinstance(x, PackedSequence)
        single = not packed and x.dim() == 2
        if packed:
            order = x.sorted_indices, x.unsorted_indices
            x, lengths = pad_packed_sequence(PackedSequence(x.data, x.batch_sizes))
        elif single:
            x = x.unsqueeze(1)
        elif self.batch_first:
            x = x.transpose(0, 1)
        begin = self._begin(x, state, single, None if order is None else order[0])
        out: Any
        out, ends = self._layers(x, begin, lengths)
        last: Any = tuple(torch.stack(parts) for parts in zip(*ends, strict=True))
        if lengths is not None:
            back = pack_padded_sequence(out, lengths)
            out = PackedSequence(back.data, back.batch_sizes, *(order or ()))
            if order is not None and order[1] is not None:
                last = tuple(part[:, order[1]] for part in last)
        elif single:
            out, last = out.squeeze(1), tuple(part.squeeze(1) for part in last)
        elif self.batch_first:
            out = out.transpose(0, 1)
        return out, last if self.carries_cell else last[0]

    def _begin(self, x: Tensor, state: Any, single: bool, order: Tensor | None) -> list[State]:
        """States of every layer and direction before the first step."""
        sizes = self._sizes[: 1 + self.carries_cell]
        if state is None:
            parts = [x.new_zeros(len(self._suffixes), x.shape[1], size, dtype=self._type) for size in sizes]
        else:
            parts = list(state) if self.carries_cell else [state]
            parts = [part.unsqueeze(1) for part in parts] if single else parts
            parts = parts if order is None else [part[:, order] for part in parts]
        return list(zip(*(part.unbind(0) for part in parts), strict=True))

    @property
    def _type(self) -> torch.dtype:
        kind: torch.dtype = next(self.matrices())[1].g.dtype
        return kind

    def _layers(self, x: Tensor, begin: list[State], lengths: Tensor | None) -> tuple[Tensor, list[State]]:
        directions, written, ends = self.directions, self.written(), []
        on = None
        if lengths is not None:  # sent before anything is computed, and not waited for
            on = (
                (torch.arange(len(x), device="cpu").unsqueeze(1) < lengths)
                .to(x.device, non_blocking=True)
                .unsqueeze(-1)
            )
        for k in range(self.num_layers):
            outs = []
            for d in range(directions):
                index = k * directions + d
                out, end = self._run(self._suffixes[index], x, begin[index], on, written, backwards=d == 1)
                outs.append(out)
                ends.append(end)
            x = torch.cat(outs, dim=-1)
            if self.dropout and k < self.num_layers - 1:
                x = nn.functional.dropout(x, self.dropout, self.training)
        return x, ends

    def _run(
        self,
        suffix: str,
        x: Tensor,
        state: State,
        on: Tensor | None,
        written: dict[str, Written | None],
        *,
        backwards: bool,
    ) -> tuple[Tensor, State]:
        """One layer in one direction over [t, b, n_in]: outputs and the last states; `on` where sequences last."""
        biases = [getattr(self, f"bias_{part}_{suffix}", None) for part in ("ih", "hh")]
        gates, step = self.times(f"ih_{suffix}", x, written, biases[0]), self.step()
        out: list[Tensor] = []
        for t in reversed(range(len(x))) if backwards else range(len(x)):
            new = step(gates[t], self.times(f"hh_{suffix}", state[0], written, biases[1]), state)
            if f"hr_{suffix}" in written:
                new = self.times(f"hr_{suffix}", new[0], written, None), *new[1:]
            if on is not None:  # sequences that have ended keep their state
                new = tuple(torch.where(on[t], a, b) for a, b in zip(new, state, strict=True))
            state = new
            out.append(state[0])
        return torch.stack(out[::-1] if backwards else out), state
