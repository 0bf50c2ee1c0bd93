"""Joins the logged predictions with their truth, which comes late, twice, out of order, or for no prediction.

A truth belongs to the prediction with its request id and row. Of several truths for one row, the last that was received
counts. Of several predictions with the same id and row, as when a client sends a request twice, the first is joined,
for each variant, and the others are counted as repeated: so each truth is joined once.

Neither the log nor the truths need to fit in memory. The truths are split by a hash of their key into files, each
sorted, and the log passes by in order of time. A key is hashed to 128 bits, so that among ten million no two are
mistaken for each other.
"""

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from wineexp.monitoring.format import NUMBER, REQUEST_ID, ROW, TIME, TRUTH, TRUTH_TIME, VARIANT, truth_text

# So many files of truths, by the first bits of their key: one of ten million truths is 6 MB.
PART_BITS = 6
N_PARTS = 2**PART_BITS

# What is stored of a truth, each in 64 bits: its key, the second hash, when it was received, its value where that is a
# number, and otherwise the place of its text among all such texts, from 1.
KEY, CHECK, RECEIVED, VALUE, TEXT = range(5)

# Predictions that are looked up at once: fewer would read the files of truths more often.
LOOKED_UP_ROWS = 40_000

MAX_LISTED_IDS = 100

_HASH_KEYS = "wineexp.log.key1", "wineexp.log.key2"
# An odd number with its bits well mixed: 2^64 divided by the golden ratio.
_ROW_FACTOR = np.uint64(0x9E3779B97F4A7C15)


@dataclass
class JoinCounts:
    """What became of the predictions and the truths, once the whole log was read.

    Attributes
    ----------
    predictions : int
    joined : int
        Predictions with a truth.
    truths : int
        As received.
    replaced : int
        Truths for which a later one came.
    contradicted : int
        Those of them whose value was another than the later one.
    repeated : int
        Predictions whose request id and row an earlier one had, and that are left without truth.
    unjoined : int
        Truths that no prediction has: wrong or unknown ids, or rows that were not logged or are deleted.
    unjoined_ids : list of str
        The first of them, as "request id, row".
    not_numbers : int
        Predicted numbers whose truth is no finite number, and that are left without it.
    not_number_ids : list of str
        The first of them, as "request id, row".
    """

    predictions: int = 0
    joined: int = 0
    truths: int = 0
    replaced: int = 0
    contradicted: int = 0
    repeated: int = 0
    unjoined: int = 0
    unjoined_ids: list[str] = field(default_factory=list)
    not_numbers: int = 0
    not_number_ids: list[str] = field(default_factory=list)


def keys(request_ids: pd.Series, rows: pd.Series) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """Two hashes of 64 bits of each pair of request id and row."""
    texts = request_ids.to_numpy(dtype=object)
    numbers = rows.to_numpy(dtype=np.uint64)
    first, second = (
        pd.util.hash_array(texts, hash_key=key, categorize=False).astype(np.uint64, copy=False) for key in _HASH_KEYS
    )
    with np.errstate(over="ignore"):
        return first ^ (numbers * _ROW_FACTOR), second + numbers


