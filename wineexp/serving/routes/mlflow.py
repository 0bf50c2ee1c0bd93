"""MLflow's scoring protocol: clients of `mlflow models serve` can use this server without a change.

As there, columns that are no features are ignored, numbers may be written as texts, and a value may be missing.
"""

import codecs
import csv
import io
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import chain
from typing import Any

import msgspec
from litestar import Request, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.response import Response

from wineexp.core.csv_hints import named_separator
from wineexp.data.schema import NumericFeature, TextFeature
from wineexp.serving.answers import Answers
from wineexp.serving.http import guards
from wineexp.serving.http.problems import MAX_FAULTS, Fault, key_faults, unprocessable
from wineexp.serving.metrics import Metrics
from wineexp.serving.model import strict_json
from wineexp.serving.model.predictor import Predictor
from wineexp.serving.model.rows import NoRow, RowParser, Rows
from wineexp.serving.model.strict_json import MAX_VALUES, Value, describe
from wineexp.serving.routes import predict, tables

CSV = "text/csv"
SEPARATORS = ",;\t"
# The cells that pandas reads as missing values by default.
MISSING_CELLS = {"", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>"} | {
    "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"
}  # fmt: skip
FORMATS = ("dataframe_split", "dataframe_records", "instances", "inputs")
# Python holds a line of a CSV text with up to ten times its bytes.
MAX_LINE_CHARS = 2**20

Feature = NumericFeature | TextFeature


class Predictions(msgspec.Struct, frozen=True):
    """MLflow's response: a label for each row, of the type that it has in the data, or a number."""

    predictions: list[int | float | str]


@post("/invocations", status_code=200)
async def invocations(
    request: Request[Any, Any, Any], predictor: Predictor, metrics: Metrics, answers: Answers
) -> Predictions:
    """Predict labels or numbers, for rows in any of MLflow's formats."""
    body = await guards.read_body(request, predict.JSON, CSV)
    parse = parse_csv if body.media_type == CSV else parse_json
    rows = await guards.parse_body(partial(parse, predictor.parser), body)
    encode = partial(encode_answers, predictor, metrics, answers, request.scope["state"])
    return await predict.respond(predictor, rows, encode)  # type: ignore[return-value]


def encode_answers(
    predictor: Predictor, metrics: Metrics, answers: Answers, state: Mapping[str, Any], rows: Rows
) -> bytes:
    """Predict the labels or numbers of rows, count them and hand them on, and encode the response."""
    outputs = predictor.outputs(rows)
    values = predictor.answers(outputs)
    metrics.count_answers(predictor, values, predictor.parser.count_out_of_range(rows))
    answers.hand_on(state, predictor, rows, outputs)
    return msgspec.json.encode(Predictions(values))


@get(["/ping", "/health"], media_type="text/plain")
async def ping() -> Response[str]:
    """Tell that the process responds."""
    return Response("\n", media_type="text/plain")


@get("/version", media_type="text/plain")
async def version(predictor: Predictor) -> Response[str]:
    """Give the version of MLflow that stored the model."""
    return Response(predictor.mlflow_version, media_type="text/plain")


def parse_json(parser: RowParser, body: bytes) -> Rows:
    """The rows in a JSON text of one of MLflow's formats.

    Raises
    ------
    ProblemError
        400: it is not JSON. 422: it is in none of the formats, or rows are wrong; with all faults.
    """
    if (rows := tables.parse_split(parser, body)) is not None:
        return rows
    value = strict_json.read(body.removeprefix(codecs.BOM_UTF8))
    fields = value.members() if value.is_object else {}
    formats = [name for name in FORMATS if name in fields]
    if len(formats) != 1 or key_faults(fields, "", (*formats, "params")):
        message = f"an object with one of {', '.join(FORMATS)} is wanted, and nothing else but params"
        raise unprocessable([Fault(message)])
    if "params" in fields and fields["params"].decode():
        raise unprocessable([Fault("this model takes no params", "/params")])
    name = formats[0]
    table, pointer = fields[name], f"/{name}"
    if name == "dataframe_split":
        return parser.parse_objects(_objects_of_split(parser, table, pointer))
    if name != "dataframe_records":
        if table.is_object:
            return parser.parse_objects(_objects_of_columns(parser, table, pointer))
        if holds_arrays(table):
            message = "the model's columns have names: an array of objects is wanted, or an object of columns"
            raise unprocessable([Fault(message, pointer)])
    return parser.parse_objects(objects_of_records(parser, table, pointer))


def holds_arrays(table: Value) -> bool:
    """Whether the first element of an array is an array."""
    first = next(table.elements(), None) if table.is_array else None
    return first is not None and first.is_array


def objects_of_records(parser: RowParser, table: Value, pointer: str) -> Iterator[Any]:
    """The objects in an array, one at a time, without the keys that are no features."""
    if not table.is_array:
        kind = "an object" if table.is_object else describe(table.decode())
        raise unprocessable([Fault(f"an array of rows is wanted, got {kind}", pointer)])
    return (_features_only(parser, element.decode()) for element in table.elements())


def objects_of_values(parser: RowParser, table: Value, columns: list[str]) -> Iterator[Any]:
    """The arrays of values in an array, one at a time, as objects of those that are features."""
    return objects_of_rows(parser, (element.decode() for element in table.elements()), columns, lenient_value)


