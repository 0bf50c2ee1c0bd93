"""Many rows in MLflow's own form, read at once.

Only what is plain in every respect is read here; anything else, and all that is to be refused, takes the strict way, so
that there is one place where each rule is kept and each fault is told.
"""

from itertools import chain

import msgspec
import numpy as np

from wineexp.serving.model.rows import RowParser, Rows


class _Split(msgspec.Struct, forbid_unknown_fields=True):
    columns: list[str]
    data: msgspec.Raw
    index: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    dataframe_split: _Split


_decoder = msgspec.json.Decoder(_Body)


def split(parser: RowParser, body: bytes) -> Rows | None:
    """The rows in a `dataframe_split`, their features in the schema's order; None where it is not plain."""
    try:
        told = _decoder.decode(body).dataframe_split
        if sorted(told.columns) != sorted(parser.features):
            return None
        kinds = tuple(parser.types[name] for name in told.columns)
        rows = msgspec.json.decode(told.data, type=list[tuple[kinds]])  # type: ignore[valid-type]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    # Each key once; msgspec would let the last of two equal keys win.
    words = (
        1
        + len(told.__struct_fields__)
        - (told.index is msgspec.UNSET)
        + len(kinds)
        + len(rows) * len(parser.text_features)
    )
    if not 0 < len(rows) <= parser.max_rows or body.count(b'"') != 2 * words or b"\\" in body:
        return None
    order = [told.columns.index(name) for name in parser.features]
    if parser.text_features:
        return [tuple([row[place] for place in order]) for row in rows]
    values = np.fromiter(chain.from_iterable(rows), dtype=np.float64, count=len(rows) * len(order))
    return np.take(values.reshape(len(rows), len(order)), order, axis=1)