class Truths:
    """Truths, ready to be looked up; a context manager, at whose end its files are gone.

    Parameters
    ----------
    frames : iterable of DataFrame
        Columns `time`, `request_id`, `row` and `truth`, in the order in which they were received.
    counts : JoinCounts
        To which is added what is counted.
    """

    def __init__(self, frames: Iterable[pd.DataFrame], counts: JoinCounts) -> None:
        self._counts = counts
        self._texts: dict[str, int] = {}
        self._bits: dict[str, int] = {}
        # For each part, by which variants each truth was joined, a bit each.
        self._joined: list[npt.NDArray[np.uint8]] = []
        self._folder = tempfile.TemporaryDirectory(prefix="wineexp-truths-")
        try:
            self._split(frames)
            for part in range(N_PARTS):
                self._sort(part)
        except BaseException:
            self._folder.cleanup()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    def join(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Predictions with the columns `truth` and `truth_time`, which are missing where there is no truth that can be.

        Call it with each prediction once, in order of time. `truth` is a number where the predictions have a `number`,
        otherwise a text.
        """
        n_rows = len(frame)
        found = np.zeros(n_rows, dtype=bool)
        values = np.full(n_rows, np.nan)
        texts = np.zeros(n_rows, dtype=np.int64)
        received = np.full(n_rows, np.iinfo(np.int64).min)
        key, check = keys(frame[REQUEST_ID], frame[ROW])
        bits = self._variant_bits(frame[VARIANT])
        order = np.argsort(key, kind="stable")
        ends = np.searchsorted(key[order] >> np.uint64(64 - PART_BITS), np.arange(N_PARTS, dtype=np.uint64), "right")
        for part, start, end in zip(range(N_PARTS), [0, *ends], ends, strict=False):
            stored = self._load(part)
            if start == end or not stored.shape[1]:
                continue
            rows = order[start:end]
            places = np.minimum(np.searchsorted(stored[KEY], key[rows]), stored.shape[1] - 1)
            hit = (stored[KEY][places] == key[rows]) & (stored[CHECK][places] == check[rows])
            rows, places = rows[hit], places[hit]
            for bit in np.unique(bits[rows]):
                of_variant = bits[rows] == bit
                joined_rows, joined_places = self._join_once(part, rows[of_variant], places[of_variant], bit)
                found[joined_rows] = True
                values[joined_rows] = stored[VALUE][joined_places].view(np.float64)
                texts[joined_rows] = stored[TEXT][joined_places]
                received[joined_rows] = stored[RECEIVED][joined_places].view(np.int64)
        is_number = frame[NUMBER].notna().to_numpy() if NUMBER in frame else np.zeros(n_rows, dtype=bool)
        is_unusable = found & is_number & ~np.isfinite(values)
        if is_unusable.any():
            self._count_not_numbers(frame[is_unusable])
            found[is_unusable], received[is_unusable] = False, np.iinfo(np.int64).min
            values[is_unusable] = np.nan
        self._counts.predictions += n_rows
        self._counts.joined += int(found.sum())
        truth = pd.Series(values) if is_number.all() else self._as_texts(found, values, texts)
        if is_number.any() and not is_number.all():
            # Versions of both kinds in one log.
            truth = truth.astype(object).mask(is_number, values)
        times = pd.Series(received.view("datetime64[us]")).dt.tz_localize("UTC")
        joined = frame.copy(deep=False)
        joined[TRUTH], joined[TRUTH_TIME] = truth.to_numpy(), times.array
        return joined

    def count_unjoined(self, frames: Iterable[pd.DataFrame]) -> None:
        """Count the truths that no prediction has, and list the first of them, from the same frames once more."""
        unjoined = [np.flatnonzero(joined == 0) for joined in self._joined]
        self._counts.unjoined = sum(map(len, unjoined))
        if not self._counts.unjoined:
            return
        wanted = [self._load(part)[KEY][places] for part, places in enumerate(unjoined)]
        listed: dict[str, None] = {}
        for frame in frames:
            key, _ = keys(frame[REQUEST_ID], frame[ROW])
            among = np.isin(key, np.concatenate(wanted))
            ids, rows = frame[REQUEST_ID][among], frame[ROW][among]
            listed |= dict.fromkeys(f"{each}, {row}" for each, row in zip(ids, rows, strict=True))
            if len(listed) >= MAX_LISTED_IDS:
                break
        self._counts.unjoined_ids = list(listed)[:MAX_LISTED_IDS]

    def _count_not_numbers(self, frame: pd.DataFrame) -> None:
        self._counts.not_numbers += len(frame)
        n_more = MAX_LISTED_IDS - len(self._counts.not_number_ids)
        of_first = zip(frame[REQUEST_ID][:n_more], frame[ROW][:n_more], strict=True)
        self._counts.not_number_ids += [f"{request_id}, {row}" for request_id, row in of_first]

    def _join_once(
        self, part: int, rows: npt.NDArray[np.intp], places: npt.NDArray[np.intp], bit: int
    ) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """Those rows that are the first with their truth, in order of time, and the places of their truths."""
        # Rows with one key follow each other in order of time.
        places_once, first = np.unique(places, return_index=True)
        is_new = (self._joined[part][places_once] & bit) == 0
        self._joined[part][places_once] |= np.uint8(bit)
        self._counts.repeated += len(rows) - int(is_new.sum())
        return rows[first[is_new]], places_once[is_new]

    def _variant_bits(self, variants: pd.Series) -> npt.NDArray[np.uint8]:
        """The bit of each row's variant."""
        codes, names = pd.factorize(variants)
        for name in names:
            self._bits.setdefault(str(name), 1 << len(self._bits))
        return np.array([self._bits[str(name)] for name in names], dtype=np.uint8)[codes]

    def _as_texts(
        self, found: npt.NDArray[np.bool_], values: npt.NDArray[np.float64], texts: npt.NDArray[np.int64]
    ) -> pd.Series:
        """Truths as texts; missing where there is none."""
        result = pd.Series(np.full(len(found), None, dtype=object))
        is_number = found & (texts == 0)
        numbers, place = np.unique(values[is_number], return_inverse=True)
        result[is_number] = np.array([truth_text(number) for number in numbers.tolist()], dtype=object)[place]
        names = np.array([None, *self._texts], dtype=object)
        result[found & (texts > 0)] = names[texts[found & (texts > 0)]]
        return result.astype("str")

    def _split(self, frames: Iterable[pd.DataFrame]) -> None:
        """Append the truths to the files of their parts."""
        files = [(self._path(part)).open("wb") for part in range(N_PARTS)]
        try:
            for frame in frames:
                records = self._records(frame)
                part = (records[:, KEY] >> np.uint64(64 - PART_BITS)).astype(np.uint8)
                records = records[np.argsort(part, kind="stable")]
                ends = np.cumsum(np.bincount(part, minlength=N_PARTS))
                for file, start, end in zip(files, [0, *ends], ends, strict=False):
                    file.write(records[start:end].tobytes())
                self._counts.truths += len(frame)
        finally:
            for file in files:
                file.close()

    def _records(self, frame: pd.DataFrame) -> npt.NDArray[np.uint64]:
        """Truths as an array of shape (n_truths, 5)."""
        key, check = keys(frame[REQUEST_ID], frame[ROW])
        codes, distinct = pd.factorize(frame[TRUTH])
        values, places = np.full(len(distinct), np.nan), np.zeros(len(distinct), dtype=np.uint64)
        for number, text in enumerate(distinct):
            try:
                values[number] = float(text)
                is_number = truth_text(values[number]) == text
            except (ValueError, OverflowError):
                is_number = False
            if not is_number:
                places[number] = self._texts.setdefault(str(text), len(self._texts) + 1)
        received = frame[TIME].dt.as_unit("us").astype("int64").to_numpy()
        return np.column_stack(
            [key, check, received.view(np.uint64), values[codes].view(np.uint64), places[codes]],
        )

    def _sort(self, part: int) -> None:
        """Sort a part by its key, and keep the last truth of each."""
        records = np.fromfile(self._path(part), dtype=np.uint64).reshape(-1, 5)
        order = np.argsort(records[:, KEY], kind="stable")
        key = records[order, KEY]
        is_last = np.append(key[1:] != key[:-1], True) if len(key) else np.zeros(0, dtype=bool)
        last = order[is_last]
        # What each truth that has a later one is replaced by: the next that is a last one.
        replaced = np.flatnonzero(~is_last)
        by = last[np.searchsorted(np.flatnonzero(is_last), replaced)]
        same = (records[order[replaced]][:, [VALUE, TEXT]] == records[by][:, [VALUE, TEXT]]).all(axis=1)
        self._counts.replaced += len(replaced)
        self._counts.contradicted += int((~same).sum())
        np.save(self._path(part).with_suffix(".npy"), np.ascontiguousarray(records[last].T))
        self._path(part).unlink()
        self._joined.append(np.zeros(len(last), dtype=np.uint8))

    def _load(self, part: int) -> npt.NDArray[np.uint64]:
        """A part: an array of shape (5, n_truths), sorted by its key."""
        stored: npt.NDArray[np.uint64] = np.load(self._path(part).with_suffix(".npy"), mmap_mode="r")
        return stored

    def _path(self, part: int) -> Path:
        return Path(self._folder.name) / str(part)


def gathered(frames: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    """Frames put together to such of about `LOOKED_UP_ROWS` rows."""
    waiting: list[pd.DataFrame] = []
    for frame in frames:
        waiting.append(frame)
        if sum(map(len, waiting)) >= LOOKED_UP_ROWS:
            yield pd.concat(waiting, ignore_index=True)
            waiting = []
    if waiting:
        yield pd.concat(waiting, ignore_index=True)
