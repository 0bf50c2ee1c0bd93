"""Every model over every choice of features, compiled: equal bit for bit, or told why not; lies are refused."""

import contextlib
import io
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import Pipeline
from sklearn.svm import LinearSVC
from threadpoolctl import threadpool_limits
from xgboost import XGBClassifier

from tests.conftest import choices, composed, installed_models, tree_count_keys
from wineexp.core.errors import UserError
from wineexp.models import features
from wineexp.models.compiled import form, kernel, process, proof
from wineexp.models.compiled.flatten import NoFormError, flatten
from wineexp.models.pipeline import make_pipeline
from wineexp.workflows.experiment import assemble

Arrays = dict[str, Any]

COMPILED = ["extratrees", "forest", "histgb", "logreg", "majority", "mlp", "xgb"]

# Rows that a form is held against here; a promotion takes more.
COUNT = 4000


@pytest.fixture(scope="module", autouse=True)
def built() -> None:
    """The library in C, where there is a compiler; without, these tests are of the walk in numpy."""
    kernel.build()


def fitted(*overrides: str) -> tuple[Pipeline, pd.DataFrame]:
    experiment = assemble(composed(*overrides).copy())
    return experiment.fit(), experiment.task.X


@pytest.mark.parametrize("features", sorted({*choices("feature")} - {"without"}))
@pytest.mark.parametrize("name", COMPILED)
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_a_compiled_form_answers_as_its_pipeline(name: str, features: str) -> None:
    pipeline, X = fitted(f"model={name}", f"feature={features}", *(f"{key}=20" for key in tree_count_keys(name)))
    content = form.write(*flatten(pipeline, X))
    proof.prove(content, pipeline, X, COUNT)
    # And once more by other means than the proof's own: training rows, one by one and all at once.
    read = form.read(content)
    table = X.astype(float)
    rows = list(table.itertuples(index=False, name=None))
    with threadpool_limits(1):
        assert read.ask(rows).tolist() == pipeline.predict_proba(table).tolist()
        for place in (0, 50, 100):
            assert read.ask(rows[place : place + 1]).tolist() == pipeline.predict_proba(table.iloc[[place]]).tolist()
    assert read.classes == pipeline.classes_.tolist()


@pytest.mark.parametrize("name", sorted({*installed_models()} - {*COMPILED}))
def test_of_other_models_there_is_no_form_which_is_told(name: str) -> None:
    pipeline, X = fitted(f"model={name}", "feature=scaled", *(f"{key}=5" for key in tree_count_keys(name)))
    with pytest.raises(NoFormError, match=type(pipeline[-1].estimator).__name__):
        flatten(pipeline, X)


def test_of_features_in_an_order_of_their_own_there_is_no_form_which_is_told() -> None:
    pipeline, X = fitted("model=majority", "feature=without")
    with pytest.raises(NoFormError, match="Pipeline"):
        flatten(pipeline, X)


def mixed(count: int = 300) -> tuple[pd.DataFrame, pd.Series]:
    """Rows with missing values and two texts, of which one has two words and one has three."""
    rng = np.random.default_rng(3)
    X = pd.DataFrame(
        {
            "colour": pd.Series(rng.choice(["red", "white"], count), dtype="str"),
            "sugar": rng.lognormal(size=count),
            "ash": rng.normal(size=count),
            "place": pd.Series(rng.choice(["north", "south", "west"], count), dtype="str"),
        }
    )
    X.loc[rng.random(count) < 0.1, "ash"] = np.nan
    y = pd.Series(np.where(X["sugar"] > 1, "sweet", np.where(X["ash"] > 0, "dry", "extra")))
    return X, y


