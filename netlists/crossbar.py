"""Crossbar arrays as ngspice operating-point netlists: the same circuit that the array engine solves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from devicelab.errors import ParameterError, ShapeError
from devicelab.models import Model

from .expression import Expression, SpiceOps, plain

Array = NDArray[np.float64]

OPTIONS = ".options reltol=1e-9 abstol=1e-18 vntol=1e-12"


def crossbar(cells: Any, v_in: Any, wires: Any) -> str:
    """An `.op` netlist of one array.

    Nodes: `w{i}_{j}` and `b{i}_{j}` on word and bit lines, `s{i}` drivers, `o{j}` sense nodes. The current of the
    source `vo{j}` is the output current of bit line j, positive into the sense node. Nodes joined by 0 ohm are one
    node, named after the terminal or else the first of them.

    Args:
        cells: Cells [m, n] as the `crossbar` package makes them; read by attribute: `g` [S] (linear), `g` and `b`
            [1/V] (g sinh(b v) / b), `model` and `x`, or `nodes`, `pieces` and `amplitudes()` (a table). Cells made
            of cells: `cells` and `element`, in series (the node between them is `x{i}_{j}`), or `cells`, `broken`
            and `g` (broken cells are resistors). An element has `overdrive`, `k`, `slope`, `r_off` (a transistor)
            or `i_0`, `v_0` (a selector).
        v_in: Word-line voltages [V], [m]; or an object with `v_wl`, `v_bl`, `floating_wl`, `floating_bl`.
        wires: Object with `r_wl`, `r_bl`, `r_source`, `r_sense`, `r_source_right`, `r_sense_top` [ohm]; None: no lines.

    Returns:
        The netlist, ending with `.end`.

    Raises:
        ShapeError: If cells or voltages are not those of one array.
        ParameterError: If the kind of cell, or of the element in series with it, is unknown.
    """
    shape = tuple(cells.shape)
    if len(shape) != 2:
        raise ShapeError("a netlist holds one array", got=shape, allowed="cells [m, n]")
    m, n = shape
    v_wl, v_bl, floating_wl, floating_bl = _bias(v_in, m, n)
    word = _segments(wires, ("r_source", "r_wl", "r_source_right"), m, n)
    bit = _segments(wires, ("r_sense_top", "r_bl", "r_sense"), n, m)
    word[floating_wl, 0] = word[floating_wl, n] = np.inf
    bit[floating_bl, 0] = bit[floating_bl, m] = np.inf
    lines = [f"crossbar {m} x {n}", OPTIONS]
    lines += [f"vs{i} s{i} 0 {v_wl[i]!r}" for i in range(m) if not floating_wl[i]]
    lines += [f"vo{j} o{j} 0 {v_bl[j]!r}" for j in range(n) if not floating_bl[j]]
    w_names = [_names(word[i], f"s{i}", f"w{i}_{{}}") for i in range(m)]
    b_names = [_names(bit[j], f"o{j}", f"b{{}}_{j}") for j in range(n)]
    for i in range(m):
        lines += _resistors(f"rw{i}", word[i], w_names[i])
    for j in range(n):
        lines += _resistors(f"rb{j}", bit[j], b_names[j])
    functions, element = _cells(cells)
    lines += functions
    for i in range(m):
        for j in range(n):
            lines.append(element(i, j, w_names[i][j + 1], b_names[j][i + 1]))
    return "\n".join([*lines, ".op", ".end", ""])


def _bias(v_in: Any, m: int, n: int) -> tuple[list[float], list[float], NDArray[np.bool_], NDArray[np.bool_]]:
    v_wl = _numpy(getattr(v_in, "v_wl", v_in))
    v_bl = getattr(v_in, "v_bl", None)
    v_bl = np.zeros(n) if v_bl is None else _numpy(v_bl)
    if v_wl.shape != (m,) or v_bl.shape != (n,):
        raise ShapeError("a netlist takes one vector", got=(v_wl.shape, v_bl.shape), allowed=((m,), (n,)))
    floats = []
    for name, size in (("floating_wl", m), ("floating_bl", n)):
        mask = getattr(v_in, name, None)
        floats.append(np.zeros(size, dtype=bool) if mask is None else _numpy(mask).astype(bool))
    return v_wl.tolist(), v_bl.tolist(), floats[0], floats[1]


def _numpy(a: Any) -> Array:
    detached = a.detach().cpu() if hasattr(a, "detach") else a
    return np.asarray(detached, dtype=np.float64)


def _segments(wires: Any, names: tuple[str, str, str], lines: int, nodes: int) -> Array:
    """Resistances along each line from its start terminal to its end terminal, [lines, nodes + 1]."""
    out = np.zeros((lines, nodes + 1))
    if wires is None:
        out[:, 0 if names[0] == "r_source" else -1] = 0.0
        out[:, -1 if names[0] == "r_source" else 0] = np.inf
        return out
    start, inner, end = (_numpy(getattr(wires, name)) for name in names)
    if inner.ndim == 2 and names[1] == "r_bl":
        inner = inner.T
    out[:, 0] = start
    out[:, 1:-1] = inner[:, None] if inner.ndim == 1 else inner
    out[:, -1] = end
    return out


def _names(segments: Array, terminal: str, pattern: str) -> list[str]:
    """Node names along a line, the terminal at both ends; nodes joined by 0 ohm share a name."""
    nodes = len(segments) - 1
    names = [terminal, *(pattern.format(k) for k in range(nodes)), terminal]
    for k in range(nodes):  # from the start terminal or the first node of a run
        if segments[k] == 0:
            names[k + 1] = names[k]
    for k in reversed(range(1, nodes + 1)):  # from the end terminal
        if segments[k] == 0 and names[k + 1] == terminal:
            old = names[k]
            names = [terminal if name == old else name for name in names]
    return names


def _resistors(prefix: str, segments: Array, names: list[str]) -> Iterator[str]:
    for k, r in enumerate(segments.tolist()):
        if names[k] != names[k + 1] and np.isfinite(r):
            yield f"{prefix}_{k} {names[k]} {names[k + 1]} {r!r}"


Element = Callable[[int, int, str, str], str]


def _cells(cells: Any, depth: int = 0) -> tuple[list[str], Element]:
    """Definitions that come first, and the element of the cell (i, j) between two nodes."""
    if hasattr(cells, "element"):
        return _series(cells, depth)
    if hasattr(cells, "broken"):
        return _faulty(cells, depth)
    if hasattr(cells, "b"):
        return _sinh(_numpy(cells.g), _numpy(cells.b))
    if hasattr(cells, "g"):
        return _ohmic(_numpy(cells.g))
    if isinstance(getattr(cells, "model", None), Model):
        return _model(cells.model, _numpy(cells.x))
    if hasattr(cells, "amplitudes"):
        return _table(_numpy(cells.nodes), _numpy(cells.pieces), _numpy(cells.amplitudes()))
    raise ParameterError(
        "no netlist for this kind of cell",
        got=type(cells).__name__,
        allowed="cells with g, with g and b, with x and a devicelab model, or with a low-rank table",
    )


def _series(cells: Any, depth: int) -> tuple[list[str], Element]:
    """The memory cell from the word line to an inner node, the element from there to the bit line."""
    functions, cell = _cells(cells.cells, depth + 1)
    definitions, law = _law(cells.element, tuple(cells.shape), depth)
    tag = depth or ""

    def element(i: int, j: int, p: str, q: str) -> str:
        middle = f"x{tag}{'_' if depth else ''}{i}_{j}"
        return f"{cell(i, j, p, middle)}\nbe{tag}_{i}_{j} {middle} {q} i={law(i, j, f'v({middle},{q})')}"

    return [*functions, *definitions], element


def _law(element: Any, shape: tuple[int, int], depth: int) -> tuple[list[str], Callable[[int, int, str], str]]:
    """Definitions, and the current of a series element at the cell (i, j) as a function of the voltage across it."""
    if hasattr(element, "overdrive"):
        overdrive = np.broadcast_to(_numpy(element.overdrive), shape)
        k, slope, leak = (f"({float(a)!r})" for a in (element.k, element.slope, 1 / element.r_off))
        channel = f"(u<w?(w-u/2)*u:w*w/2)*{k}*(1+{slope}*u)"
        functions = [
            f".func channel{depth}(u,w) {{{channel}}}",
            f".func access{depth}(v,w) {{(v<0?-channel{depth}(-v,w):channel{depth}(v,w))+v*{leak}}}",
        ]
        return functions, lambda i, j, v: f"access{depth}({v},{float(overdrive[i, j])!r})"
    if hasattr(element, "i_0"):
        i_0, v_0 = float(element.i_0), float(element.v_0)
        return [], lambda i, j, v: f"({i_0!r})*sinh({v}/({v_0!r}))"
    raise ParameterError(
        "no netlist for this kind of series element",
        got=type(element).__name__,
        allowed="elements with overdrive, k, slope, r_off (a transistor), or with i_0, v_0 (a selector)",
    )


def _faulty(cells: Any, depth: int) -> tuple[list[str], Element]:
    """Broken cells are resistors, or nothing; the others are what they were."""
    functions, sound = _cells(cells.cells, depth + 1)
    broken, resistor = _numpy(cells.broken).astype(bool), _ohmic(_numpy(cells.g))[1]
    return functions, lambda i, j, p, q: resistor(i, j, p, q) if broken[i, j] else sound(i, j, p, q)


def _ohmic(g: Array) -> tuple[list[str], Element]:
    def element(i: int, j: int, p: str, q: str) -> str:
        conductance = float(g[i, j])
        if conductance == 0:
            return f"* cell {i} {j} is open"
        return f"rc{i}_{j} {p} {q} {1 / conductance!r}"

    return [], element


def _model(model: Model, x: Array) -> tuple[list[str], Element]:
    """Every cell is the model's own current at a fixed state, written by the model itself."""

    def element(i: int, j: int, p: str, q: str) -> str:
        v, ops = model.polarity * Expression(f"v({p},{q})"), SpiceOps(f"c{i}_{j}_")
        current = plain(model.polarity * model._current(v, float(x[i, j]), ops))
        return "\n".join([*ops.elements, f"bc{i}_{j} {p} {q} i={current}"])

    return [], element


