"""Whether the distribution of a column has changed since training: tests after blocks of rows, valid at any time."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp

from wineexp.monitoring.fixed_samples import fixed_share_limits
from wineexp.monitoring.reference import ColumnSketch
from wineexp.monitoring.sequential import bet_from_each_step, with_held_back

# A column is tested after blocks of rows: of at least so many, and of a part of the rows before. A year of rows has
# hundreds of blocks, and a shift is found after a few per cent more rows than if each row were a block.
MIN_BLOCK_ROWS, BLOCKS_PER_FACTOR = 20, 32
# Stakes of the tests of columns.
SHARE_STAKES = 2.0 ** -np.arange(1, 10, 2)


@dataclass(frozen=True)
class ColumnFinding:
    """A column, or an answer, of the log beside the reference.

    Attributes
    ----------
    sketch : ColumnSketch
        Of the reference.
    counts : ndarray of int of shape (n_bins,)
        Rows of the log in each of its bins.
    periods : ndarray of int of shape (n_periods, n_bins)
        Likewise, one period after the other.
    log_e_value : float
        Against "the distribution is the reference's".
    shifted : bool
        Whether this is refuted, by e-BH over all columns and answers.
    """

    sketch: ColumnSketch
    counts: npt.NDArray[np.intp]
    periods: npt.NDArray[np.intp]
    log_e_value: float
    shifted: bool = False

    @property
    def moved(self) -> float:
        """The share of rows that would have to be in another bin for the reference's shares: total variation."""
        reference = np.asarray(self.sketch.counts) / max(1, sum(self.sketch.counts))
        return float(np.abs(self.counts / max(1, self.counts.sum()) - reference).sum() / 2)

    def share(self, bins: list[int]) -> tuple[float, float]:
        """The share of rows in some bins, in the reference and in the log."""
        both = np.asarray(self.sketch.counts), self.counts
        reference, now = (float(counts[bins].sum() / max(1, counts.sum())) for counts in both)
        return reference, now


class ColumnTest:
    """Counts a column's bins in blocks of rows, and tests them against the reference's shares."""

    def __init__(self, sketch: ColumnSketch) -> None:
        self.sketch = sketch
        self.blocks = np.zeros((0, sketch.n_bins), dtype=np.intp)

    def update(self, codes: npt.NDArray[np.intp], blocks: npt.NDArray[np.intp]) -> None:
        """Count the bins of more values (n_rows,), each in its block."""
        n_blocks, n_bins = int(blocks[-1]) + 1, self.sketch.n_bins
        if n_blocks > len(self.blocks):
            grown = np.zeros((max(n_blocks, 2 * len(self.blocks)), n_bins), dtype=np.intp)
            grown[: len(self.blocks)] = self.blocks
            self.blocks = grown
        first = int(blocks[0])
        flat = (blocks - first) * n_bins + codes
        counted = np.bincount(flat, minlength=(n_blocks - first) * n_bins).reshape(-1, n_bins)
        self.blocks[first:n_blocks] += counted

    def log_e_value(self, n_blocks: int, level: float) -> float:
        """Against "the shares are those of the reference", after so many blocks.

        For numbers the share up to each edge is tested, for texts the share of each level, and the share of missing
        values, each for more and for less than the interval of the reference's share. All of these intervals hold at
        once with probability 1 - level. The e-value is the mean over these tests.
        """
        counts, reference = self.blocks[:n_blocks], np.asarray(self.sketch.counts)
        n_reference = int(reference.sum())
        if not n_blocks or not n_reference:
            return 0.0
        hits, hits_reference = (_hits(of_bins, self.sketch) for of_bins in (counts, reference))
        low, high = fixed_share_limits(hits_reference, n_reference, level / len(hits_reference))
        rows = counts.sum(axis=1, keepdims=True)
        both = np.concatenate([hits, rows - hits], axis=1)[:, :, None]
        bounds = np.concatenate([high, 1 - low])
        testable = (bounds > 0) & (bounds < 1)
        if not testable.any():
            return 0.0
        both, bounds = both[:, testable], bounds[testable][:, None]
        factors = both * np.log1p(SHARE_STAKES * (1 / bounds - 1)) + (rows[:, :, None] - both) * np.log1p(-SHARE_STAKES)
        steps = np.arange(1, n_blocks + 1)
        capitals = bet_from_each_step(factors, steps)[-1]
        return float(with_held_back(logsumexp(capitals) - np.log(capitals.size), steps[-1]))


def _hits(counts: npt.NDArray[np.intp], sketch: ColumnSketch) -> npt.NDArray[np.intp]:
    """Rows for which each tested thing holds, from rows in each bin (..., n_bins)."""
    if not sketch.is_number:
        return counts
    upto = np.cumsum(counts[..., :-2], axis=-1)
    # The last edge's share is 1 less that above the range.
    return np.concatenate([upto, counts[..., -2:]], axis=-1)


def block_starts(n_rows: int) -> npt.NDArray[np.intp]:
    """The first rows of the blocks up to this row, from 0; they do not depend on when one looks."""
    starts = [0]
    while starts[-1] < n_rows:
        starts.append(starts[-1] + max(MIN_BLOCK_ROWS, starts[-1] // BLOCKS_PER_FACTOR))
    return np.array(starts[: len(starts) - 1] or [0])
