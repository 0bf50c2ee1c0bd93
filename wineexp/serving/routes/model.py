"""What is known of the served version, over HTTP."""

import msgspec
from litestar import get
from litestar.handlers import HTTPRouteHandler

from wineexp.data.schema import Schema
from wineexp.serving.model.predictor import Lineage, Predictor
from wineexp.serving.refresh.follower import AliasFollower


class Source(msgspec.Struct, frozen=True):
    """Where the version comes from.

    Attributes
    ----------
    kind : str
        `registry`, whose alias is followed, or `export`, which is served until the server stops.
    exported_at : str or None
        UTC, ISO 8601.
    note : str or None
        Of the person who exported it.
    """

    kind: str
    exported_at: str | None = None
    note: str | None = None


class Model(msgspec.Struct, frozen=True):
    """The served version.

    Attributes
    ----------
    model : Lineage
    aliases : list of str
        All that named it when it was loaded.
    loaded_at : str
        UTC, ISO 8601.
    stale : bool
        Whether the registry cannot be reached, so that the alias may name another version by now.
    golden_max_difference : float
        The largest difference between its predictions of the golden rows and those stored with it; of numbers, as a
        share of the greatest of them.
    source : Source
    form : str
        `compiled`, or why the pipeline predicts.
    run_name : str
    params, tags : dict of str to str
    metrics : dict of str to float
        Of the run that it was registered from.
    model_schema : Schema
        Under the key `schema`.
    card : str or None
        The model card in Markdown.
    """

    model: Lineage
    aliases: list[str]
    loaded_at: str
    stale: bool
    golden_max_difference: float
    source: Source
    form: str
    run_name: str
    params: dict[str, str]
    metrics: dict[str, float]
    tags: dict[str, str]
    model_schema: Schema = msgspec.field(name="schema")
    card: str | None = None


@get("/model")
async def model(predictor: Predictor, follower: AliasFollower) -> Model:
    """Describe the served version: lineage, metrics, schema with training ranges, model card."""
    version = predictor.version
    return Model(
        model=predictor.lineage,
        aliases=version.aliases,
        loaded_at=predictor.loaded_at,
        stale=follower.unreachable is not None,
        golden_max_difference=predictor.golden_max_difference,
        source=_source(follower),
        form=predictor.form,
        run_name=version.run_name,
        params=version.params,
        metrics={name: value for name, value in version.metrics.items() if not name.startswith("fold/")},
        tags={name: value for name, value in version.tags.items() if not name.startswith("mlflow.")},
        model_schema=predictor.schema,
        card=predictor.card,
    )


def _source(follower: AliasFollower) -> Source:
    export = follower.exported
    return Source("export", export.when, export.note) if export else Source("registry")


PUBLIC_HANDLERS: list[HTTPRouteHandler] = [model]
