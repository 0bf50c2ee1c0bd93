"""Model cards: their values are those of the record, in Markdown and in HTML alike."""

import functools
import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import classification_report

from tests.conftest import composed
from tests.pages import Page, check_accessible, check_self_contained, svg
from wineexp.core.config import config_sha256, flatten_config
from wineexp.evaluation import cross_validation, metrics
from wineexp.evaluation.comparison import corrected_t_test
from wineexp.reports import document
from wineexp.reports.card.card import card
from wineexp.reports.card.inputs import Baseline, CardInputs
from wineexp.reports.document import Bullets, Code, Document, Paragraph, Section, Table, Tiles
from wineexp.tracking import provenance
from wineexp.workflows.experiment import assemble

SECTIONS = ["Overview", "Limits", "Data", "Training", "Metrics", "Classes", "Slices", "Calibration", "Lineage"]


@functools.cache
def card_inputs(*settings: str, baseline: str = "majority", **choices: str) -> CardInputs:
    """The inputs of the card of a small experiment, with a baseline on the same rows."""
    groups = {"data": "cultivar", "target": "cultivar", "feature": "scaled", "split": "grouped", "model": "logreg"}
    groups |= choices
    overrides = [*settings, *(f"{name}={choice}" for name, choice in groups.items())]
    cfg = composed(*overrides)
    experiment = assemble(cfg)
    reference = assemble(composed(*overrides[:-1], f"model={baseline}"))
    task, folds, fitted = experiment.task, list(experiment.cross_validate()), experiment.fit()
    reference_folds = list(reference.cross_validate())
    holdout = task.predict_holdout(fitted)
    assert holdout is not None
    drops = cross_validation.permutation_drops(fitted, task.X_holdout, holdout.y, task.deciding_metric, seed=0)
    return CardInputs(
        task,
        folds,
        holdout,
        Baseline(
            baseline,
            {name: [fold.scores[name] for fold in reference_folds] for name in task.metrics},
            task.score_holdout(task.predict_holdout(reference.fit())),
        ),
        groups | {name: str(value) for name, value in flatten_config(cfg).items()},
        provenance.provenance_tags()
        | task.tags()
        | {"config.sha256": config_sha256(cfg), "git.dirty": "false", "git.commit": "c0"},
        pd.DataFrame(drops, pd.Index(list(task.X), name="feature")),
    )


def section(text: str, heading: str) -> str:
    """The Markdown under one heading."""
    return text.split(f"\n## {heading}\n")[1].split("\n## ")[0]


def rows(text: str, heading: str) -> dict[str, list[str]]:
    """The rows of the tables under a heading, by their first cell; of equal ones, the first row."""
    lines = [re.split(r"(?<!\\) \| ", line[2:-2]) for line in section(text, heading).splitlines() if line[:2] == "| "]
    cells: dict[str, list[str]] = {}
    for first, *others in lines:
        cells.setdefault(first, others)
    return cells


def limits(inputs: CardInputs) -> list[str]:
    return [
        line[2:] for line in section(document.markdown(card(inputs)), "Limits").splitlines() if line.startswith("- ")
    ]


def test_the_metrics_are_those_of_the_folds_and_the_holdout() -> None:
    inputs = card_inputs()
    assert inputs.holdout is not None
    shares = [np.mean(fold.predictions.y == fold.predictions.predicted) for fold in inputs.folds]
    majority = [(inputs.task.encoded(inputs.task.y)[test] == 1).mean() for _, test in inputs.task.folds]
    expected = corrected_t_test(
        np.array(shares), np.array(majority), direction="maximize", test_to_train=0.25, alpha=0.05
    )
    held = np.mean(inputs.holdout.y == inputs.holdout.predicted)
    score, baseline, gain, verdict, holdout, _ = rows(document.markdown(card(inputs)), "Metrics")["accuracy"]
    assert score == f"{np.mean(shares):.4f} ± {np.std(shares, ddof=1):.4f}"
    assert baseline == f"{np.mean(majority):.4f} ± {np.std(majority, ddof=1):.4f}"
    assert gain.startswith(f"+{expected.difference:.4f} (")
    low, high = (float(bound) for bound in re.findall(r"[+](\d\.\d+)", gain)[1:])
    # The folds differ in size, so that their mean ratio of test to training rows is not exactly 0.25.
    assert (low, high) == (pytest.approx(expected.low, abs=1e-3), pytest.approx(expected.high, abs=1e-3))
    assert verdict == "better"
    assert holdout == f"{held:.4f}"


