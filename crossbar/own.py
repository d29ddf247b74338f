"""A user's own network: an exported program, or a factory with weights. Says what it executes, and asks first."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.fx
from torch import nn

from devicelab.errors import FileFormatError, ParameterError

_LINEAR = ("aten.linear.default",)
_CONVOLUTIONS: dict[str, type[nn.Module]] = {
    "aten.conv1d.default": nn.Conv1d,
    "aten.conv2d.default": nn.Conv2d,
    "aten.conv3d.default": nn.Conv3d,
}
TRUST = "run code of yours: the factory is imported and called, which can do anything you can do"


def from_factory(
    name: str, weights: str | Path | None = None, *, trust: bool = False, say: Callable[[str], None] = lambda line: None
) -> nn.Module:
    """A network made by a function of the user's, with weights from a file.

    The weights are read as tensors only (`torch.load(weights_only=True)`): that file cannot run code. The factory is
    code: it is imported and called only with `trust`.

    Args:
        name: ``module:function``; the function takes no argument and returns a `torch.nn.Module`.
        weights: A state dict, or a TorchScript file whose state dict is taken.
        trust: Whether the factory may run.
        say: Called with what is executed.

    Raises:
        ParameterError: If the factory is not trusted, not found, or makes no network; or the weights do not fit it.
        FileFormatError: If the weights cannot be read.
    """
    module_name, colon, function_name = name.partition(":")
    if not colon or not module_name or not function_name:
        raise ParameterError("a factory is named module:function", got=name, allowed="for instance models:make_net")
    if not trust:
        raise ParameterError(
            "this would run code", got=f"import {module_name}, {function_name}()", hint="give --trust if it is yours"
        )
    if "" not in sys.path:
        sys.path.insert(0, "")  # a module beside the user, as `python -m` would find it
    try:
        module = importlib.import_module(module_name)
        function = getattr(module, function_name)
    except (ImportError, AttributeError) as error:
        raise ParameterError("factory not found", got=f"{name}: {error}", allowed="an importable function") from error
    say(f"running {function_name}() of {getattr(module, '__file__', module_name)}")
    net = function()
    if not isinstance(net, nn.Module):
        raise ParameterError("the factory made no network", got=type(net).__name__, allowed="torch.nn.Module")
    if weights is not None:
        load_weights(net, weights)
    return net.eval()


def load_weights(net: nn.Module, path: str | Path) -> None:
    """Put the tensors of a file into a network; the file cannot run code.

    Raises:
        FileFormatError: If there are no tensors in the file, or more than tensors.
        ParameterError: If they do not fit.
    """
    state = _state(Path(path))
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        raise ParameterError("weights do not fit the network", got=f"{path}: {error}") from error


def _state(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileFormatError("file of weights not found", got=str(path))
    try:
        with warnings.catch_warnings(action="ignore"):  # that it looks like TorchScript
            found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        try:
            with warnings.catch_warnings(action="ignore"):  # that TorchScript is deprecated
                found = torch.jit.load(str(path), map_location="cpu").state_dict()
        except (RuntimeError, ValueError, OSError):
            raise FileFormatError(
                "weights cannot be read safely",
                got=f"{path}: {str(error).splitlines()[0] if str(error) else type(error).__name__}",
                allowed="a state dict, torch.save(net.state_dict(), FILE), or TorchScript",
                hint="whole pickled networks run code when they are read, so they are not",
            ) from error
    if isinstance(found, dict) and isinstance(found.get("state_dict"), dict):
        found = found["state_dict"]
    if not isinstance(found, dict) or not all(isinstance(v, torch.Tensor) for v in found.values()):
        raise FileFormatError("not a state dict", got=f"{path}: {type(found).__name__}", allowed="names to tensors")
    return found


def from_program(path: str | Path) -> nn.Module:
    """A network from an exported program (``torch.export.save``, `.pt2`); no code of the file is run.

    An exported program calls functions on weights; those that arrays can compute, linear layers and convolutions,
    become modules again so that `convert` finds them.

    Raises:
        FileFormatError: If the file is not an exported program.
    """
    if not Path(path).is_file():
        raise FileFormatError("file of the network not found", got=str(path))
    try:
        with warnings.catch_warnings(action="ignore", category=FutureWarning):  # torch's, of itself
            graph = torch.export.load(str(path)).module()
    except Exception as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FileFormatError(
            "not an exported program", got=f"{path}: {first}", hint="torch.export.save(torch.export.export(net, ...))"
        ) from error
    return with_modules(graph)


def with_modules(graph: Any) -> nn.Module:
    """An exported graph in which linear layers and convolutions are modules again."""
    made: dict[tuple[Any, ...], str] = {}
    for node in list(graph.graph.nodes):
        kind = str(node.target)
        if node.op != "call_function" or not (kind in _LINEAR or kind in _CONVOLUTIONS):
            continue
        inputs, weight, *rest = node.args
        bias = rest[0] if rest else node.kwargs.get("bias")
        if weight.op != "get_attr" or (bias is not None and bias.op != "get_attr"):
            continue  # computed weights stay digital
        key = (kind, weight.target, getattr(bias, "target", None), str(rest[1:]))
        if key not in made:
            made[key] = f"on_array_{len(made)}_{str(weight.target).replace('.', '_')}"
            graph.add_module(made[key], _module(graph, kind, weight.target, getattr(bias, "target", None), rest[1:]))
        with graph.graph.inserting_after(node):
            call = graph.graph.call_module(made[key], (inputs,))
        node.replace_all_uses_with(call)
        graph.graph.erase_node(node)
    graph.graph.eliminate_dead_code()
    return torch.fx.GraphModule(graph, graph.graph)  # a plain one, which knows eval() and can be copied


def _tensor(graph: Any, target: str) -> torch.Tensor:
    value = graph
    for part in target.split("."):
        value = getattr(value, part)
    return value.detach()  # type: ignore[no-any-return]


def _module(graph: Any, kind: str, weight_name: str, bias_name: str | None, rest: list[Any]) -> nn.Module:
    weight = _tensor(graph, weight_name)
    bias = None if bias_name is None else _tensor(graph, bias_name)
    if kind in _LINEAR:
        layer: nn.Module = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    else:
        dims = weight.ndim - 2
        given = [*rest, *([1], [0], [1], 1)[len(rest) :]]
        groups = int(given[3])
        stride, padding, dilation = (tuple(v) * (dims // len(v)) for v in given[:3])
        layer = _CONVOLUTIONS[kind](
            weight.shape[1] * groups, weight.shape[0], tuple(weight.shape[2:]),
            stride=stride, padding=padding, dilation=dilation, groups=groups, bias=bias is not None,
        )  # fmt: skip
    layer.to(weight.dtype)
    layer.load_state_dict({"weight": weight} | ({} if bias is None else {"bias": bias}))
    return layer.eval()
