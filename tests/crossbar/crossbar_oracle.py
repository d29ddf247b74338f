"""The exact answer, written independently of the engine: sparse nodal analysis of the whole array."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spla
from numpy.typing import NDArray

Array = NDArray[np.float64]
Law = Callable[[Array], Array]
Piece = tuple[int, int, float]


def columns(r: Any) -> Array:
    """One value for each line [m] as a column [m, 1]."""
    r = np.asarray(r, dtype=float)
    return r[:, None] if r.ndim == 1 else r


def resistors(
    m: int,
    n: int,
    wires: dict[str, Any],
    v_wl: Array,
    v_bl: Array,
    floating_wl: Collection[int],
    floating_bl: Collection[int],
) -> tuple[list[Piece], dict[int, float]]:
    """Every piece of line as (node, node, ohm), and the potentials of the driven nodes.

    Word line i at cell (i, j) is node i n + j, bit line j there is node m n + i n + j; drivers and sense nodes follow.
    `wires` has r_wl (a number, [m] or [m, n - 1]), r_bl (a number, [n] or [m - 1, n]), and for the terminals r_source,
    r_source_right, r_sense, r_sense_top numbers or one for each line; an absent terminal is open.
    """
    word, bit, ends = np.arange(m * n).reshape(m, n), m * n + np.arange(m * n).reshape(m, n), 2 * m * n
    r_wl = np.broadcast_to(columns(wires["r_wl"]), (m, n - 1))
    r_bl = np.broadcast_to(wires["r_bl"], (m - 1, n))
    left, right = (np.broadcast_to(wires.get(name, np.inf), m) for name in ("r_source", "r_source_right"))
    bottom, top = (np.broadcast_to(wires.get(name, np.inf), n) for name in ("r_sense", "r_sense_top"))
    found, potential = [], {}
    for i in range(m):
        found += [(word[i, j], word[i, j + 1], r_wl[i, j]) for j in range(n - 1)]
        potential[ends + i] = 0.0 if i in floating_wl else v_wl[i]
        if i not in floating_wl:
            found += [(ends + i, word[i, 0], left[i]), (ends + i, word[i, n - 1], right[i])]
    for j in range(n):
        found += [(bit[i, j], bit[i + 1, j], r_bl[i, j]) for i in range(m - 1)]
        potential[ends + m + j] = 0.0 if j in floating_bl else v_bl[j]
        if j not in floating_bl:
            found += [(ends + m + j, bit[m - 1, j], bottom[j]), (ends + m + j, bit[0, j], top[j])]
    return [r for r in found if np.isfinite(r[2])], potential


def nodal(m: int, n: int, pieces: list[Piece], potential: dict[int, float]) -> tuple[Any, Array, Any, Array]:
    """Laplacian [f, f] of the free nodes, their injected currents [f], and all potentials from the free ones.

    Nodes joined by 0 ohm are one. All nodes = spread @ free + fixed.
    """
    nodes = 2 * m * n + m + n
    shorts = [(a, b) for a, b, r in pieces if r == 0]
    a, b = np.array(shorts).reshape(-1, 2).T
    count, group = sp.csgraph.connected_components(sp.coo_matrix((np.ones(len(a)), (a, b)), (nodes, nodes)), False)
    merge = sp.csr_matrix((np.ones(nodes), (np.arange(nodes), group)), (nodes, count))
    g = np.array([1 / r for _, _, r in pieces if r > 0])
    ends = np.array([(a, b) for a, b, r in pieces if r > 0]).reshape(-1, 2)
    edges = sp.csr_matrix((np.ones(len(g)), (np.arange(len(g)), ends[:, 0])), (len(g), nodes)) - sp.csr_matrix(
        (np.ones(len(g)), (np.arange(len(g)), ends[:, 1])), (len(g), nodes)
    )
    laplacian = merge.T @ edges.T @ sp.diags(g) @ edges @ merge
    known = np.zeros(count)
    for node, v in potential.items():
        known[group[node]] = v
    free = np.setdiff1d(np.arange(count), group[list(potential)])
    spread = merge.tocsc()[:, free]
    fixed = merge @ known
    laplacian = laplacian.tocsr()
    return laplacian[free][:, free], -(laplacian @ known)[free], spread.tocsr(), fixed


@dataclass(frozen=True)
class Prepared:
    """The lines of an array as a sparse system, ready for Newton's method on any cells."""

    shape: tuple[int, int]
    laplacian: Any
    injected: Array
    incidence: Any
    offset: Array

    @staticmethod
    def build(
        shape: tuple[int, int],
        wires: dict[str, Any],
        v_wl: Array,
        v_bl: Array | None = None,
        floating_wl: Collection[int] = (),
        floating_bl: Collection[int] = (),
    ) -> Prepared:
        m, n = shape
        v_bl = np.zeros(n) if v_bl is None else v_bl
        pieces, potential = resistors(m, n, wires, v_wl, v_bl, floating_wl, floating_bl)
        laplacian, injected, spread, fixed = nodal(m, n, pieces, potential)
        eye = sp.identity(m * n, format="csr")
        across = sp.hstack([eye, -eye, sp.csr_matrix((m * n, m + n))], format="csr")  # cell voltages from potentials
        return Prepared(shape, laplacian, injected, across @ spread, across @ fixed)

    def newton(self, current: Law, conductance: Law, tolerance: float = 1e-14) -> tuple[Array, Array]:
        """Cell voltages [m, n] and output currents [n]; stops at steps below `tolerance` [V]."""
        free = np.zeros(self.incidence.shape[1])
        for _ in range(200 * bool(free.size)):
            v = (self.incidence @ free + self.offset).reshape(self.shape)
            kcl = self.laplacian @ free - self.injected + self.incidence.T @ current(v).ravel()
            jacobian = self.laplacian + self.incidence.T @ sp.diags(conductance(v).ravel()) @ self.incidence
            step = np.atleast_1d(spla.spsolve(jacobian.tocsc(), -kcl))
            largest = np.abs(self.incidence @ step).max()
            free = free + step * min(1.0, 0.3 / max(largest, 1e-300))
            if largest < tolerance:
                break
        v = (self.incidence @ free + self.offset).reshape(self.shape)
        return v, current(v).sum(axis=0)


def exact(
    current: Law, conductance: Law, wires: dict[str, Any], v_wl: Array, shape: tuple[int, int], **bias: Any
) -> tuple[Array, Array]:
    """Cell voltages [m, n] and output currents [n] by Newton's method with a sparse direct solve, to rounding.

    `current(v)` and `conductance(v)` are numpy functions of the cell voltages [m, n].
    """
    return Prepared.build(shape, wires, v_wl, **bias).newton(current, conductance)
