"""A fast parser for many rows in MLflow's `dataframe_split`.

It only reads bodies of the usual form. Every other, and every one with a fault, is left to the strict parser in
`mlflow`, so that each rule and each error message is in one place.
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


def parse_split(parser: RowParser, body: bytes) -> Rows | None:
    """The rows in a `dataframe_split`, with features in the schema's order; None where the strict parser is needed."""
    # Each row has a bracket, as have `columns`, `data` and `index`: no more rows are decoded than a request may hold.
    if body.count(b"[") > parser.max_rows + 3:
        return None
    try:
        table = _decoder.decode(body).dataframe_split
        if sorted(table.columns) != sorted(parser.features):
            return None
        types = tuple(parser.types[name] for name in table.columns)
        rows = msgspec.json.decode(table.data, type=list[tuple[types]])  # type: ignore[valid-type]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    # Of two equal keys msgspec would take the last. Counting quotes shows that there are none: each string has two.
    keys = 1 + len(table.__struct_fields__) - (table.index is msgspec.UNSET)
    strings = keys + len(types) + len(rows) * len(parser.text_features)
    if not 0 < len(rows) <= parser.max_rows or body.count(b'"') != 2 * strings or b"\\" in body:
        return None
    order = [table.columns.index(name) for name in parser.features]
    if parser.text_features:
        return [tuple([row[position] for position in order]) for row in rows]
    values = np.fromiter(chain.from_iterable(rows), dtype=np.float64, count=len(rows) * len(order))
    return np.take(values.reshape(len(rows), len(order)), order, axis=1)
