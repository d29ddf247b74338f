"""Converted networks wait for a GPU once a pass, and a pass that is made again leaves no trace.

What solves arrays in place of the GPU's kernels is the engine on the CPU, with a mark on its numbers;
`test_crossbar_graphs` has a pass by the kernels themselves.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves

from crossbar import (
    Config,
    LutCells,
    TiledMatrix,
    Wires,
    convert,
    engine,
    expansion,
    gpu,
    gpu_expansion,
    gpu_layers,
    passes,
    revert,
)
from crossbar.calibrate import calibrate, reestimate_batch_norm
from crossbar.graphs import waiting_once
from devicelab import Lut, parameter_set
from devicelab.errors import LutError

LUT = Lut.from_model(parameter_set("vteam_pt_hf_ti"), 0.6, tolerance=1e-3)
MARK = 1e-6
"""Relative difference of the kernels' numbers from those of the engine."""
SOLVED = Config(rows=8, columns=8, wires=Wires(1.0, 1.0, 1.0, 1.0), rtol=1e-5)
NOISY = SOLVED.but(devices__read_noise=0.05)


class Kernels:
    """Stands for arrays packed for the GPU's kernels, which give up where a word line has more than `above` volts."""

    above = torch.inf
    given_up = 0
    hopeless = True  # care on the device does not help either

    class flip:
        """Lines as they are."""

        @staticmethod
        def columns(a: Tensor, axis: int) -> Tensor:
            return a

    def __init__(self, chip: TiledMatrix, cells: LutCells) -> None:
        self.chip, self.cells, self.tiles = chip, cells, cells.shape[:-2]

    def run(self, v: Tensor, ground: None, *, voltages: bool, careful: bool) -> tuple[Tensor, ...]:
        assert not voltages
        c = self.chip.config
        with _disable_current_modes():
            i = (1 + MARK) * engine.solve(self.cells, v, c.wires, rtol=c.rtol).i_out
            hard = (v.abs().amax(-1) > self.above).expand(i.shape[:-1]) & (self.hopeless or not careful)
            Kernels.given_up += bool(hard.any())
        i = i.masked_fill(hard.unsqueeze(-1), torch.nan).flatten(0, -3)
        counts = torch.stack([torch.where(hard, 2, gpu.CONVERGED), torch.zeros_like(hard)], -1).flatten(0, -3)
        return i, i[:0], torch.zeros(counts.shape), torch.zeros(counts.shape[:-1]), counts


@pytest.fixture(autouse=True)
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrays on the CPU take the way of those on a GPU."""
    monkeypatch.setattr(expansion, "series", lambda chip, u, written: None)
    monkeypatch.setattr(gpu_expansion, "series", lambda chip, u, written: None)
    monkeypatch.setattr(gpu_layers, "_prepared", Kernels)
    monkeypatch.setattr(gpu_layers, "there", lambda a: True)
    monkeypatch.setattr(Wires, "ideal", False)  # looks at numbers of the configuration, on the host


class Looks(TorchDispatchMode):
    """Counts how often a value is read."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


@torch.no_grad()
def looks(net: Callable[..., Any], *x: Any) -> int:
    """How often a call reads a value, once its arrays are packed."""
    net(*x)
    with Looks() as seen:
        net(*x)
    return seen.count