def test_each_class_has_its_precision_recall_and_rows() -> None:
    inputs = card_inputs()
    y = np.concatenate([fold.predictions.y for fold in inputs.folds])
    predicted = np.concatenate([fold.predictions.predicted for fold in inputs.folds])
    report = classification_report(y, predicted, output_dict=True)
    table = rows(document.markdown(card(inputs)), "Classes")
    for code, label in enumerate("123"):
        expected = report[str(code)]
        assert table[label] == [
            f"{int((inputs.task.y == code + 1).sum())}",
            *(f"{expected[name]:.4f}" for name in ("precision", "recall", "f1-score")),
        ]


def test_a_repeated_split_counts_each_row_once() -> None:
    repeated = card_inputs("split.n_splits=2", "split.n_repeats=2", split="repeated")
    once, often = (rows(document.markdown(card(table_inputs)), "Slices") for table_inputs in (card_inputs(), repeated))
    by_class = rows(document.markdown(card(repeated)), "Classes")
    assert sum(int(by_class[label][0]) for label in "123") == 142
    assert all(sum(int(row[0].split()[0]) for row in list(table.values())[2:5]) == 142 for table in (once, often))


def test_slices_are_thirds_of_the_most_important_features() -> None:
    inputs = card_inputs()
    assert inputs.importance is not None
    most = inputs.importance.mean(axis=1).idxmax()
    values = inputs.task.X[most]
    low, high = sorted(values)[int(np.ceil(142 / 3)) - 1], sorted(values)[int(np.ceil(2 * 142 / 3)) - 1]
    inside = ((values > low) & (values <= high)).to_numpy()
    shares = [
        np.mean((fold.predictions.y == fold.predictions.predicted)[inside[fold.test]])
        for fold in inputs.folds
        if inside[fold.test].any()
    ]
    row = rows(document.markdown(card(inputs)), "Slices")[rf"{low:g} \< {most.replace('_', ' ')} ≤ {high:g}"]
    assert row[:2] == [str(inside.sum()), f"{np.mean(shares):.4f}"]


def test_the_card_has_ranges_files_parameters_and_lineage() -> None:
    inputs = card_inputs()
    text = document.markdown(card(inputs))
    proline = inputs.task.X["proline"]
    assert rows(text, "Limits")["proline"] == [f"{proline.min():g} to {proline.max():,.0f}", "not given"]
    assert rows(text, "Limits")["alcohol"][1] == "% vol"
    files = rows(text, "Data")["`data/raw/wine.data`"]
    assert files[1:] == [
        "`3e584720e6718d28509f86f05b7885a1`",
        "`data/raw/wine.data.dvc`",
        "<https://archive.ics.uci.edu/ml/machine-learning-databases/wine/wine.data>",
    ]
    lineage = rows(text, "Lineage")
    assert lineage["`config.sha256`"] == [f"`{inputs.tags['config.sha256']}`"]
    assert lineage["`seed`"] == ["`0`"]
    assert lineage["numpy"] == [np.__version__]
    assert rows(text, "Training")["`model.C`"] == [f"`{inputs.params['model.C']}`"]


