"""MLflow's scoring protocol: what its clients send to `mlflow models serve` is answered alike."""

import asyncio
import csv
import io
from collections import Counter
from functools import partial
from typing import Any

import msgspec
from litestar import Request, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.response import Response

from wineexp.serving.http import guards
from wineexp.serving.http.problems import MOST_FAULTS, Fault, keys, wrong
from wineexp.serving.metrics import Metrics
from wineexp.serving.model import strict_json
from wineexp.serving.model.predictor import Predictor
from wineexp.serving.model.rows import Row, Rows
from wineexp.serving.model.strict_json import describe
from wineexp.serving.routes import predict, tables

CSV = "text/csv"
FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")


class Predictions(msgspec.Struct, frozen=True):
    """A label for each row, of the type that it has in the data."""

    predictions: list[int | float | str]


@post("/invocations", status_code=200)
async def invocations(request: Request[Any, Any, Any], predictor: Predictor, metrics: Metrics) -> Predictions:
    """Predict labels, for rows in any of MLflow's forms."""
    content, media_type = await guards.body(request, predict.JSON, CSV)
    read = partial(table if media_type == CSV else given, predictor)
    if len(content) > guards.INLINE_BYTES:
        encoded = await asyncio.to_thread(lambda: msgspec.json.encode(_labels(predictor, metrics, read(content))))
        return Response(encoded, media_type=predict.JSON)  # type: ignore[return-value]
    return await predict.asked(predictor, read(content), partial(_labels, predictor, metrics))


def _labels(predictor: Predictor, metrics: Metrics, rows: Rows) -> Predictions:
    """The labels of rows, counted."""
    decided = predictor.classifier.decide(predictor.probabilities(rows)).tolist()
    metrics.count_labels(
        [predictor.schema.classes[place] for place in decided], predictor.parser.count_outside_range(rows)
    )
    return Predictions([predictor.classifier.labels[place] for place in decided])


@get("/ping", media_type="text/plain")
async def ping() -> Response[str]:
    """Whether the process answers."""
    return Response("\n", media_type="text/plain")


@get("/version", media_type="text/plain")
async def version(predictor: Predictor) -> Response[str]:
    """The version of MLflow that the model was recorded with."""
    return Response(predictor.mlflow_version, media_type="text/plain")


def given(predictor: Predictor, content: bytes) -> Rows:
    """The rows in a JSON text of one of MLflow's forms.

    Raises
    ------
    Refused
        400: it is no JSON. 422, with all faults.
    """
    if (plain := tables.split(predictor.parser, content)) is not None:
        return plain
    value = strict_json.decode(content)
    forms = [form for form in FORMS if isinstance(value, dict) and form in value]
    if len(forms) != 1 or keys(value, "", (*forms, "params")):
        raise wrong([Fault(f"an object with one of {', '.join(FORMS)} is wanted, and nothing else but params")], 1)
    if value.get("params"):
        raise wrong([Fault("this model takes no params", "/params")], 1)
    form = forms[0]
    table = value[form]
    if form == "dataframe_split":
        if not isinstance(table, dict) or keys(table, "", ("columns", "data", "index")):
            raise wrong(
                [Fault("an object of columns, data and, if need be, index is wanted, each once", f"/{form}")], 1
            )
        return predictor.parser.parse_objects(
            _named(table.get("data"), table.get("columns"), predictor, f"/{form}/data")
        )
    if form == "inputs" and isinstance(table, dict):
        return predictor.parser.parse_objects(_turned(table, predictor, f"/{form}"))
    if isinstance(table, list) and form != "dataframe_records" and any(isinstance(each, list) for each in table):
        return predictor.parser.parse_objects(_named(table, None, predictor, f"/{form}"))
    if not isinstance(table, list):
        raise wrong([Fault(f"an array of rows is wanted, got {describe(table)}", f"/{form}")], 1)
    return predictor.parser.parse_objects(table)


def table(predictor: Predictor, content: bytes) -> list[Row]:
    """The rows of a CSV text, whose first line names the features.

    Raises
    ------
    Refused
        422, with all faults.
    """
    try:
        lines = list(csv.reader(io.StringIO(content.decode()), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise wrong([Fault(f"the body is no CSV text in UTF-8: {error}")], 1) from error
    if not lines:
        raise wrong([Fault("the body is empty; a line that names the features is wanted, and one for each row")], 1)
    columns, *cells = lines
    cells = [line for line in cells if line]
    return predictor.parser.parse_objects(
        _named([_read(line, columns, predictor) for line in cells], columns, predictor, "")
    )


def _read(line: list[str], columns: list[str], predictor: Predictor) -> list[Any]:
    """Cells as what they are to be; what is no number stays text, and is refused as such."""
    return [
        _number(cell) if column not in predictor.parser.text_features else cell
        for column, cell in zip(columns, line, strict=False)
    ] + line[len(columns) :]


def _number(cell: str) -> Any:
    try:
        # float() takes 1_000 and nan, which no client means.
        return float(cell) if cell.strip() and "_" not in cell else cell
    except ValueError:
        return cell


def _named(data: Any, columns: Any, predictor: Predictor, pointer: str) -> list[dict[str, Any]]:
    """Rows of values as objects; without names, the values are in the schema's order."""
    names = list(predictor.parser.features) if columns is None else columns
    faults = []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        faults.append(Fault("columns is to be an array of the features' names", f"{pointer}/columns"))
    elif repeated := [name for name, count in Counter(names).items() if count > 1]:
        listed = ", ".join(map(describe, repeated[:MOST_FAULTS]))
        faults.append(Fault(f"columns names {listed} more than once", f"{pointer}/columns"))
    if not isinstance(data, list):
        faults.append(Fault(f"an array of rows is wanted, got {describe(data)}", pointer))
    if not faults:
        predictor.parser.check_row_count(len(data))
        faults = [
            Fault(f"row {row}: an array of {len(names)} values is wanted", f"{pointer}/{row}", row)
            for row, values in enumerate(data)
            if not isinstance(values, list) or len(values) != len(names)
        ]
    if faults:
        raise wrong(faults[:MOST_FAULTS], len(faults))
    return [dict(zip(names, values, strict=True)) for values in data]


def _turned(columns: dict[str, Any], predictor: Predictor, pointer: str) -> list[dict[str, Any]]:
    """Columns of values as rows."""
    if faults := keys(columns, pointer):
        raise wrong(faults, len(faults))
    if not all(isinstance(values, list) for values in columns.values()):
        # One row, as single values.
        return [columns]
    lengths = {len(values) for values in columns.values()}
    if len(lengths) != 1:
        raise wrong([Fault(f"columns of one length are wanted, got {sorted(lengths)}", pointer)], 1)
    predictor.parser.check_row_count(*lengths)
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


ROUTES: list[HTTPRouteHandler] = [invocations]
OPEN: list[HTTPRouteHandler] = [ping, version]