def _table(nodes: Array, pieces: Array, amplitudes: Array) -> tuple[list[str], Element]:
    """A sum over ranks of an amplitude and a function of voltage, cubic between nodes."""
    ranks = range(len(pieces))
    functions = [f".func phi{r}(v) {{{_cubics(nodes, pieces[r])}}}" for r in ranks]

    def element(i: int, j: int, p: str, q: str) -> str:
        terms = [f"({float(amplitudes[r, i, j])!r})*phi{r}(v({p},{q}))" for r in ranks]
        return f"bc{i}_{j} {p} {q} i={'+'.join(terms)}"

    return functions, element


def _cubics(nodes: Array, pieces: Array) -> str:
    """Cubics c0 + t (c1 + t (c2 + t c3)) on each interval, chosen by halving."""
    low, high = nodes[:-1].tolist(), nodes[1:].tolist()
    c0, c1, c2, c3 = pieces.tolist()

    def between(first: int, last: int) -> str:
        if first == last:
            t = f"((v-({low[first]!r}))/({high[first] - low[first]!r}))"
            return f"(({c0[first]!r})+{t}*(({c1[first]!r})+{t}*(({c2[first]!r})+{t}*({c3[first]!r}))))"
        middle = (first + last) // 2
        return f"(v<({high[middle]!r})?{between(first, middle)}:{between(middle + 1, last)})"

    return between(0, len(low) - 1)


def _sinh(g: Array, b: Array) -> tuple[list[str], Element]:
    def element(i: int, j: int, p: str, q: str) -> str:
        g_ij, b_ij = float(g[i, j]), float(b[i, j])
        if b_ij == 0:
            return f"bc{i}_{j} {p} {q} i={g_ij!r}*v({p},{q})"
        return f"bc{i}_{j} {p} {q} i={g_ij / b_ij!r}*sinh({b_ij!r}*v({p},{q}))"

    return [], element