def test_calibration_is_that_of_all_out_of_fold_predictions() -> None:
    inputs = card_inputs()
    probabilities = np.concatenate([fold.predictions.probabilities for fold in inputs.folds])
    y = np.concatenate([fold.predictions.y for fold in inputs.folds])
    text = section(document.markdown(card(inputs)), "Calibration")
    brier = ((np.eye(3)[y] - probabilities) ** 2).sum(axis=1).mean()
    assert f"the Brier score (from 0 to 2) is {brier:.4f}" in text
    assert f"the log loss {-np.log(probabilities[range(len(y)), y]).mean():.4f}" in text
    table = rows(document.markdown(card(inputs)), "Calibration")
    assert sum(int(row[-1]) for name, row in table.items() if " to " in name) == 142


def test_a_good_model_passes_all_checks() -> None:
    inputs = card_inputs()
    assert limits(inputs) == []
    assert "All checks passed." in section(document.markdown(card(inputs)), "Limits")


def test_a_class_that_is_never_predicted_is_a_limit() -> None:
    inputs = card_inputs()
    folds = []
    for fold in inputs.folds:
        # The probability of class 3 is moved to class 2.
        probabilities = fold.predictions.probabilities @ [[1, 0, 0], [0, 1, 0], [0, 1, 0]]
        predictions = replace(fold.predictions, probabilities=probabilities, predicted=probabilities.argmax(axis=1))
        folds.append(replace(fold, predictions=predictions))
    messages = limits(replace(inputs, folds=folds))
    count = int((inputs.task.y == 3).sum())
    assert f"Class 3 is never predicted, on any fold ({count} rows)." in messages
    assert not any(line.startswith(("Class 1", "Class 2")) for line in messages)


def test_a_slice_with_wrong_predictions_is_a_limit() -> None:
    inputs = card_inputs()
    folds = []
    for fold in inputs.folds:
        bad = (inputs.task.X["proline"] > 1000).to_numpy()[fold.test]
        probabilities = np.where(
            bad[:, None], np.roll(np.eye(3)[fold.predictions.y], 1, axis=1), fold.predictions.probabilities
        )
        predictions = replace(fold.predictions, probabilities=probabilities, predicted=probabilities.argmax(axis=1))
        scores = metrics.score(predictions, inputs.task.metrics) | {"majority_accuracy": 0.4}
        folds.append(replace(fold, predictions=predictions, scores=scores))
    # Without a recorded importance, the slices are by the features that separate the classes best, proline among them.
    messages = limits(replace(inputs, folds=folds, importance=None))
    assert any(line.startswith(r"It does much worse where proline \> ") for line in messages)
    assert not any("proline ≤" in line for line in messages)


def test_a_model_no_better_than_the_majority_class_is_a_limit() -> None:
    messages = limits(card_inputs(baseline="logreg", model="majority"))
    assert messages[0].startswith("It does not beat the majority class: its accuracy is 0.4015")
    assert messages[1] == "It is worse than the baseline, logreg, in accuracy."
    assert any(line.startswith("Class 1 is never predicted") for line in messages)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"holdout": None}, "Nothing was held out"),
        ({"baseline": None}, "It was not compared with a baseline."),
        ({"tags": {"git.commit": "c0", "git.dirty": "true"}}, "The code had changes that no commit holds"),
        ({"tags": {}}, "The commit of the code is not known."),
    ],
)
def test_missing_evidence_is_a_limit(changes: dict[str, object], message: str) -> None:
    inputs = replace(card_inputs(), **changes)
    (line,) = limits(inputs)
    assert line.startswith(message)
    assert "nan" not in re.sub("<[^>]*>", "", document.html(card(inputs))).lower().split()


def test_an_equal_baseline_shows_no_difference() -> None:
    assert "No difference to the baseline, logreg, is shown in accuracy." in limits(card_inputs(baseline="logreg"))


