"""Time and error of the array engine beside the alternatives, in one run on one thread.

    python tests/bench/bench_crossbar.py [--ngspice] [--large]

Arrays: conductances log-uniform 1e-6..1e-3 S, inputs 0..0.2 V, `OHM` a segment and terminal. Beside an exact sparse
solve always; ngspice with --ngspice (twice 20 s at 64 x 64); badcrossbar and CrossSim where they can be imported,
for instance from a folder of their own on PYTHONPATH (`pip install --target peers badcrossbar==1.1.0 pathvalidate`).

Columns: shortest time a vector of a few runs (a tile where it says so), the reference's time over it, largest error
relative to the largest current, and peak memory: how much a fresh process grows while it runs this method once.
"""

from __future__ import annotations

import argparse
import ctypes
import logging
import os
import platform
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1] / "crossbar")]

from crossbar_oracle import Prepared  # noqa: E402
from crossbar_spice import output_currents  # noqa: E402

import netlists  # noqa: E402
from crossbar import Sinh, Wires, effective_conductance, solve  # noqa: E402

OHM = 1.0
BATCH = 256


def best(work: Callable[[], Any], repeats: int = 3) -> tuple[float, Any]:
    """Shortest of a few times [s], and the result."""
    times, result = [], None
    for _ in range(repeats):
        start = time.perf_counter()
        result = work()
        times.append(time.perf_counter() - start)
    return min(times), result


def array(n: int, batch: int = BATCH) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return 10 ** rng.uniform(-6, -3, (n, n)), rng.uniform(0, 0.2, (batch, n))


def wires(ohm: float = OHM) -> dict[str, float]:
    return dict.fromkeys(("r_wl", "r_bl", "r_source", "r_sense"), ohm)


def error(found: np.ndarray, exact: np.ndarray) -> float:
    """Largest difference relative to the largest current."""
    return float(np.abs(found - exact).max() / np.abs(exact).max())


