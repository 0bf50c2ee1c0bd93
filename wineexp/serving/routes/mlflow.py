"""MLflow's scoring protocol: clients of `mlflow models serve` can use this server without a change.

As there, columns that are no features are ignored, and a value may be missing.
"""

import asyncio
import csv
import io
import re
from collections import Counter
from functools import partial
from typing import Any

import msgspec
from litestar import Request, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.response import Response

from wineexp.data.schema import NumericFeature, TextFeature
from wineexp.serving.http import guards
from wineexp.serving.http.problems import MAX_FAULTS, Fault, key_faults, unprocessable
from wineexp.serving.metrics import Metrics
from wineexp.serving.model import strict_json
from wineexp.serving.model.predictor import Predictor
from wineexp.serving.model.rows import Row, RowParser, Rows
from wineexp.serving.model.strict_json import describe
from wineexp.serving.routes import predict, tables

CSV = "text/csv"
SEPARATORS = ",;\t"
# The cells that pandas reads as missing values by default.
MISSING_CELLS = {"", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>"} | {
    "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"
}  # fmt: skip
FORMATS = ("dataframe_split", "dataframe_records", "instances", "inputs")


class Predictions(msgspec.Struct, frozen=True):
    """MLflow's response: a label for each row, of the type that it has in the data."""

    predictions: list[int | float | str]


@post("/invocations", status_code=200)
async def invocations(request: Request[Any, Any, Any], predictor: Predictor, metrics: Metrics) -> Predictions:
    """Predict labels, for rows in any of MLflow's formats."""
    body, media_type = await guards.read_body(request, predict.JSON, CSV)
    parse = partial(parse_csv if media_type == CSV else parse_json, predictor.parser)
    if len(body) > guards.MAX_INLINE_BYTES:
        encoded = await asyncio.to_thread(lambda: msgspec.json.encode(_predict_labels(predictor, metrics, parse(body))))
        return Response(encoded, media_type=predict.JSON)  # type: ignore[return-value]
    return await predict.compute(predictor, parse(body), partial(_predict_labels, predictor, metrics))


def _predict_labels(predictor: Predictor, metrics: Metrics, rows: Rows) -> Predictions:
    """Predict the labels of rows, and count them."""
    positions = predictor.classifier.decide(predictor.probabilities(rows)).tolist()
    classes, labels = predictor.schema.classes, predictor.classifier.labels
    metrics.count_labels([classes[position] for position in positions], predictor.parser.count_out_of_range(rows))
    return Predictions([labels[position] for position in positions])


@get("/ping", media_type="text/plain")
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
    value = strict_json.decode(body)
    formats = [name for name in FORMATS if isinstance(value, dict) and name in value]
    if len(formats) != 1 or key_faults(value, "", (*formats, "params")):
        message = f"an object with one of {', '.join(FORMATS)} is wanted, and nothing else but params"
        raise unprocessable([Fault(message)])
    if value.get("params"):
        raise unprocessable([Fault("this model takes no params", "/params")])
    name = formats[0]
    table = value[name]
    if name == "dataframe_split":
        if not isinstance(table, dict) or key_faults(table, "", ("columns", "data", "index")):
            message = "an object of columns, data and, optionally, index is wanted, each once"
            raise unprocessable([Fault(message, f"/{name}")])
        objects = _objects_of_rows(parser, table.get("data"), table.get("columns"), f"/{name}/data")
    elif name == "inputs" and isinstance(table, dict):
        objects = _objects_of_columns(parser, table, f"/{name}")
    elif not isinstance(table, list):
        raise unprocessable([Fault(f"an array of rows is wanted, got {describe(table)}", f"/{name}")])
    elif name != "dataframe_records" and any(isinstance(row, list) for row in table):
        objects = _objects_of_rows(parser, table, None, f"/{name}")
    else:
        objects = table
    return _features_only(parser, objects)