@pytest.mark.usefixtures("wine_quality")
@pytest.mark.journey
def test_wine_quality_with_its_text_and_a_binned_target() -> None:
    inputs = card_inputs("split.n_splits=2", data="quality", target="good")
    text = document.markdown(card(inputs))
    colours = inputs.task.X["colour"]
    slices = rows(text, "Slices")
    assert slices["colour = red"][0] == f"{(colours == 'red').sum():,}"
    assert slices["colour = white"][0] == f"{(colours == 'white').sum():,}"
    assert rows(text, "Limits")["colour"][0] == "red, white"
    assert "2 classes ordinary (up to 6) and good (above 6)" in text
    assert section(text, "Data").count("`data/raw/winequality-") == 4
    assert not any("exact copy" in line for line in limits(inputs))


@pytest.mark.usefixtures("wine_quality")
def test_copies_of_test_rows_in_training_are_a_limit() -> None:
    inputs = card_inputs("split.n_splits=2", data="red", target="good", split="stratified", model="majority")
    (message,) = [line for line in limits(inputs) if "exact copy" in line]
    X, folds = inputs.task.X, inputs.task.folds
    copied = [
        len(X.iloc[test].merge(X.iloc[train].drop_duplicates(), how="inner", on=list(X))) for train, test in folds
    ]
    assert message.startswith(f"{100 * sum(copied) / len(X):.1f}")


def test_the_same_inputs_give_the_same_bytes() -> None:
    inputs = card_inputs()
    shuffled = replace(
        inputs,
        params=dict(reversed(inputs.params.items())),
        tags=dict(reversed(inputs.tags.items())),
        folds=[replace(fold, fit_seconds=9.0) for fold in inputs.folds],
    )
    assert document.markdown(card(inputs)) == document.markdown(card(shuffled))
    assert document.html(card(inputs)) == document.html(card(shuffled))


def test_the_page_is_self_contained_accessible_and_well_formed() -> None:
    html = document.html(card(card_inputs()))
    check_self_contained(html)
    page = Page(html)
    check_accessible(page)
    assert page.texts_of("h2") == SECTIONS
    (image,) = page.all("img")
    assert image["alt"].startswith("predicted ")
    ET.fromstring(svg(image["src"]))
    # Apart from the tags that need no end tag, the page is XML, so that every tag is closed.
    body = html[html.index("<body>") : html.index("</body>") + len("</body>")]
    ET.fromstring(re.sub(r"(<(?:img|br|meta)[^>]*)>", r"\1/>", body))


def test_markdown_and_html_have_the_same_values() -> None:
    inputs = card_inputs()
    markdown, page = document.markdown(card(inputs)), Page(document.html(card(inputs))).text
    values = re.findall(r"\d\.\d{4}", markdown)
    assert len(values) > 50
    assert [value for value in values if value not in page] == []
    assert [line[3:] for line in markdown.splitlines() if line.startswith("## ")] == SECTIONS


HOSTILE = "<script>alert(1)</script> | a_b *c* `d` [e](javascript:f)\n# g"


def test_markup_in_text_is_escaped() -> None:
    cells = [[HOSTILE, Code(HOSTILE)]]
    parts = [Paragraph(HOSTILE), Bullets([HOSTILE]), Tiles([(HOSTILE, HOSTILE)]), Table(HOSTILE, [HOSTILE, "b"], cells)]
    hostile_document = Document(HOSTILE, HOSTILE, [Section("Overview", parts)])
    html, markdown = document.html(hostile_document), document.markdown(hostile_document)
    assert "<script>" not in html
    assert html.count("&lt;script&gt;alert(1)") == 13
    assert "<script>" not in markdown.replace(r"\<script\>", "")
    (row,) = [line for line in markdown.splitlines() if line.startswith("| ") and line.count(r"\<script") == 2]
    assert len(re.split(r"(?<!\\)\|", row)) == 4
    assert not any(line.startswith("# g") for line in markdown.splitlines())
    assert not re.search(r"(?<!\\)\[e", markdown)


def test_markup_in_a_recorded_name_is_escaped() -> None:
    inputs = card_inputs()
    html = document.html(card(replace(inputs, params={**inputs.params, "model": HOSTILE, "model.x": HOSTILE})))
    assert "<script" not in html
    assert "&lt;script&gt;" in html
