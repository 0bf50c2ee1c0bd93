"""Shapley values of games, and the games that the scores of trees and of linear models are.

A coalition is the set of players whose feature has the explained row's value; all others have a background row's. It is
written as a number whose bit i says whether player i is in it.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wineexp.models.fitted_trees import FittedTrees

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

# Trees and background rows that are descended together: more would not fit in the processor's cache.
STARTS_PER_CHUNK = 2**14


@dataclass(frozen=True)
class MixedColumns:
    """The transformed columns of rows whose features are in part the explained row's, in part a background row's.

    Attributes
    ----------
    members : tuple of int
        Which of a column's two players are in the coalition: bit 0 says whether the first is, bit 1 whether the second
        is. 0 and 3 are all, where no column has two.
    values : ndarray of shape (n_members, n_background, n_columns)
        The columns for each of `members`.
    first, second : ndarray of int of shape (n_columns,)
        The players that decide on a column: the same one twice where there is one, player 0 where there is none.
    n_players : int
    """

    members: tuple[int, ...]
    values: Floats
    first: Integers
    second: Integers
    n_players: int


@dataclass(frozen=True)
class ReachedLeaves:
    """The leaves that coalitions reach: one entry for all coalitions with `inside` and without `outside`.

    Attributes
    ----------
    leaf, row : ndarray of int of shape (n,)
        The row of `FittedTrees.values`, and that of the background.
    inside, outside : ndarray of int of shape (n,)
        Coalitions.
    """

    leaf: Integers
    row: Integers
    inside: Integers
    outside: Integers


def reach_leaves(trees: FittedTrees, mixed: MixedColumns) -> ReachedLeaves:
    """The leaves that each coalition reaches in each tree, from each background row.

    Where the players of a split's column lead a row to different sides, the coalitions are divided into those with and
    without such a player (as in Lundberg et al. 2020, Nature MI 2:56, algorithm 3, for columns of one player).
    """
    n_rows = mixed.values.shape[1]
    values = trees.as_compared(mixed.values)
    trees_per_chunk = max(1, STARTS_PER_CHUNK // n_rows)
    parts = [
        _descend(trees, mixed, values, trees.roots[start : start + trees_per_chunk])
        for start in range(0, len(trees.roots), trees_per_chunk)
    ]
    return ReachedLeaves(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def _descend(
    trees: FittedTrees, mixed: MixedColumns, values: Floats, roots: npt.NDArray[np.int32]
) -> tuple[Integers, Integers, Integers, Integers]:
    _, n_rows, n_columns = values.shape
    any_missing = bool(np.isnan(values).any())
    node = np.repeat(roots.astype(np.int64), n_rows)
    row = np.tile(np.arange(n_rows), len(roots))
    inside, outside = np.zeros_like(node), np.zeros_like(node)
    reached = []
    while len(node):
        is_leaf = trees.left[node] < 0
        reached.append((trees.column[node[is_leaf]].astype(np.int64), row[is_leaf], inside[is_leaf], outside[is_leaf]))
        node, row, inside, outside = (part[~is_leaf] for part in (node, row, inside, outside))
        column = trees.column[node]
        first, second = np.int64(1) << mixed.first[column], np.int64(1) << mixed.second[column]
        threshold, missing_left = trees.threshold[node], trees.missing_left[node]
        left, right = np.zeros(len(node), dtype=bool), np.zeros(len(node), dtype=bool)
        for members, of_members in zip(mixed.members, values, strict=True):
            # Members of the coalition that are not known to be outside, and others that are not known to be inside.
            possible = _may(first, members & 1, inside, outside) & _may(second, members >> 1, inside, outside)
            cell = of_members.ravel().take(row * n_columns + column)
            goes_left = trees.goes_left(cell, threshold)
            if any_missing:
                goes_left |= np.isnan(cell) & missing_left
            left |= possible & goes_left
            right |= possible & ~goes_left
        agree = left != right
        divided = ~agree
        child = trees.left[node] + right
        player = np.where((inside | outside) & first, second, first)[divided]
        stay = node[divided], row[divided]
        node = np.concatenate([child[agree], stay[0], stay[0]])
        row = np.concatenate([row[agree], stay[1], stay[1]])
        before = inside[divided], outside[divided]
        inside = np.concatenate([inside[agree], before[0] | player, before[0]])
        outside = np.concatenate([outside[agree], before[1], before[1] | player])
    return tuple(np.concatenate(arrays) for arrays in zip(*reached, strict=True))  # type: ignore[return-value]


def _may(player: Integers, is_member: int, inside: Integers, outside: Integers) -> npt.NDArray[np.bool_]:
    """Whether a player may be a member, or no member, of coalitions with `inside` and without `outside`."""
    return np.asarray(((outside if is_member else inside) & player) == 0)


def shapley_values_of_leaves(reached: ReachedLeaves, values: Floats, n_players: int) -> Floats:
    """Shapley values (n_players,) of the sum of leaf values (n_leaves,), summed over background rows.

    A game that is worth v for coalitions with p players and without q others, and else nothing, has the value
    v (p - 1)! q! / (p + q)! for each of the former, and -v p! (q - 1)! / (p + q)! for each of the latter.
    """
    n_inside, n_outside = np.bitwise_count(reached.inside), np.bitwise_count(reached.outside)
    worth = values[reached.leaf]
    weights = np.array([[1 / math.comb(p + q, p) for q in range(n_players + 1)] for p in range(n_players + 1)])
    shares = worth * weights[n_inside, n_outside]
    of_inside = shares / np.maximum(n_inside, 1)
    of_outside = shares / np.maximum(n_outside, 1)
    return np.array(
        [
            of_inside @ (reached.inside >> player & 1) - of_outside @ (reached.outside >> player & 1)
            for player in range(n_players)
        ]
    )


def scores_of_leaves(reached: ReachedLeaves, trees: FittedTrees, n_rows: int, n_players: int) -> Floats:
    """The scores of all coalitions: (n_rows, 2**n_players, n_outputs).

    An entry counts for all coalitions that include `inside` and none of `outside`: as often as for those with
    `inside`, less those with `inside` and one of `outside`, and so on (inclusion and exclusion).
    """
    place = reached.row << n_players | reached.inside
    leaf, outside = reached.leaf, reached.outside
    sign = np.ones(len(place))
    for player in range(n_players):
        with_player = np.flatnonzero(outside >> player & 1)
        place = np.concatenate([place, place[with_player] | 1 << player])
        leaf = np.concatenate([leaf, leaf[with_player]])
        outside = np.concatenate([outside, outside[with_player]])
        sign = np.concatenate([sign, -sign[with_player]])
    size = n_rows << n_players
    scores = np.stack([np.bincount(place, sign * output[leaf], minlength=size) for output in trees.values.T])
    for player in range(n_players):
        halves = scores.reshape(-1, 2, 1 << player)
        halves[:, 1] += halves[:, 0]
    return np.moveaxis(scores.reshape(-1, n_rows, 1 << n_players), 0, -1) + trees.base


def scores_of_sums(base: Floats, changes: Floats) -> Floats:
    """The scores of all coalitions, to which a player adds the same number, with whichever others.

    Parameters
    ----------
    base : ndarray of shape (n_rows, n_outputs)
        Of the empty coalition.
    changes : ndarray of shape (n_rows, n_players, n_outputs)

    Returns
    -------
    ndarray of shape (n_rows, 2**n_players, n_outputs)
    """
    scores = base[:, None]
    for player in range(changes.shape[1]):
        scores = np.concatenate([scores, scores + changes[:, player, None]], axis=1)
    return scores


def shapley_values(worths: Floats) -> Floats:
    """The Shapley values (n_players,) of a game, from the worth of each coalition (2**n_players,)."""
    n_players = len(worths).bit_length() - 1
    coalitions = np.arange(len(worths))
    weights = np.array([1 / (n_players * math.comb(n_players - 1, size)) for size in range(n_players)])
    values = []
    for player in range(n_players):
        without = coalitions[(coalitions >> player & 1) == 0]
        gains = worths[without | 1 << player] - worths[without]
        values.append(gains @ weights[np.bitwise_count(without)])
    return np.array(values)