def parse_csv(parser: RowParser, body: bytes) -> Rows:
    """The rows of a CSV text, whose first line names the columns, after one that names the separator, as in Excel's.

    The separator is the comma, semicolon or tab with which that line names the most features.

    Raises
    ------
    ProblemError
        422, with all faults.
    """
    lines = _lines(body)
    try:
        head = next(lines, "")
        separator = named_separator(head)
        if separator is None:
            separator, lines = _separator(head, parser), chain([head], lines)
        rows = csv.reader(lines, delimiter=separator, strict=True)
        columns = next(rows, None)
        if columns is None:
            message = "the body is empty; a line that names the features is wanted, and one for each row"
            raise unprocessable([Fault(message)])
        check_columns(parser, columns, "")
        return parser.parse_objects(objects_of_rows(parser, filter(None, rows), columns, cell_value))
    except (UnicodeDecodeError, csv.Error) as error:
        raise unprocessable([Fault(f"the body is no CSV text in UTF-8: {error}")]) from error


def _lines(body: bytes) -> Iterator[str]:
    """The lines of a text, one at a time."""
    for line in io.TextIOWrapper(io.BytesIO(body), "utf-8-sig", newline=""):
        if len(line) > MAX_LINE_CHARS:
            raise csv.Error(f"a line has more than {MAX_LINE_CHARS} characters")
        yield line


def _separator(head: str, parser: RowParser) -> str:
    """The separator with which the first line of a CSV text names the most features."""

    def count_features(separator: str) -> int:
        columns = next(csv.reader([head], delimiter=separator), [])
        return len({parser.feature_name(column) for column in columns} - {None})

    return max(SEPARATORS, key=count_features)


def cell_value(cell: str, feature: Feature) -> Any:
    """The number or text in a cell, None where there is none; the cell itself where it is wrong, to be refused."""
    if isinstance(feature, TextFeature) and cell in feature.values:
        return cell
    return None if cell.strip() in MISSING_CELLS else lenient_value(cell, feature)


def lenient_value(value: Any, feature: Feature) -> Any:
    """A decoded value with the type of its feature, where MLflow would convert it; otherwise the value itself."""
    if isinstance(feature, NumericFeature) and isinstance(value, str | bool):
        try:
            # float() would take 1_000, which is no number in a text.
            return value if isinstance(value, str) and "_" in value else float(value)
        except ValueError:
            return value
    return value


def _features_only(parser: RowParser, value: Any) -> Any:
    """A decoded object without the keys that are no features; what is no object as it is."""
    if not isinstance(value, dict):
        return value
    features = strict_json.renamed(value, parser.feature_name)
    for name, each in features.items():
        features[name] = lenient_value(each, parser.features[name])
    return features


def _objects_of_split(parser: RowParser, table: Value, pointer: str) -> Iterator[Any]:
    fields = table.members() if table.is_object else {}
    if not fields or key_faults(fields, pointer, ("columns", "data", "index")):
        message = "an object of columns, data and, optionally, index is wanted, each once"
        raise unprocessable([Fault(message, pointer)])
    columns: Any = fields["columns"].decode() if "columns" in fields else None
    check_columns(parser, columns, f"{pointer}/columns")
    if "data" not in fields or not fields["data"].is_array:
        raise unprocessable([Fault("an array of rows is wanted", f"{pointer}/data")])
    if "index" in fields:
        fields["index"].check()
    return objects_of_values(parser, fields["data"], columns)


def check_columns(parser: RowParser, columns: Any, pointer: str) -> None:
    """Check that a table names each feature once."""
    if not isinstance(columns, list) or not all(isinstance(name, str) for name in columns):
        raise unprocessable([Fault("an array of the features' names is wanted as columns", pointer)])
    features = Counter(filter(None, map(parser.feature_name, columns)))
    faults = []
    if repeated := [name for name, count in features.items() if count > 1]:
        listed = ", ".join(map(describe, repeated[:MAX_FAULTS]))
        faults.append(Fault(f"columns names {listed} more than once", pointer))
    faults += [
        Fault(f"the column {name} is missing", pointer, field=name) for name in parser.features if name not in features
    ]
    if faults:
        raise unprocessable(faults[:MAX_FAULTS], len(faults))


def objects_of_rows(
    parser: RowParser, rows: Iterable[Any], columns: list[str], convert: Callable[[Any, Feature], Any]
) -> Iterator[Any]:
    """Arrays of values, one for each column, as objects of those that are features."""
    features = [
        (position, name, parser.features[name])
        for position, name in enumerate(map(parser.feature_name, columns))
        if name is not None
    ]
    for values in rows:
        if not isinstance(values, list) or len(values) != len(columns):
            yield NoRow(f"an array of {len(columns)} values is wanted")
        else:
            yield {name: convert(values[position], feature) for position, name, feature in features}


def _objects_of_columns(parser: RowParser, table: Value, pointer: str) -> Iterator[Any]:
    """Columns of values as objects; single values make one row."""
    fields = table.members()
    if faults := key_faults(fields, pointer):
        raise unprocessable(faults)
    if not all(values.is_array for values in fields.values()):
        yield _features_only(parser, table.decode())
        return
    check_columns(parser, list(fields), pointer)
    columns: dict[str, list[Any]] = {}
    for column, values in fields.items():
        if (name := parser.feature_name(column)) is None:
            values.check()
        else:
            columns[name] = values.decode(max(MAX_VALUES, parser.max_rows))
            parser.check_row_count(len(columns[name]))
    lengths = {len(values) for values in columns.values()}
    if len(lengths) != 1:
        raise unprocessable([Fault(f"columns of one length are wanted, got {sorted(lengths)}", pointer)])
    yield from objects_of_rows(parser, map(list, zip(*columns.values(), strict=True)), list(columns), lenient_value)


PREDICTION_HANDLERS: list[HTTPRouteHandler] = [invocations]
PUBLIC_HANDLERS: list[HTTPRouteHandler] = [ping, version]
