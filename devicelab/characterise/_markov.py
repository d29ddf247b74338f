"""Compiled parts of the hidden Markov model: forward and backward sums, and the likeliest path."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[np.float64]


@njit(cache=True)
def expect(log_b: Array, matrix: Array) -> tuple[float, Array, Array]:  # pragma: no cover  # compiled
    """Log likelihood, weight of each level at each sample [n, k], expected moves [k, k]; scaled forward, backward."""
    n, k = log_b.shape
    alpha, scale, b = np.empty((n, k)), np.empty(n), np.empty((n, k))
    total = 0.0
    for t in range(n):
        top = log_b[t].max()
        total += top
        norm = 0.0
        for j in range(k):
            b[t, j] = np.exp(log_b[t, j] - top)
            value = 1.0 / k
            if t > 0:
                value = 0.0
                for m in range(k):
                    value += alpha[t - 1, m] * matrix[m, j]
            alpha[t, j] = value * b[t, j]
            norm += alpha[t, j]
        scale[t] = norm
        total += np.log(norm)
        alpha[t] /= norm
    moves = np.zeros((k, k))
    weight = np.empty((n, k))
    beta, last = np.ones(k), np.ones(k)
    weight[n - 1] = alpha[n - 1]
    for t in range(n - 2, -1, -1):
        for m in range(k):
            value = 0.0
            for j in range(k):
                part = matrix[m, j] * b[t + 1, j] * last[j] / scale[t + 1]
                moves[m, j] += alpha[t, m] * part
                value += part
            beta[m] = value
        for m in range(k):
            last[m] = beta[m]
            weight[t, m] = alpha[t, m] * beta[m]
    return total, weight, moves


@njit(cache=True)
def viterbi(log_b: Array, matrix: Array) -> NDArray[np.int_]:  # pragma: no cover  # compiled
    """Likeliest level at each sample (Viterbi 1967)."""
    n, k = log_b.shape
    log_p = np.log(matrix + 1e-300)
    best, back = log_b[0].copy(), np.zeros((n, k), np.int64)
    for t in range(1, n):
        new = np.empty(k)
        for j in range(k):
            back[t, j] = np.argmax(best + log_p[:, j])
            new[j] = best[back[t, j]] + log_p[back[t, j], j] + log_b[t, j]
        best = new
    path = np.empty(n, np.int64)
    path[n - 1] = np.argmax(best)
    for t in range(n - 2, -1, -1):
        path[t] = back[t + 1, path[t + 1]]
    return path
