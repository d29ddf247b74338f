"""The curves of docs/crossbar.md: cost of an array against its size, its line resistance and its conductance.

python tests/bench/bench_crossbar_curves.py [folder]
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1] / "crossbar")]
mpl.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402
from bench_crossbar import best  # noqa: E402
from crossbar_oracle import Prepared  # noqa: E402

from crossbar import Sinh, Wires, solve  # noqa: E402

B = 3.0  # 1/V
VECTORS = 64
SIZES = (16, 32, 64, 128, 256, 512)
OHMS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0)
TOPS = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
Cost = tuple[float, int]


def cost(n: int, ohm: float, top: float) -> Cost:
    """Time a vector [s] and applications of the line operator; cells over three decades up to `top` [S]."""
    rng = np.random.default_rng(0)
    g = top * 10 ** rng.uniform(-3, 0, (n, n))
    vectors = VECTORS if n < 256 else 8
    v = torch.tensor(rng.uniform(0, 0.2, (vectors, n)))
    cells, wires = Sinh(torch.tensor(g), B), Wires(ohm, ohm, ohm, ohm)
    seconds, solution = best(lambda: solve(cells, v, wires), 3 if n < 256 else 1)
    return seconds / vectors, solution.iterations


def eager(n: int, ohm: float, *, preconditioned: bool) -> Cost:
    """The same in torch without the compiled kernel, two vectors."""
    from crossbar import engine, newton

    kept = engine.suits, newton.LONG
    engine.suits, newton.LONG = (lambda circuit: False), newton.LONG if preconditioned else np.inf
    try:
        rng = np.random.default_rng(0)
        g = 1e-3 * 10 ** rng.uniform(-3, 0, (n, n))
        v = torch.tensor(rng.uniform(0, 0.2, (2, n)))
        seconds, solution = best(lambda: solve(Sinh(torch.tensor(g), B), v, Wires(ohm, ohm, ohm, ohm)), 1)
    finally:
        engine.suits, newton.LONG = kept
    return seconds / 2, solution.iterations


def sparse(n: int) -> float:
    """Time of an exact sparse Newton solution [s] of the same array at 1 ohm."""
    rng = np.random.default_rng(0)
    g = 1e-3 * 10 ** rng.uniform(-3, 0, (n, n))
    v = rng.uniform(0, 0.2, n)
    system = Prepared.build((n, n), dict.fromkeys(("r_wl", "r_bl", "r_source", "r_sense"), 1.0), v)
    law, slope = lambda u: g * np.sinh(B * u) / B, lambda u: g * np.cosh(B * u)
    return best(lambda: system.newton(law, slope, tolerance=1e-7), 1)[0]


def draw(path: Path, label: str, curves: dict[str, tuple[list[float], list[Cost]]], extra: dict | None = None) -> None:
    ticks = max((x for x, _ in curves.values()), key=len)
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for name, (x, costs) in curves.items():
        left.loglog(x, [1e3 * seconds for seconds, _ in costs], "o-", label=name)
        right.loglog(x, [applications for _, applications in costs], "o-", label=name)
    for name, (x, seconds) in (extra or {}).items():
        left.loglog(x, [1e3 * s for s in seconds], "k--", label=name)
    left.set(xlabel=label, ylabel="time a vector / ms")
    right.set(xlabel=label, ylabel="applications of the line operator")
    right.set_ylim(1, 1000)
    left.legend(frameon=False, fontsize=8)
    for axes in (left, right):
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[2] / "docs" / "images"
    torch.set_num_threads(1)
    cost(16, 1.0, 1e-3)  # compiles
    by_size = {f"{ohm:g} ohm": (list(SIZES), [cost(n, ohm, 1e-3) for n in SIZES]) for ohm in (0.1, 1.0, 20.0)}
    small = [n for n in SIZES if n <= 128]
    exact = {"sparse Newton, 1 ohm": (small, [sparse(n) for n in small])}
    draw(folder / "crossbar_size.png", "word lines = bit lines", by_size, exact)
    by_ohm = {f"{n} x {n}": (list(OHMS), [cost(n, ohm, 1e-3) for ohm in OHMS]) for n in (16, 64, 128)}
    draw(folder / "crossbar_resistance.png", "line resistance a segment / ohm", by_ohm)
    upto = [n for n in SIZES if n <= 256]
    in_torch = {
        f"torch, {name}": (upto, [eager(n, 20.0, preconditioned=name == "preconditioned") for n in upto])
        for name in ("plain", "preconditioned")
    }
    kernel = {"compiled, plain": (upto, [cost(n, 20.0, 1e-3) for n in upto])}
    draw(folder / "crossbar_preconditioner.png", "word lines = bit lines, 20 ohm", {**in_torch, **kernel})
    by_top = {f"{n} x {n}": (list(TOPS), [cost(n, 1.0, top) for top in TOPS]) for n in (16, 64, 128)}
    draw(folder / "crossbar_conductance.png", "largest cell conductance / S, 1 ohm", by_top)


if __name__ == "__main__":
    main()