def parse_csv(parser: RowParser, body: bytes) -> list[Row]:
    """The rows of a CSV text, whose first line names the columns, after one that names the separator, as in Excel's.

    The separator is the comma, semicolon or tab with which that line names the most features.

    Raises
    ------
    ProblemError
        422, with all faults.
    """
    try:
        separator, text = _separator(body.decode("utf-8-sig"), parser)
        lines = list(csv.reader(io.StringIO(text), delimiter=separator, strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise unprocessable([Fault(f"the body is no CSV text in UTF-8: {error}")]) from error
    if not lines:
        message = "the body is empty; a line that names the features is wanted, and one for each row"
        raise unprocessable([Fault(message)])
    columns, *rows = lines
    features = [parser.features.get(parser.feature_name(column) or "") for column in columns]
    values = [_convert(row, features) for row in rows if row]
    return _features_only(parser, _objects_of_rows(parser, values, columns, ""))


def _features_only(parser: RowParser, objects: list[Any]) -> list[Row]:
    """The rows in decoded objects, whose keys that are no features are ignored, as MLflow does."""
    return parser.parse_objects(
        [strict_json.renamed(value, parser.feature_name) if isinstance(value, dict) else value for value in objects]
    )


def _separator(text: str, parser: RowParser) -> tuple[str, str]:
    """The separator of a CSV text, with which its first line names the most features, and the text from there on."""
    head, _, rest = text.partition("\n")
    if named := re.fullmatch(r"sep=(.)\r?", head):
        return named[1], rest

    def count_features(separator: str) -> int:
        columns = next(csv.reader([head], delimiter=separator), [])
        return len({parser.feature_name(column) for column in columns} - {None})

    return max(SEPARATORS, key=count_features), text


def _convert(cells: list[str], features: list[NumericFeature | TextFeature | None]) -> list[Any]:
    """Cells with the types of their columns; cells beyond the last column stay, for the row to be refused."""
    converted = [_cell_value(cell, feature) for feature, cell in zip(features, cells, strict=False)]
    return converted + cells[len(features) :]


def _cell_value(cell: str, feature: NumericFeature | TextFeature | None) -> Any:
    """The number or text in a cell, None where there is none; the cell itself where it is wrong, to be refused."""
    if isinstance(feature, TextFeature) and cell in feature.values:
        return cell
    if cell.strip() in MISSING_CELLS:
        return None
    try:
        # float() would take 1_000, which is no number in a CSV text.
        return float(cell) if isinstance(feature, NumericFeature) and "_" not in cell else cell
    except ValueError:
        return cell


def _objects_of_rows(parser: RowParser, data: Any, columns: Any, pointer: str) -> list[dict[str, Any]]:
    """Arrays of values as objects; where `columns` is None, the values are in the schema's order."""
    names = list(parser.features) if columns is None else columns
    faults = []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        faults.append(Fault("an array of the features' names is wanted as columns", f"{pointer}/columns"))
    else:
        features = Counter(filter(None, map(parser.feature_name, names)))
        if repeated := [name for name, count in features.items() if count > 1]:
            listed = ", ".join(map(describe, repeated[:MAX_FAULTS]))
            faults.append(Fault(f"columns names {listed} more than once", f"{pointer}/columns"))
        faults += [
            Fault(f"the column {name} is missing", f"{pointer}/columns", field=name)
            for name in parser.features
            if name not in features
        ]
    if not isinstance(data, list):
        faults.append(Fault(f"an array of rows is wanted, got {describe(data)}", pointer))
    if not faults:
        parser.check_row_count(len(data))
        faults = [
            Fault(f"row {row}: an array of {len(names)} values is wanted", f"{pointer}/{row}", row)
            for row, values in enumerate(data)
            if not isinstance(values, list) or len(values) != len(names)
        ]
    if faults:
        raise unprocessable(faults[:MAX_FAULTS], len(faults))
    return [dict(zip(names, values, strict=True)) for values in data]


def _objects_of_columns(parser: RowParser, columns: dict[str, Any], pointer: str) -> list[dict[str, Any]]:
    """Columns of values as objects; single values make one row."""
    if faults := key_faults(columns, pointer):
        raise unprocessable(faults)
    if not all(isinstance(values, list) for values in columns.values()):
        return [columns]
    lengths = {len(values) for values in columns.values()}
    if len(lengths) != 1:
        raise unprocessable([Fault(f"columns of one length are wanted, got {sorted(lengths)}", pointer)])
    parser.check_row_count(*lengths)
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


PREDICTION_HANDLERS: list[HTTPRouteHandler] = [invocations]
PUBLIC_HANDLERS: list[HTTPRouteHandler] = [ping, version]
