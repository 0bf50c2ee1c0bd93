"""The streams of river's FriedmanDrift, made with numpy; `friedman_peers.py` checks that they are river's."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

N_TRAINING, N_BEFORE, N_AFTER = 10_000, 2_500, 2_500
KINDS = ("abrupt", "gradual", "local")
# Rows of a gradual change in which either function may hold.
TRANSITION = 500


def draw(random: np.random.Generator, n_rows: int) -> tuple[Floats, Floats]:
    """Features and noise."""
    return random.random((n_rows, 10)), random.normal(0, 1, n_rows)


def targets(kind: str, X: Floats, start: int, random: np.random.Generator, *, changed: bool = True) -> Floats:
    """The numbers without noise of rows (n_rows, 10), which change with the row `start`."""
    x = X.T
    before = 10 * np.sin(np.pi * x[0] * x[1]) + 20 * (x[2] - 0.5) ** 2 + 10 * x[3] + 5 * x[4]
    if not changed:
        return before
    row = np.arange(len(X)) - start
    if kind == "local":
        return _local(x, row, before)
    factor = x[5] if kind == "abrupt" else x[4]
    after = 10 * np.sin(np.pi * x[3] * factor) + 20 * (x[1] - 0.5) ** 2 + 10 * x[0] + 5 * x[2]
    is_old = row < 0
    if kind == "gradual":
        is_old |= (row < TRANSITION) & (random.random(len(X)) < 0.5)
    return np.where(is_old, before, after)


def _local(x: Floats, row: npt.NDArray[np.intp], before: Floats) -> Floats:
    # The regions grow twice, after a third and after two thirds of the rows.
    step = N_AFTER // 3
    first = (x[1] < 0.3) & (x[2] < 0.3) & ((row >= 2 * step) | (x[3] > 0.7)) & ((row >= step) | (x[4] < 0.3))
    second = (x[1] > 0.7) & (x[2] > 0.7) & ((row >= 2 * step) | (x[3] < 0.3)) & ((row >= step) | (x[4] > 0.7))
    of_first = 10 * x[0] * x[1] + 20 * (x[2] - 0.5) + 10 * x[3] + 5 * x[4]
    of_second = 10 * np.cos(x[0] * x[1]) + 20 * (x[2] - 0.5) + np.exp(x[3]) + 5 * x[4] ** 2
    return np.where((row >= 0) & first, of_first, np.where((row >= 0) & second, of_second, before))