@pytest.mark.parametrize("classes", [["brut", "dry", "extra", "sweet"], ["dry", "extra", "sweet"]])
@pytest.mark.parametrize(
    ("features", "estimator"),
    [
        (features.raw("median"), XGBClassifier(n_estimators=20, n_jobs=1)),
        (features.poly("mean", 3, False), XGBClassifier(n_estimators=20, n_jobs=1)),
        (features.poly("mean", 3, True), RandomForestClassifier(20, random_state=0, n_jobs=1)),
        (
            features.domain("median", 0.01, {"sweetness": ["sugar", "ash"], "none": ["sugar", "salt"]}, 1.0),
            RandomForestClassifier(20, random_state=0, n_jobs=1),
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_texts_missing_values_and_classes_that_training_lacked(
    classes: list[str], features: Any, estimator: Any
) -> None:
    X, y = mixed()
    pipeline = make_pipeline(features, estimator, classes).fit(X, y)
    content = form.write(*flatten(pipeline, X))
    proof.prove(content, pipeline, X, COUNT)
    read = form.read(content)
    assert read.ask([("red", 1.0, None, None)]).tolist() == read.ask([("red", 1.0, np.nan, np.nan)]).tolist()
    with pytest.raises(ValueError, match="rosé"):
        read.ask([("rosé", 1.0, 1.0, "north")])


def test_the_best_round_is_where_a_compiled_booster_stops() -> None:
    X, y = mixed()
    pipeline = make_pipeline(
        features.raw("median"), XGBClassifier(n_estimators=60, n_jobs=1), ["dry", "extra", "sweet"]
    )
    pipeline.fit(X, y)
    pipeline[-1].estimator_.get_booster().set_attr(best_iteration="7")
    content = form.write(*flatten(pipeline, X))
    assert len(form.unpack(content)[1]["model.roots"]) == 8 * 3
    proof.prove(content, pipeline, X, COUNT)


def test_two_classes_have_one_score() -> None:
    X, y = mixed()
    for estimator in (XGBClassifier(n_estimators=20, n_jobs=1, base_score=0.3), composed_model("histgb")):
        pipeline = make_pipeline(features.raw("median"), estimator, ["dry", "sweet"]).fit(X, y.replace("extra", "dry"))
        proof.prove(form.write(*flatten(pipeline, X)), pipeline, X, COUNT)


def composed_model(name: str) -> Any:
    return assemble(composed(f"model={name}").copy()).fit()[-1].estimator


@pytest.fixture(scope="module")
def one() -> tuple[Pipeline, pd.DataFrame, form.Plan, Arrays]:
    pipeline, X = fitted("model=xgb", "feature=domain", "model.n_estimators=10")
    return pipeline, X, *flatten(pipeline, X)


@pytest.mark.parametrize("name", ["model.threshold", "model.values", "model.base"])
def test_the_last_bit_of_a_tree_shows(one: Any, name: str) -> None:
    pipeline, X, plan, arrays = one
    array = arrays[name].copy()
    changed = arrays["model.left"] >= 0 if name == "model.threshold" else np.ones(len(array), dtype=bool)
    array[changed] = np.nextafter(array[changed], array.dtype.type(np.inf))
    with pytest.raises(NoFormError, match=r"probabilities|answers otherwise"):
        proof.prove(form.write(plan, arrays | {name: array}), pipeline, X, COUNT)


# XGBoost rounds to single precision, where the last bit of a step is lost.
@pytest.mark.parametrize("name", ["step2.low", "step4.mean", "step4.scale", "model.weights", "model.offset"])
def test_the_last_bit_of_a_step_shows(name: str) -> None:
    pipeline, X = fitted("model=logreg", "feature=domain")
    plan, arrays = flatten(pipeline, X)
    other = arrays | {name: np.nextafter(arrays[name], np.inf)}
    with pytest.raises(NoFormError, match="probabilities"):
        proof.prove(form.write(plan, other), pipeline, X, COUNT)


def test_what_lets_through_more_than_the_pipeline_is_no_form(one: Any) -> None:
    pipeline, X, plan, arrays = one
    # Clipped first, an infinite ratio would not be seen.
    order = ["ratios", "clip", "impute", "log", "scale"]
    swapped = {name.replace("step2", "stepX").replace("step1", "step2").replace("stepX", "step1"): array
               for name, array in arrays.items()}  # fmt: skip
    other = form.Plan(**{name: getattr(plan, name) for name in plan.__struct_fields__} | {"steps": order})
    with pytest.raises((NoFormError, ValueError)):
        proof.prove(form.write(other, swapped), pipeline, X, COUNT)


@pytest.mark.skipif(kernel.build() is None, reason="no C compiler")
def test_numpy_walks_as_c_does(one: Any) -> None:
    _, X, plan, arrays = one
    rows = list(proof.rows(X, 700, seed=5).itertuples(index=False, name=None))
    native = form.Form(plan, arrays)
    with kernel.plain():
        walked = form.Form(plan, arrays)
        assert kernel.library() is None
        assert walked.ask(rows).tolist() == native.ask(rows).tolist()
        assert walked.ask(rows[:1]).tolist() == native.ask(rows[:1]).tolist()


def test_without_a_compiler_there_is_no_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setattr(kernel, "FOLDER", tmp_path / "build")
    monkeypatch.setenv("CC", "no-such-compiler")
    assert kernel.build() is None
    monkeypatch.setenv("CC", "false")
    assert kernel.build() is None
    assert not list((tmp_path / "build").iterdir())


def test_a_version_is_compiled_in_a_process_of_its_own_that_may_fail(one: Any) -> None:
    pipeline, X, plan, _ = one
    content, told = process.compiled(pipeline, X)
    assert told == form.COMPILED
    assert content is not None
    assert form.read(content).plan == plan
    X, y = mixed()
    other = make_pipeline(features.raw("median"), LinearSVC(), ["dry", "extra", "sweet"]).fit(X, y)
    assert process.compiled(other, X) == (None, "nothing is known of a model LinearSVC")


def broken(change: Callable[[Arrays], Any]) -> Callable[[form.Plan, Arrays], bytes]:
    """A file whose arrays were changed."""

    def made(plan: form.Plan, arrays: Arrays) -> bytes:
        arrays = {name: array.copy() for name, array in arrays.items()}
        change(arrays)
        return form.write(plan, arrays)

    return made


def planned(**changes: Any) -> Callable[[form.Plan, Arrays], bytes]:
    """A file whose plan was changed."""

    def made(plan: form.Plan, arrays: Arrays) -> bytes:
        told = {name: getattr(plan, name) for name in plan.__struct_fields__}
        return form.write(form.Plan(**(told | changes)), arrays)

    return made


def huge() -> bytes:
    """An array that says that it is as large as no memory."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": (2**45,)})
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("plan.npy", file.getvalue())
    return packed.getvalue()


LIES = {
    "no zip": lambda *_: b"PK no zip",
    "cut short": lambda plan, arrays: form.write(plan, arrays)[:-200],
    "flipped": lambda plan, arrays: form.write(plan, arrays).replace(b"\x00\x00", b"\xff\xff"),
    "pickled": lambda *_: _packed(plan=np.array([{}], dtype=object)),
    "huge": lambda *_: huge(),
    "no plan": lambda _, arrays: _packed(**arrays),
    "no array": broken(lambda a: a.pop("model.roots")),
    "other type": broken(lambda a: a.update({"model.left": a["model.left"].astype(np.int64)})),
    "other length": broken(lambda a: a.update({"model.left": a["model.left"][:-1]})),
    "other width": broken(lambda a: a.update({"step1.fill": a["step1.fill"][:-1]})),
    "other shape": broken(lambda a: a.update({"model.values": a["model.values"].reshape(-1)})),
    "root beyond": broken(lambda a: a["model.roots"].__setitem__(0, len(a["model.left"]))),
    "root before": broken(lambda a: a["model.roots"].__setitem__(0, -1)),
    "two roots": broken(lambda a: a["model.roots"].__setitem__(1, a["model.roots"][0])),
    "root is a child": broken(lambda a: a["model.roots"].__setitem__(0, a["model.left"][0])),
    "group beyond": broken(lambda a: a["model.groups"].__setitem__(0, 3)),
    "a loop": broken(lambda a: a["model.left"].__setitem__(0, 0)),
    "backwards": broken(lambda a: a["model.left"].__setitem__(_inner(a)[-1], 0)),
    "child beyond": broken(lambda a: a["model.left"].__setitem__(0, len(a["model.left"]) - 1)),
    "two parents": broken(lambda a: a["model.left"].__setitem__(0, a["model.left"][_inner(a)[1]])),
    "column beyond": broken(lambda a: a["model.feature"].__setitem__(0, 99)),
    "column before": broken(lambda a: a["model.feature"].__setitem__(0, -1)),
    "value beyond": broken(lambda a: a["model.feature"].__setitem__(-1, len(a["model.values"]))),
    "value is no number": broken(lambda a: a["model.values"].__setitem__(-1, np.nan)),
    "ratio beyond": broken(lambda a: a["step0.over"].__setitem__(0, 99)),
    "one-sided": broken(lambda a: a.update({"step0.over": a["step0.over"][:1]})),
    "unknown step": planned(steps=["ratios", "guess"]),
    "unknown model": planned(model="oracle"),
    "other order": planned(order="Z"),
    "no columns": planned(columns=[]),
    "present beyond": planned(present=[0, 1, 9]),
    "nothing present": planned(present=[]),
    "text is no column": planned(texts=[form.Words("colour", ["red"], "red")]),
    "text without words": planned(texts=[form.Words("ash", [], "red")]),
}


def _inner(arrays: Arrays) -> Any:
    return np.flatnonzero(arrays["model.left"] >= 0)


def _packed(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


@pytest.mark.parametrize("lie", LIES)
def test_a_file_that_is_no_compiled_form_is_refused(one: Any, lie: str) -> None:
    _, _, plan, arrays = one
    with pytest.raises(UserError, match="compiled"):
        form.read(LIES[lie](plan, arrays))


def test_whatever_is_in_a_file_it_is_refused_or_it_answers(one: Any) -> None:
    _, X, plan, arrays = one
    row = [tuple(X.iloc[0])]
    rng = np.random.default_rng(7)
    answered = 0
    for _ in range(400):
        changed = {name: array.copy() for name, array in arrays.items()}
        array = changed[rng.choice([name for name, each in changed.items() if each.size])]
        flat = array.view(np.uint8).reshape(-1)
        flat[rng.integers(len(flat), size=3)] = rng.integers(256, size=3)
        with contextlib.suppress(UserError, ValueError), np.errstate(all="ignore"):
            assert form.Form(plan, changed).ask(row).shape == (1, 3)
            answered += 1
    assert 0 < answered < 400
