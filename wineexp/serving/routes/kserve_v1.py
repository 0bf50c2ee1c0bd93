"""KServe's first protocol, which its clients speak by default. Its predictions are those of MLflow's protocol."""

from functools import partial
from typing import Any

from litestar import Request, get, post
from litestar.handlers import HTTPRouteHandler

from wineexp.serving.answers import Answers
from wineexp.serving.http import guards
from wineexp.serving.http.problems import Fault, key_faults, unprocessable
from wineexp.serving.metrics import Metrics
from wineexp.serving.model import strict_json
from wineexp.serving.model.predictor import Predictor
from wineexp.serving.model.rows import RowParser, Rows
from wineexp.serving.routes import mlflow, predict
from wineexp.serving.routes.mlflow import Predictions
from wineexp.serving.routes.open_inference import ModelReady, Models, check_served

FORMATS = ("instances", "inputs")


@get("/v1/models")
async def v1_models(predictor: Predictor) -> Models:
    """List the one model that is served."""
    return Models([predictor.lineage.name])


@get("/v1/models/{name:str}")
async def v1_model_ready(predictor: Predictor, name: str) -> ModelReady:
    """Tell that this model is served."""
    check_served(predictor, name)
    return ModelReady(name, ready=True)


@post("/v1/models/{name:str}/predict", status_code=200, opt={"path": "/v1/models/{name}:predict"})
async def v1_predict(
    request: Request[Any, Any, Any], predictor: Predictor, metrics: Metrics, answers: Answers, name: str
) -> Predictions:
    """Predict labels or numbers, for rows as objects, or as arrays in the order of the model's features."""
    check_served(predictor, name)
    body = await guards.read_body(request, predict.JSON, default=predict.JSON)
    rows = await guards.parse_body(partial(parse_instances, predictor.parser), body)
    encode = partial(mlflow.encode_answers, predictor, metrics, answers, request.scope["state"])
    return await predict.respond(predictor, rows, encode)  # type: ignore[return-value]


def parse_instances(parser: RowParser, body: bytes) -> Rows:
    """The rows in an object with an array of instances, which may be called inputs.

    Raises
    ------
    ProblemError
        400: it is not JSON. 422: it is no such object, or rows are wrong; with all faults.
    """
    value = strict_json.read(body)
    fields = value.members() if value.is_object else {}
    if len(fields) != 1 or key_faults(fields, "", FORMATS):
        raise unprocessable([Fault(f"an object with one of {' and '.join(FORMATS)} is wanted, and nothing else")])
    ((name, table),) = fields.items()
    if mlflow.holds_arrays(table):
        return parser.parse_objects(mlflow.objects_of_values(parser, table, list(parser.features)))
    return parser.parse_objects(mlflow.objects_of_records(parser, table, f"/{name}"))


PREDICTION_HANDLERS: list[HTTPRouteHandler] = [v1_predict]
PUBLIC_HANDLERS: list[HTTPRouteHandler] = [v1_models, v1_model_ready]
