"""Forward passes of converted networks on a GPU that wait for it once, at their end.

`convert` hooks `begin` and `end` to the network that it returns. In between, solved arrays do not look at what they
found; if a vector was too hard for the kernels, the pass is made again, from the same state of the network, with a look
in every layer.
"""

from __future__ import annotations

import math
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from . import gpu_layers, gpu_product
from .compiled import version
from .layers import ArrayLayer
from .mapping import TiledMatrix

_HANDLES = "_passes"
"""Attribute of a network that has its hooks."""
_OF_TORCH = frozenset(vars(nn.Module()))
"""Attributes that every module has."""
_PLAIN = (Tensor, int, float, complex, str, bytes, slice, type(None), torch.dtype, torch.device)
"""Inputs that a pass changes at most as tensors do; with others it waits in every layer."""
MANY = 1000
"""Entries of a container from which on it is a vocabulary or the like, in which no tensors are looked for."""
MOST_COPIED = 2**28
"""Bytes of inputs, and of what modules keep, from which on a pass waits in every layer: copies would cost more."""


def attach(net: nn.Module) -> None:
    """Let a network with solved arrays wait once a pass, in evaluation without gradients on a GPU."""
    if any(matrix._solved for matrix in _matrices(net)) and not hasattr(net, _HANDLES):
        handles = (
            net.register_forward_pre_hook(begin, with_kwargs=True),
            net.register_forward_hook(end, with_kwargs=True, always_call=True),
        )
        object.__setattr__(net, _HANDLES, handles)  # pickled with them, their numbers stay theirs


def detach(net: nn.Module) -> None:
    """Take the hooks of a network and its parts off again."""
    for module in net.modules():
        for handle in vars(module).pop(_HANDLES, ()):
            handle.remove()


def begin(net: nn.Module, args: Any, kwargs: Any) -> None:
    """Before a pass: its solves do not wait, unless it is a part of another one."""
    if torch.compiler.is_compiling() or torch.is_grad_enabled():
        return
    if not _on_gpu(net) or gpu_layers.current() is not None or not _repeatable(net, args, kwargs):
        return
    if torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing():  # into somebody's graph
        return
    before = State(net, (*args, *kwargs.values()), most=MOST_COPIED), Chance()
    if before[0].whole:
        gpu_layers.begin(gpu_layers.Pass(sys._getframe(1), before=before))


def end(net: nn.Module, args: Any, kwargs: Any, out: Any) -> Any:
    """After a pass: a look at what was found, and the pass once more where a vector was too hard."""
    if torch.compiler.is_compiling():
        return None
    now = gpu_layers.current()
    if now is None:
        gpu_layers.begin(None)  # an exception may have ended it
    if now is None or now.frame is not sys._getframe(1):
        return None
    gpu_layers.begin(None)
    return _again(now.before, net.forward, args, kwargs) if gpu_layers.any_hard(now.flags) else None


def once(net: nn.Module, args: Any, kwargs: Any, call: Callable[..., Any]) -> Any:
    """What a call of a network gives, waited for once, if it can be; see `crossbar.graphs.waiting_once`."""
    if gpu_layers.current() is not None or not _repeatable(net, args, kwargs):
        return call(*args, **kwargs)
    before = State(net, (*args, *kwargs.values()), most=MOST_COPIED), Chance()
    if not before[0].whole:
        return call(*args, **kwargs)
    with gpu_layers.deferred() as flags:
        out = call(*args, **kwargs)
    return _again(before, call, args, kwargs) if gpu_layers.any_hard(flags) else out


def _again(before: Iterable[Any], call: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    for part in before:
        part.restore()
    with gpu_layers.at_once():
        return call(*args, **kwargs)


def _matrices(net: nn.Module) -> Iterator[TiledMatrix]:
    return (module for module in net.modules() if isinstance(module, TiledMatrix))


def _on_gpu(net: nn.Module) -> bool:
    """Whether solved arrays of the network are on a GPU, by the first one."""
    for matrix in _matrices(net):
        if matrix.matrix is None:
            return gpu_layers.there(matrix.g)
    return False


def _repeatable(net: nn.Module, args: Any, kwargs: Any) -> bool:
    """Whether inputs are plain, nobody looks at layers, and no arrays are written on the way."""
    if not all(isinstance(a, _PLAIN) for a in tree_leaves((args, kwargs))):
        return False
    for module in net.modules():
        looking = [hook for hook in module._forward_pre_hooks.values() if hook is not begin]
        looking += [hook for hook in module._forward_hooks.values() if hook is not end and module is not net]
        if looking:
            return False
        if isinstance(module, ArrayLayer) and module.training:
            return False
        if isinstance(module, TiledMatrix) and (module.watching or module.probe is not None):
            return False
    return True


class State:
    """What a forward pass can change, as it is now.

    Reads of arrays are counted, and so noise is drawn; modules other than torch's may keep anything, as a network does
    that carries its state from call to call; batch norm in training keeps statistics. Of what is kept in objects other
    than tensors, lists, sets and dictionaries, only the names are known here.

    Args:
        net: The network.
        given: What it takes.
        most: Bytes of tensors beyond which none is copied; `whole` says whether they are.
    """

    def __init__(self, net: nn.Module, given: tuple[Any, ...] = (), *, most: float = math.inf) -> None:
        self._modules: list[tuple[nn.Module, dict[str, Any]]] = []
        self._reads: list[tuple[TiledMatrix, int, Tensor | None]] = []
        held = [*given]
        for module in net.modules():
            if isinstance(module, TiledMatrix):
                counter = gpu_product._READS.get(module)
                self._reads.append((module, module.reads, counter))
                held.append(counter)
            elif module.training or not type(module).__module__.startswith(("torch.nn.", "crossbar.")):
                own = {name: value for name, value in vars(module).items() if name not in _OF_TORCH}
                self._modules.append((module, own))
                held += [*own.values(), module._buffers]
        self._contents = [(a, a.copy()) for a in held if isinstance(a, dict | list | set | deque)]
        short = [a for a in held if not isinstance(a, dict | list | set | deque | tuple) or len(a) <= MANY]
        tensors = {id(a): a for a in tree_leaves(short) if isinstance(a, Tensor)}
        self.whole = sum(a.numel() * a.element_size() for a in tensors.values()) <= most
        self._tensors = [(a, version(a), a.clone()) for a in tensors.values() if self.whole]

    def restore(self) -> None:
        """Put back what Python and torch know to have changed."""
        for module, own in self._modules:
            for name in vars(module).keys() - _OF_TORCH - own.keys():
                del vars(module)[name]
            vars(module).update(own)
        for container, content in self._contents:
            container.clear()
            _ = container.extend(content) if isinstance(container, list | deque) else container.update(content)
        for matrix, reads, counter in self._reads:
            matrix.reads = reads
            if counter is None:
                gpu_product._READS.pop(matrix, None)
        for tensor, then, held in self._tensors:
            uncounted = tensor.is_inference() and torch.is_inference_mode_enabled()
            if uncounted or version(tensor) != then:
                tensor.copy_(held)

    def restore_tensors(self) -> None:
        """Put back what all tensors held, also those that the replay of a graph has changed."""
        for tensor, _, held in self._tensors:
            tensor.copy_(held)


class Chance:
    """The states of torch's generators, as they are now."""

    def __init__(self) -> None:
        self._host = torch.get_rng_state()
        self._devices = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []

    def restore(self) -> None:
        """Put them back."""
        torch.set_rng_state(self._host)
        torch.cuda.set_rng_state_all(self._devices)