@contextmanager
def too_hard(above: float = 0.0, *, hopeless: bool = True) -> Iterator[None]:
    """Vectors are too hard that are driven with more than `above` [V]; if not `hopeless`, care on the device helps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Kernels, "hopeless", hopeless)
        patch.setattr(Kernels, "above", above)
        patch.setattr(Kernels, "given_up", 0)
        yield


def small(config: Config = SOLVED) -> tuple[nn.Module, Tensor]:
    net, x = nn.Sequential(nn.Linear(12, 5), nn.Tanh(), nn.Linear(5, 3)), torch.randn(4, 12)
    return convert(net, LUT, config, calibration=x), x


@torch.no_grad()
def carefully(net: nn.Module, *x: Any) -> Any:
    """What layers that wait give."""
    with gpu_layers.at_once():
        return net(*x)


def close(found: Any, expected: Any, rtol: float = 1e-4) -> None:
    for a, b in zip(tree_leaves(found), tree_leaves(expected), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=rtol * b.abs().max().item())


class TestAPassMadeAgain:
    def test_gives_what_layers_that_wait_give(self) -> None:
        net, x = small()
        with torch.no_grad():
            easy = net(x)
        with too_hard(), torch.no_grad():
            found = net(x)
            assert torch.equal(found, carefully(net, x))
        close(found, easy)

    def test_changes_no_vector_but_the_hard_ones(self) -> None:
        net, x = small()
        x[1] *= 0.01
        with torch.no_grad():
            easy = net[0](x)
        with too_hard(above=0.05), torch.no_grad():
            found = net[0](x)
        assert torch.equal(found[1], easy[1])
        assert not torch.equal(found, easy)
        close(found, easy)

    def test_is_made_once(self) -> None:
        """Two layers give up; each is then tried with care on the device, and solved by the engine."""
        for call in (lambda net, x: net(x), waiting_once):
            net, x = small()
            with too_hard(), torch.no_grad():
                call(net, x)
                assert Kernels.given_up == 2 + 4

    def test_is_not_made_again_later(self) -> None:
        """Where care on the device helps, one pass tells that it is needed."""
        net, x = small()
        with too_hard(hopeless=False), torch.no_grad():
            first = net(x)
            assert Kernels.given_up == 2 + 2
            assert torch.equal(net(x), first)
            assert Kernels.given_up == 2 + 2
            assert looks(net, x) == 1
            assert looks(lambda x: carefully(net, x), x) == 2  # once a layer

    def test_refuses_voltages_beyond_the_table(self) -> None:
        """What the engine refuses, the pass that is made again refuses."""
        net, x = small(SOLVED.but(v_read=0.25))
        with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
            easy = net(x)
            patch.setattr(gpu_layers, "MARGIN", -10.0)  # takes every vector to be beyond
            close(net(x), easy)  # the engine knows better
            patch.setattr(gpu_layers, "_with_care", beyond)
            with pytest.raises(LutError):
                net(x)

    def test_reads_with_the_same_noise(self) -> None:
        net, x = small(NOISY)
        same = copy.deepcopy(net)
        with too_hard(), torch.no_grad():
            for _ in range(2):
                assert torch.equal(net(x), carefully(same, x))
        assert [net[k].matrix.reads for k in (0, 2)] == [2, 2]  # type: ignore[union-attr]
        assert [same[k].matrix.reads for k in (0, 2)] == [2, 2]  # type: ignore[union-attr]

    def test_counts_nothing_twice(self) -> None:
        class Keeps(nn.Module):
            """Carries a state, counts, draws, and changes its input."""

            def __init__(self) -> None:
                super().__init__()
                self.cell = nn.GRUCell(4, 4)
                self.drop = nn.Linear(4, 4)
                self.register_buffer("calls", torch.zeros(()))
                self.register_buffer("mean", torch.zeros(4))
                self.seen: list[float] = []
                self.sums: dict[str, Tensor] = {}

            def forward(self, x: Tensor, *, gain: Tensor) -> Tensor:
                x += 1
                x = x * gain + torch.randn(x.shape)
                self.h = self.cell(x, getattr(self, "h", None))
                self.mean = 0.5 * self.mean + self.h.mean(0)
                self.calls += 1
                self.seen.append(1.0)
                self.sums["h"] = self.sums.get("h", 0) + self.h
                return self.drop(self.h)

        start = torch.zeros(2, 4)
        nets = [convert(Keeps(), LUT, SOLVED)]
        nets.append(copy.deepcopy(nets[0]))
        found = []
        for net, once in zip(nets, (True, False), strict=True):
            torch.manual_seed(3)
            x, outs = start.clone(), []
            for _ in range(2):
                with too_hard(), torch.no_grad(), nullcontext() if once else gpu_layers.at_once():
                    outs.append(net(x, gain=torch.ones(4)))
            found.append([outs, x, net.calls, net.mean, net.seen, net.h, net.sums, torch.rand(3)])
        assert found[0][2] == 2
        assert same(*found)

    def test_leaves_no_trace_in_inference_mode(self) -> None:
        """In which changes of tensors made in it are not counted."""

        class Sums(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.last = nn.Linear(4, 3)
                self.sum: Tensor | None = None

            def forward(self, x: Tensor) -> Tensor:
                self.sum = torch.zeros_like(x) if self.sum is None else self.sum
                self.sum += x
                out: Tensor = self.last(self.sum)
                return out

        net, x = convert(Sums(), LUT, SOLVED), torch.randn(2, 4)
        with torch.inference_mode():
            net(x)
            with too_hard():
                net(x)
            assert torch.equal(net.sum, 2 * x)  # type: ignore[arg-type]
        with torch.no_grad(), pytest.raises(RuntimeError, match="inference"):
            net(x)  # by the network itself

    def test_needs_copies_only_while_they_are_small(self) -> None:
        class Table(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.table, self.one, self.two = torch.ones(1000), nn.Linear(12, 5), nn.Linear(5, 3)

            def forward(self, x: Tensor) -> Tensor:
                out: Tensor = self.two(self.one(x))
                return out

        net, x = convert(Table(), LUT, SOLVED), torch.randn(4, 12)
        for room, count in ((4 * (1000 + 48), 1), (4 * (1000 + 48) - 1, 2)):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(passes, "MOST_COPIED", room)
                assert looks(net, x) == count
                assert looks(lambda x: waiting_once(net, x), x) == count
                with too_hard(), torch.no_grad():
                    assert torch.equal(net(x), carefully(net, x))

    def test_leaves_statistics_alone(self) -> None:
        """Batch norm that is estimated anew sees every batch once."""
        nets = [convert(nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4)), LUT, SOLVED)]
        x = torch.randn(8, 6)
        nets.append(copy.deepcopy(nets[0]))
        reestimate_batch_norm(nets[0], x)
        with too_hard():
            reestimate_batch_norm(nets[1], x)
        norms = [net[1] for net in nets]
        assert norms[1].num_batches_tracked == 1
        close(norms[1].running_mean, norms[0].running_mean)
        nets[1][1].train()
        with too_hard(), torch.no_grad():
            nets[1](x)
        assert norms[1].num_batches_tracked == 2


def beyond(*given: Any, **named: Any) -> Any:
    raise LutError("cells work outside the voltages of the lookup table")


def same(a: Any, b: Any) -> bool:
    pairs = list(zip(tree_leaves(a), tree_leaves(b), strict=True))
    return all(torch.equal(p, q) if isinstance(p, Tensor) else p == q for p, q in pairs)


class Fails(nn.Module):
    """Raises, in the middle of a pass, what it is told."""

    def __init__(self, error: BaseException | None = None) -> None:
        super().__init__()
        self.error = error

    def forward(self, x: Tensor) -> Tensor:
        if self.error is not None:
            raise self.error
        return x


class TestWhatRunsInWhat:
    def test_parts_are_waited_for_each_on_its_own(self) -> None:
        net, x = small()
        assert looks(net[0], x) == 1
        assert looks(lambda x: net[2](net[1](net[0](x))), x) == 2

    def test_networks_in_another_module(self) -> None:
        (one, x), (two, _) = small(), small()
        both = nn.Sequential(one, nn.Linear(3, 12), two)
        assert looks(both, x) == 2
        assert looks(lambda x: waiting_once(both, x), x) == 1
        whole = convert(both, LUT, SOLVED)
        assert looks(whole, x) == 1

    def test_a_network_within_itself(self) -> None:
        class Tree(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.join = nn.Linear(8, 4)

            def forward(self, x: Tensor, depth: int = 2) -> Tensor:
                half = x if depth == 0 else self(x, depth - 1)
                out: Tensor = self.join(torch.cat([half, half], dim=-1))
                return out

        net, x = convert(Tree(), LUT, SOLVED), torch.randn(2, 4)
        assert looks(net, x) == 1
        with too_hard(), torch.no_grad():
            assert torch.equal(net(x), carefully(net, x))

    @pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
    def test_a_pass_that_ends_early_ends(self, error: BaseException) -> None:
        """Whatever was raised, later calls look at what they find, parts of the network too."""
        net = convert(nn.Sequential(nn.Linear(6, 4), Fails(), nn.Linear(4, 2)), LUT, SOLVED)
        x = torch.randn(2, 6)
        net[1].error = error  # type: ignore[union-attr]
        with torch.no_grad(), pytest.raises(type(error)):
            net(x)
        assert gpu_layers.current() is None
        with too_hard(), torch.no_grad():
            assert torch.equal(net[0](x), carefully(net[0], x))
        net[1].error = None  # type: ignore[union-attr]
        assert looks(net, x) == 1
        with too_hard(), torch.no_grad():
            assert torch.equal(net(x), carefully(net, x))

    def test_a_failing_part_does_not_end_the_whole(self) -> None:
        class Tries(nn.Module):
            def __init__(self, part: nn.Module) -> None:
                super().__init__()
                self.part, self.last = part, nn.Linear(4, 2)

            def forward(self, x: Tensor) -> Tensor:
                try:
                    x = self.part(x)
                except ValueError:
                    x = x[:, :4]
                out: Tensor = self.last(x)
                return out

        part = convert(nn.Sequential(nn.Linear(6, 4), Fails()), LUT, SOLVED)
        net = convert(Tries(part), LUT, SOLVED)
        x = torch.randn(2, 6)
        net.part[1].error = ValueError()  # type: ignore[union-attr, index]
        assert looks(net, x) == 1
        with too_hard(), torch.no_grad():
            assert torch.equal(net(x), carefully(net, x))

    def test_threads_have_passes_of_their_own(self) -> None:
        """One thread is in the middle of a pass while another begins and ends its own."""
        meet, left = Barrier(2, timeout=60), [True]

        class Meets(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                if left:
                    left.pop()
                    meet.wait()
                    meet.wait()
                return x

        slow = convert(nn.Sequential(nn.Linear(6, 4), Meets(), nn.Linear(4, 2)), LUT, SOLVED)
        (quick, x), y = small(), torch.randn(2, 6)

        @torch.no_grad()
        def other() -> Any:
            meet.wait()
            before, found = gpu_layers.current(), quick(x)
            meet.wait()
            return before, found

        with too_hard(), ThreadPoolExecutor(1) as pool, torch.no_grad():
            there = pool.submit(other)
            here = slow(y)
            before, found = there.result()
            assert before is None
            assert torch.equal(found, carefully(quick, x))
            assert torch.equal(here, carefully(slow, y))

    def test_with_gradients_or_in_training_layers_wait(self) -> None:
        net, x = small()
        with torch.no_grad():
            easy = net(x)
        with too_hard():
            close(net(x), easy)
            with torch.no_grad():
                close(net.train()(x), easy)

    def test_who_looks_at_layers_sees_what_they_give(self) -> None:
        net, x = small()
        seen: list[Tensor] = []
        handle = net[0].register_forward_hook(lambda module, args, out: seen.append(out))
        with too_hard(), torch.no_grad():
            net(x)
        handle.remove()
        assert len(seen) == 1
        with too_hard():
            assert torch.equal(seen[0], carefully(net[0], x))
        assert looks(net, x) == 1

    def test_calibration_sees_what_layers_give(self) -> None:
        net, x = small(SOLVED.but(adc__bits=6))
        other = copy.deepcopy(net)
        calibrate(net, x)
        with too_hard():
            calibrate(other, x)
        close(other[0].matrix.adc_range, net[0].matrix.adc_range)  # type: ignore[union-attr]


class TestTheNetworkIsAsBefore:
    def test_copies_and_files_wait_once_too(self, tmp_path: Path) -> None:
        net, x = small()
        torch.save(net, tmp_path / "net.pt")
        for other in (copy.deepcopy(net), torch.load(tmp_path / "net.pt", weights_only=False), copy.copy(net)):
            assert looks(other, x) == 1
            assert torch.equal(carefully(other, x), carefully(net, x))
            with too_hard(), torch.no_grad():
                assert torch.equal(other(x), net(x))

    def test_hooks_of_a_loaded_network_and_new_ones_get_along(self, tmp_path: Path) -> None:
        net, x = small()
        torch.save(net, tmp_path / "net.pt")
        handle = next(iter(net._forward_hooks))
        other = torch.load(tmp_path / "net.pt", weights_only=False)
        seen: list[int] = []
        new = other.register_forward_hook(lambda *given: seen.append(1))
        assert new.id not in (handle, *net._forward_hooks)
        assert looks(other, x) == 1
        assert seen == [1, 1]

    def test_its_state_is(self) -> None:
        net, _ = small()
        names = set(net.state_dict())
        passes.detach(net)
        assert set(net.state_dict()) == names

    def test_linear_arrays_have_no_hooks_and_reverted_networks_none(self) -> None:
        net, _ = small(SOLVED.but(nonlinear=False))
        assert not net._forward_pre_hooks
        back = revert(small()[0])
        assert not back._forward_pre_hooks
        assert not back._forward_hooks
        assert vars(back).keys() == vars(nn.Sequential()).keys()

    def test_on_a_cpu_nothing_is_kept(self, monkeypatch: pytest.MonkeyPatch) -> None:
        net, x = small()
        monkeypatch.setattr(gpu_layers, "there", lambda a: a.device.type == "cuda")
        monkeypatch.setattr(passes, "State", beyond)
        with torch.no_grad():
            assert torch.equal(net(x), net.forward(x))

    @pytest.mark.slow
    def test_torch_compile(self) -> None:
        """Compiled parts wait in every layer; nothing is left half begun, and nothing hard is overlooked."""
        net, x = small()
        with torch.no_grad():
            easy = net(x)
            torch._dynamo.reset()
            compiled = torch.compile(net, backend="eager")
            close(compiled(x), easy)
            with too_hard():
                close(compiled(x), easy)
        assert gpu_layers.current() is None