def growth(work: Callable[[], Any], who: int = resource.RUSAGE_SELF) -> float:
    """Peak memory of `work` [MB] in a forked process of its own: above its start, or the largest of its children's.

    The process does the work once before, so that library code that it loads does not count.
    """
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            start = 0
            if who == resource.RUSAGE_SELF:
                work()
                ctypes.CDLL(None).malloc_trim(0)  # nothing freed earlier serves again
                start = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() // 1024
                Path("/proc/self/clear_refs").write_text("5")  # the peak starts from here
            work()
            os.write(write, str(max(resource.getrusage(who).ru_maxrss - start, 0)).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        text = answer.read()
    os.waitpid(child, 0)
    return float(text or "nan") / 1024


def row(n: int, method: str, seconds: float, reference: float, err: float | None, memory: float) -> None:
    shown = "-" if err is None else f"{err:.1e}"
    print(f"{n:>5}  {method:<34}{seconds * 1e6:>12.2f} us{reference / seconds:>11.1f}x{shown:>10}{memory:>8.1f} MB")


def header(title: str, reference: str) -> None:
    print(f"\n{title}\n{'size':>5}  {'method':<34}{'a vector':>15}{'against':>12}{'error':>10}{'peak':>11}")
    print(f"{'':>56}{reference}")


def crosssim(law: Callable[[np.ndarray, np.ndarray], np.ndarray], threshold: float) -> Any | None:
    """CrossSim's solver of the same circuit, driven below its parameter classes; None where it is not importable."""
    try:
        from simulator.backend import ComputeBackend
        from simulator.circuits.array.NonInterleaved_InputSource import NoninterleavedInputSourceArray
    except ImportError:
        return None
    ComputeBackend(use_gpu=False)
    parasitics = dict.fromkeys(("Rp_row_norm", "Rp_col_norm"), OHM)
    parasitics |= dict.fromkeys(("Rp_row_terminal_norm", "Rp_col_terminal_norm"), 0.0)
    array = SimpleNamespace(parasitics=SimpleNamespace(**parasitics))
    device = SimpleNamespace(nonlinear_IV=SimpleNamespace(enable=True))
    simulation = SimpleNamespace(
        fast_matmul=True,
        Niters_max_parasitics=100,
        Verr_th_mvm=threshold,
        hide_convergence_msg=True,
        Verr_matmul_criterion="max_max",
        relaxation_gamma=1.0,
        fast_nonlinear_IV=False,
    )
    core = SimpleNamespace(style=None, balanced=SimpleNamespace(interleaved_posneg=False))
    params = SimpleNamespace(xbar=SimpleNamespace(array=array, device=device), simulation=simulation, core=core)
    return NoninterleavedInputSourceArray(params, device=SimpleNamespace(nonlinear_current=law))


def linear(n: int) -> None:
    """Method b against a sparse solve for all inputs, and badcrossbar."""
    import scipy.sparse as sp
    import scipy.sparse.linalg as spla

    g, v = array(n)
    conductance = torch.tensor(g)
    columns = [Prepared.build((n, n), wires(), row) for row in v[:3]]
    system = columns[0]
    matrix = (system.laplacian + system.incidence.T @ sp.diags(g.ravel()) @ system.incidence).tocsc()
    inputs = np.stack([Prepared.build((n, n), wires(), unit).injected for unit in np.eye(n)[:1]], axis=1)
    inputs = np.repeat(inputs, n, axis=1)  # as many right-hand sides as inputs; their values do not matter for time
    factor = lambda: spla.splu(matrix).solve(inputs)  # noqa: E731
    program = lambda: effective_conductance(conductance, Wires(**wires()))  # noqa: E731
    sparse, _ = best(factor, 2)
    exact = np.stack([s.newton(lambda u: g * u, lambda u: g)[1] for s in columns])
    programming, matrix_b = best(program, 5)
    batch = torch.tensor(v)
    product, _ = best(lambda: batch @ conductance, 50)
    inference, i_out = best(lambda: batch @ matrix_b, 50)
    row(n, "sparse solve, all inputs (a tile)", sparse, sparse, None, growth(factor))
    row(n, "elimination (a tile)", programming, sparse, error(i_out.numpy()[:3], exact), growth(program))
    row(n, f"inference, {BATCH} vectors", inference / BATCH, product / BATCH, None, growth(lambda: batch @ matrix_b))
    print(f"{'':>7}inference costs {inference / product:.2f} of the plain matrix product")
    try:
        import badcrossbar
    except ImportError:
        return
    options = {"node_voltages": False, "all_currents": False}
    peer = lambda: badcrossbar.compute(v.T, 1 / g, OHM, **options)  # noqa: E731
    own = lambda: batch @ program()  # noqa: E731
    theirs, solution = best(peer, 3)
    ours, _ = best(own, 5)
    off = error(solution.currents.output[:3], exact)
    row(n, "badcrossbar, 256 vectors", theirs / BATCH, theirs / BATCH, off, growth(peer))
    row(n, "elimination and 256 vectors", ours / BATCH, theirs / BATCH, error(i_out.numpy()[:3], exact), growth(own))


def nonlinear(n: int, b: float, ngspice: bool) -> None:
    """Method c against sparse Newton, ngspice and CrossSim."""
    g, v = array(n)
    law, slope = lambda u: g * np.sinh(b * u) / b, lambda u: g * np.cosh(b * u)
    systems = [Prepared.build((n, n), wires(), vector) for vector in v[:2]]
    newton = lambda: systems[0].newton(law, slope, tolerance=1e-7)  # noqa: E731
    sparse, _ = best(newton, 1 if n > 64 else 3)
    exact = np.stack([s.newton(law, slope)[1] for s in systems])
    row(n, "sparse Newton (scipy), to 1e-7 V", sparse, sparse, None, growth(newton))
    cells, batch = Sinh(torch.tensor(g), b), torch.tensor(v)
    for name, vectors in (("compiled, 256 vectors", batch), ("compiled, 8 vectors", batch[:8])):
        work = lambda vectors=vectors: solve(cells, vectors, Wires(**wires()))  # noqa: E731
        seconds, solution = best(work, 5)
        row(n, name, seconds / len(vectors), sparse, error(solution.i_out.numpy()[:2], exact), growth(work))
    print(f"{'':>7}{solution.iterations} applications of the line operator, residual {solution.residual:.1e}")
    in_torch = lambda: eager(cells, batch[:64])  # noqa: E731
    seconds, i_out = best(in_torch, 1)
    row(n, "torch, 64 vectors", seconds / 64, sparse, error(i_out[:2], exact), growth(in_torch))
    if ngspice:
        text = netlists.crossbar(cells, batch[0], Wires(**wires()))
        seconds, i_out = best(lambda: output_currents(text, n), 1)
        alone = lambda: netlists.run(text, backend="executable")  # noqa: E731
        row(n, "ngspice .op", seconds, sparse, error(i_out, exact[0]), growth(alone, resource.RUSAGE_CHILDREN))
    scaled = lambda gg, u: gg[(..., *(None,) * (u.ndim - gg.ndim))] * np.sinh(b * u) / b  # noqa: E731
    for threshold in (2e-4, 2e-7):
        peer = crosssim(scaled, threshold)
        for vectors in (v[0], v.T if n <= 64 else None):
            if peer is None or vectors is None:
                continue
            name = f"CrossSim to {threshold:g} V, {1 if vectors.ndim == 1 else BATCH} vectors"
            relax = lambda peer=peer, vectors=vectors: peer.iterative_solve(g.T, vectors)  # noqa: E731
            try:
                relax()  # finds its damping
                seconds, i_out = best(relax, 2)
            except ValueError:
                print(f"{n:>5}  {name}: did not converge")
                continue
            first = i_out if vectors.ndim == 1 else i_out.reshape(n, -1)[:, 0]
            each = seconds / (1 if vectors.ndim == 1 else BATCH)
            row(n, name, each, sparse, error(first, exact[0]), growth(relax))


def eager(cells: Sinh, v: torch.Tensor) -> np.ndarray:
    """The same solution without the compiled kernel."""
    from crossbar import engine

    kept, engine.suits = engine.suits, lambda circuit: False
    try:
        return solve(cells, v, Wires(**wires())).i_out.numpy()
    finally:
        engine.suits = kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ngspice", action="store_true", help="also run ngspice")
    parser.add_argument("--large", action="store_true", help="also 256 x 256 and 512 x 512")
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable(logging.INFO)
    print("$ python tests/bench/bench_crossbar.py", *sys.argv[1:])
    print(f"python {platform.python_version()}, torch {torch.__version__}, one thread, {platform.machine()}")
    solve(Sinh(torch.full((4, 4), 1e-4), 1.0), torch.ones(4), Wires(1.0, 1.0, 1.0, 1.0))  # compiles
    header("Method b: linear cells", "sparse solve")
    for n in (16, 64, 128):
        linear(n)
    for b in (3.0, 10.0):
        header(f"Method c: sinh({b:g} v) cells, 1e-6", "sparse Newton")
        for n in (16, 64, 128, *((256, 512) if options.large else ())):
            nonlinear(n, b, options.ngspice and n <= 64)


if __name__ == "__main__":
    main()
