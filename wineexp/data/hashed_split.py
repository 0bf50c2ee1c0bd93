"""A holdout and folds by a hash of each row's contents, or of its group: copies stay together without a table."""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import (
    BaseCrossValidator,
    GroupKFold,
    KFold,
    RepeatedKFold,
    RepeatedStratifiedKFold,
    StratifiedGroupKFold,
    StratifiedKFold,
)

from wineexp.core.errors import UserError
from wineexp.data.groups import Indices
from wineexp.data.row_hashes import FOLDS_SALT, HOLDOUT_SALT, Hashes, chunks, mixed
from wineexp.data.split import RepeatedSplitter

PLAIN_SPLITTERS = (KFold, GroupKFold, StratifiedKFold, StratifiedGroupKFold)
REPEATED_SPLITTERS = (RepeatedKFold, RepeatedStratifiedKFold, RepeatedSplitter)


@dataclass(frozen=True)
class HashedSplit:
    """Which rows are held out, and in which fold each of the others is tested, by their hashes.

    Attributes
    ----------
    n_splits, n_repeats : int
        Folds of each repeat, and repeats; no folds where `n_splits` is 0.
    seed : int
    holdout_parts : int
        One of so many parts is held out; none where it is 0.
    holdout_seed, holdout_fold : int
        The seed, and which of the parts.
    """

    n_splits: int
    n_repeats: int
    seed: int
    holdout_parts: int
    holdout_seed: int
    holdout_fold: int

    @property
    def n_folds(self) -> int:
        """Of all repeats together."""
        return self.n_splits * self.n_repeats

    def is_held_out(self, hashes: Hashes) -> npt.NDArray[np.bool_]:
        """Whether rows of these hashes (n_samples,) are held out: (n_samples,)."""
        if not self.holdout_parts:
            return np.zeros(len(hashes), dtype=bool)
        part = mixed(hashes, HOLDOUT_SALT, self.holdout_seed) % np.uint64(self.holdout_parts)
        return np.asarray(part == self.holdout_fold)

    def is_tested(self, hashes: Hashes, fold: int) -> npt.NDArray[np.bool_]:
        """Whether rows are tested in a fold: (n_samples,)."""
        return np.asarray(
            self._fold_numbers(hashes, fold // self.n_splits) == fold % self.n_splits
        ) & ~self.is_held_out(hashes)

    def is_trained_on(self, hashes: Hashes, fold: int | None) -> npt.NDArray[np.bool_]:
        """Whether rows are trained on in a fold or, where it is None, in the end: (n_samples,)."""
        rest = ~self.is_held_out(hashes)
        return rest if fold is None else rest & ~self.is_tested(hashes, fold)

    def folds(self, hashes: Hashes) -> list[tuple[Indices, Indices]]:
        """Positions of the training rows and of the test rows of each fold among rows that are not held out."""
        tested = [self.is_tested(hashes, fold) for fold in range(self.n_folds)]
        return [(np.flatnonzero(~test), np.flatnonzero(test)) for test in tested]

    def fingerprint(self, hashes: Hashes) -> str:
        """SHA-256 of the assignment of all rows, of hashes (n_samples,), to the holdout and to the folds."""
        digest = hashlib.sha256(f"hashed {self.n_splits} {self.n_repeats} {self.holdout_parts}".encode())
        for chunk in chunks(hashes):
            digest.update(np.packbits(self.is_held_out(chunk)).tobytes())
            for repeat in range(self.n_repeats if self.n_splits else 0):
                digest.update(self._fold_numbers(chunk, repeat).astype(np.uint16).tobytes())
        return digest.hexdigest()

    def _fold_numbers(self, hashes: Hashes, repeat: int) -> npt.NDArray[np.uint64]:
        return mixed(hashes, FOLDS_SALT, self.seed, repeat) % np.uint64(self.n_splits)


def hashed_split(splitter: BaseCrossValidator | None, holdout: Any) -> HashedSplit:
    """The split by hashes with the numbers and seeds of a splitter and of a holdout.

    Parameters
    ----------
    splitter : cross-validator, or None
        None makes no folds.
    holdout : mapping
        `size`, `seed` and, by default 0, `fold`.

    Raises
    ------
    UserError
        The splitter is of another kind than that of k folds, or a setting of the holdout is out of range.
    """
    size, fold = holdout["size"], holdout.get("fold", 0)
    if not 0 <= size <= 0.5:
        raise UserError(f"holdout.size={size}: 0 <= size <= 0.5 must hold")
    parts = round(1 / size) if size else 0
    if not 0 <= fold < max(1, parts):
        raise UserError(f"holdout.fold={fold}: 0 <= fold < {max(1, parts)} must hold, where holdout.size={size}")
    n_splits, n_repeats, seed = 0, 1, 0
    if splitter is not None:
        if not isinstance(splitter, PLAIN_SPLITTERS + REPEATED_SPLITTERS):
            raise UserError(
                f"split: with data.engine=external rows are split by a hash of their contents or group, and a "
                f"{type(splitter).__name__} splits them otherwise; choose split=grouped or repeated"
            )
        n_repeats = int(getattr(splitter, "n_repeats", 1))
        # All of these splitters tell the number of all repeats without rows.
        n_splits = int(splitter.get_n_splits()) // n_repeats
        seed = int(getattr(splitter, "random_state", None) or 0)
    return HashedSplit(n_splits, n_repeats, seed, parts, int(holdout["seed"]), int(fold))
