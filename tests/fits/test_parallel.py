"""Tasks over processes: one that fails, or whose process dies, fails alone."""

from __future__ import annotations

import os
import signal

import pytest

from devicelab.errors import ParameterError
from fits.parallel import WorkerDied, outcomes


def square_unless_odd(n: int) -> int:
    if n % 2:
        raise ValueError(f"{n} is odd")
    return n * n


def square_or_die(n: int) -> int:
    if n == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return n * n


@pytest.mark.parametrize("workers", [1, 2])
def test_what_a_task_raises_takes_its_place(workers: int) -> None:
    found = dict(outcomes(square_unless_odd, list(range(6)), workers))
    assert {k: v for k, v in found.items() if k % 2 == 0} == {0: 0, 2: 4, 4: 16}
    assert all(isinstance(found[k], ValueError) for k in (1, 3, 5))


def test_a_killed_process_takes_only_its_task_along() -> None:
    found = dict(outcomes(square_or_die, list(range(8)), 2))
    assert isinstance(found.pop(3), WorkerDied)
    assert found == {k: k * k for k in (0, 1, 2, 4, 5, 6, 7)}


def test_no_workers_are_refused() -> None:
    with pytest.raises(ParameterError, match="workers must be at least 1"):
        list(outcomes(square_unless_odd, [0], 0))
