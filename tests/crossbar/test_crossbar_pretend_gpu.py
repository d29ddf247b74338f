"""The pretended GPU refuses what CUDA refuses, waits where CUDA waits, and otherwise gives what the CPU gives."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from pretend_gpu import Gpu, missing, pretended
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, or one is pretended already")
MIXED = "same device"


@pytest.fixture
def gpu() -> Iterator[Gpu]:
    if (why := missing()) is not None:
        pytest.skip(why)
    with pretended() as there:
        yield there


A, HERE = torch.arange(12.0).view(3, 4), torch.device("cuda", 0)

REFUSED: dict[str, tuple[Callable[[Tensor, Tensor], Any], type[Exception], str]] = {
    "sum": (lambda there, here: there + here, RuntimeError, MIXED),
    "product": (lambda there, here: there @ here.T, RuntimeError, MIXED),
    "join": (lambda there, here: torch.cat([there, here]), RuntimeError, MIXED),
    "numbers joined": (lambda there, here: torch.stack([there.sum(), here.sum()]), RuntimeError, MIXED),
    "in place": (lambda there, here: there.add_(here), RuntimeError, MIXED),
    "in place on the host": (lambda there, here: here.sum().add_(there.sum()), RuntimeError, MIXED),
    "lookup": (lambda there, here: nn.functional.embedding(here.long()[0], there), RuntimeError, MIXED),
    "search": (lambda there, here: torch.searchsorted(there[0], here), RuntimeError, MIXED),
    "mask": (lambda there, here: there.masked_fill(here > 0, 1.0), RuntimeError, MIXED),
    "selected": (lambda there, here: there.index_select(0, here.long()[0, :1]), RuntimeError, MIXED),
    "host indexed from the device": (lambda there, here: here[there[0, :1].long()], RuntimeError, "indices"),
    "numpy": (lambda there, here: there.numpy(), TypeError, "convert cuda"),
    "numpy by itself": (lambda there, here: np.asarray(there), TypeError, "convert cuda"),
    "generator": (
        lambda there, here: there.clone().normal_(generator=torch.Generator()), RuntimeError, "generator",
    ),
    "kernel for CPUs": (lambda there, here: torch.ops.devicelab.powers(there[0], there), TypeError, "memory"),
}  # fmt: skip


@pytest.mark.parametrize(("what", "error", "says"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(what: Callable[[Tensor, Tensor], Any], error: type[Exception], says: str, gpu: Gpu) -> None:
    import crossbar.compiled

    assert crossbar.compiled  # registers operators
    with pytest.raises(error, match=says):
        what(A.cuda(), A)


TAKEN: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "number in a tensor": lambda there, here: there * here.sum(),
    "number chosen": lambda there, here: torch.where(there > 5, there, here.sum()),
    "number put": lambda there, here: there.clone().index_put_((here[0].long()[:2],), here.sum()),
    "index": lambda there, here: there[here[0, :2].long()],
    "copy": lambda there, here: there.clone().copy_(here),
    "view changed": lambda there, here: [b := there.clone(), b[1].mul_(2)][0],
    "shape changed": lambda there, here: there.clone().unsqueeze_(0).squeeze_(0).t_(),
    "convolution": lambda there, here: nn.functional.conv1d(there[None, :1], there[:1, None, :2]),
    "quantile": lambda there, here: there.quantile(0.3),
    "solve": lambda there, here: torch.linalg.solve(there[:, :3] + torch.eye(3, device=there.device), there[:, :1]),
}


@pytest.mark.parametrize("what", TAKEN.values(), ids=TAKEN.keys())
def test_taken(what: Callable[[Tensor, Tensor], Tensor], gpu: Gpu) -> None:
    found = what(A.cuda(), A)
    assert found.device == HERE
    assert torch.equal(found.cpu(), what(A, A))


WAITS: dict[str, tuple[Callable[[Tensor], Any], int]] = {
    "sum": (lambda a: a.sum(), 0),
    "number": (lambda a: a.sum().item(), 1),
    "truth": (lambda a: bool((a > 0).any()), 1),
    "list": (lambda a: a.tolist(), 1),
    "host": (lambda a: a.cpu(), 1),
    "nonzero": (lambda a: a.nonzero(), 1),
    "mask": (lambda a: a[a > 3], 1),
    "masked number": (lambda a: a.__setitem__(a > 3, 1.0), 0),
    "solve": (lambda a: torch.linalg.inv(a[:3, :3] + torch.eye(3, device=a.device)), 1),
}


@pytest.mark.parametrize(("what", "count"), WAITS.values(), ids=WAITS.keys())
def test_waiting(what: Callable[[Tensor], Any], count: int, gpu: Gpu) -> None:
    a = A.cuda()
    gpu.waits.clear()
    what(a)
    assert gpu.waits.total() == count
    torch.cuda.set_sync_debug_mode("error")
    if count:
        with pytest.raises(RuntimeError, match="synchronizing"):
            what(a)


def test_sending(gpu: Gpu) -> None:
    A.to(HERE)
    torch.empty_like(A, device=HERE).copy_(A)
    assert gpu.sent.total() == 2
    A.to(HERE, non_blocking=True)
    torch.empty_like(A, device=HERE).copy_(A, non_blocking=True)
    assert gpu.sent.total() == 2


def test_a_graph_does_the_same_in_the_same_memory(gpu: Gpu) -> None:
    a, total = A.cuda(), torch.zeros(4, device="cuda")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = (a[1] + 1).square()
        total += out
    a.copy_(2 * A)
    graph.replay()
    assert torch.equal(out.cpu(), (2 * A[1] + 1).square())
    assert torch.equal(total.cpu(), (A[1] + 1).square() + (2 * A[1] + 1).square())
    for what in (lambda: a.sum().item(), lambda: A.to(HERE, non_blocking=True)):
        with pytest.raises(RuntimeError, match="synchronizing"), torch.cuda.graph(graph):
            what()


def test_networks_move_train_and_are_copied(gpu: Gpu) -> None:
    torch.manual_seed(0)
    net, x = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2)), torch.randn(7, 4)
    weight, expected = net[0].weight, copy.deepcopy(net)
    expected(x).square().sum().backward()
    net.cuda()
    assert net[0].weight is weight  # as where parameters take other data
    net(x.cuda()).square().sum().backward()
    for a, b in zip(net.parameters(), expected.parameters(), strict=True):
        assert a.device == a.grad.device == HERE  # type: ignore[union-attr]
        torch.testing.assert_close(a.grad.cpu(), b.grad)  # type: ignore[union-attr]
    torch.optim.Adam(net.parameters()).step()
    other = copy.deepcopy(net)
    other.load_state_dict(net.cpu().state_dict())
    assert other[0].weight.device == HERE
    assert torch.equal(other.cpu()[0].weight, net[0].weight)
    file = io.BytesIO()
    torch.save(net.cuda().state_dict(), file)
    file.seek(0)
    assert torch.load(file, weights_only=False)["0.weight"].device == HERE


@pytest.mark.parametrize("layer", [nn.LSTM(4, 3, 2), nn.GRU(4, 3, bidirectional=True)], ids=["lstm", "gru"])
def test_recurrent_layers(layer: nn.Module, gpu: Gpu) -> None:
    x, lengths = torch.randn(5, 2, 4), torch.tensor([5, 3])
    with torch.no_grad():
        expected = pad_packed_sequence(layer(pack_padded_sequence(x, lengths))[0])[0]
        there = copy.deepcopy(layer).cuda()
        found = pad_packed_sequence(there(pack_padded_sequence(x.cuda(), lengths))[0])[0]
    torch.testing.assert_close(found.cpu(), expected)


def test_its_tensors_are_of_no_use_without_it(gpu: Gpu) -> None:
    assert torch.cuda.is_available()
    a = A.cuda()
    gpu.__exit__(None, None, None)
    try:
        with pytest.raises(RuntimeError, match="not there any more"):
            a + a
    finally:
        gpu.__enter__()
