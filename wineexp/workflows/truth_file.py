"""Reads truths from a file, stores them in the prediction log, and says which predictions they belong to."""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from wineexp.core.errors import UserError, did_you_mean
from wineexp.monitoring import prediction_log
from wineexp.monitoring.format import NUMBER, REQUEST_ID, ROW, TIME, TRUTH, VARIANT, truth_text
from wineexp.monitoring.truth import JoinCounts, Truths, gathered
from wineexp.workflows.console import Bar
from wineexp.workflows.row_file import MAX_LISTED_FAULTS, RowFile, listed

if TYPE_CHECKING:
    import pandas as pd

ROWS_AT_ONCE = 50_000

Truth = tuple[str, int, str]


def check(file: RowFile) -> int:
    """Read the whole file; returns how many truths are in it.

    Raises
    ------
    UserError
        With all that is wrong with it, by line and column; nothing is stored then.
    """
    faults = [
        f"{file.name}: the column {name} is missing; {did_you_mean(name, file.columns)}"
        for name in (REQUEST_ID, TRUTH)
        if name not in file.columns
    ]
    if faults:
        raise UserError(*faults)
    n_faults = n_rows = 0
    with Bar("checking", file.size) as bar:
        for chunk in file.chunks(ROWS_AT_ONCE):
            for place, row in zip(chunk.places, chunk.rows, strict=True):
                for fault in _faults(dict(zip(file.columns, row, strict=True))):
                    n_faults += 1
                    if n_faults <= MAX_LISTED_FAULTS:
                        faults.append(f"{file.name}: {file.place} {place}, {fault}")
            n_rows += len(chunk.rows)
            bar.show(chunk.read)
    if faults:
        raise UserError(*listed(faults, n_faults))
    if not n_rows:
        raise UserError(f"{file.name}: no truths are in it; a {file.place} for each is wanted")
    return n_rows


def store(file: RowFile, address: str) -> int:
    """Append the truths of a checked file to the log; returns how many.

    Raises
    ------
    UserError
        They cannot be stored; some of them may be, and to store them again does no harm.
    """
    received = time.time_ns() // 1000
    with Bar("storing", file.size) as bar:
        truths = ((received, *truth) for chunk in bar.over(file.chunks(ROWS_AT_ONCE)) for truth in _truths(file, chunk))
        try:
            return prediction_log.append_truths(address, truths)
        except OSError as error:
            raise UserError(f"log={address}: the truths cannot be stored: {error}") from error


def join(file: RowFile, address: str) -> JoinCounts:
    """What becomes of the truths of a checked file when they are joined with the log.

    Raises
    ------
    UserError
        Truths of predicted numbers are no numbers.
    """
    counts = JoinCounts()
    with Truths(_frames(file), counts) as truths:
        for frame in gathered(prediction_log.read(address, columns=[REQUEST_ID, ROW, VARIANT, NUMBER])):
            truths.join(frame)
        truths.count_unjoined(_frames(file))
    if counts.not_numbers:
        faults = [
            f"{file.name}: request id and row {each}: a number was predicted, and the truth is none"
            for each in counts.not_number_ids[:MAX_LISTED_FAULTS]
        ]
        raise UserError(*listed(faults, counts.not_numbers))
    return counts


def _faults(cells: dict[str, Any]) -> Iterator[str]:
    """What is wrong with a row, each with its column first."""
    if not _text(cells[REQUEST_ID]):
        yield f"{REQUEST_ID}: is empty; the X-Request-ID of a prediction is wanted"
    if not _text(cells[TRUTH]) or cells[TRUTH] != cells[TRUTH]:
        yield f"{TRUTH}: is empty; a class or a number is wanted"
    row = cells.get(ROW)
    if _text(row) and not (_text(row).isdecimal() and int(_text(row)) < 2**31):
        yield f"{ROW}: is {row!r}; which row of the request is wanted, from 0"


def _truths(file: RowFile, chunk: Any) -> Iterator[Truth]:
    id_place, truth_place = file.columns.index(REQUEST_ID), file.columns.index(TRUTH)
    row_place = file.columns.index(ROW) if ROW in file.columns else None
    for row in chunk.rows:
        number = 0 if row_place is None else int(_text(row[row_place]) or 0)
        yield _text(row[id_place]), number, truth_text(row[truth_place])


def _frames(file: RowFile) -> "Iterator[pd.DataFrame]":
    import pandas as pd

    for chunk in file.chunks(ROWS_AT_ONCE):
        frame = pd.DataFrame(list(_truths(file, chunk)), columns=[REQUEST_ID, ROW, TRUTH])
        frame[TIME] = pd.Timestamp(0, tz="UTC").as_unit("us")
        yield frame


def _text(value: Any) -> str:
    return "" if value is None else str(value).strip()
