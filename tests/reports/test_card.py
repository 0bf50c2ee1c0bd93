"""Model cards: what they say is what was recorded, in Markdown and in HTML alike."""

import functools
import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as reference

from tests.conftest import composed
from tests.programs.test_explore import Page, addresses, svg
from wineexp.core.config import config_sha256, flatten_config
from wineexp.evaluation import cross_validation, metrics
from wineexp.evaluation.comparison import corrected_t_test
from wineexp.reports import document
from wineexp.reports.card import card
from wineexp.reports.card.inputs import Baseline, Facts
from wineexp.reports.document import Bullets, Code, Document, Paragraph, Section, Table, Tiles
from wineexp.tracking import provenance
from wineexp.workflows.experiment import assemble

SECTIONS = ["Overview", "Limits", "Data", "Training", "Metrics", "Classes", "Slices", "Calibration", "Lineage"]


@functools.cache
def made(baseline: str = "majority", **choices: str) -> Facts:
    """The facts of a small experiment, and of a baseline on the same rows."""
    groups = {"data": "cultivar", "target": "cultivar", "feature": "scaled", "split": "grouped", "model": "logreg"}
    groups |= choices
    fewer = ["split.n_repeats=2"] if groups["split"] == "repeated" else []
    overrides = [*fewer, *(f"{name}={choice}" for name, choice in groups.items())]
    cfg = composed(*overrides)
    experiment = assemble(cfg)
    other = assemble(composed(*overrides[:-1], f"model={baseline}"))
    task, folds, fitted = experiment.task, list(experiment.cross_validate()), experiment.fit()
    theirs = list(other.cross_validate())
    holdout = task.predict_holdout(fitted)
    assert holdout is not None
    drops = cross_validation.permutation_drops(fitted, task.X_holdout, holdout.y, task.target.metric, seed=0)
    return Facts(
        task,
        folds,
        holdout,
        Baseline(
            baseline,
            {name: [fold.scores[name] for fold in theirs] for name in task.metrics},
            task.score_holdout(task.predict_holdout(other.fit())),
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
    """The tables under a heading, by the first cell of each row, the first table winning."""
    lines = [re.split(r"(?<!\\) \| ", line[2:-2]) for line in section(text, heading).splitlines() if line[:2] == "| "]
    found: dict[str, list[str]] = {}
    for first, *others in lines:
        found.setdefault(first, others)
    return found


def limits(facts: Facts) -> list[str]:
    return [line[2:] for line in section(card.markdown(facts), "Limits").splitlines() if line.startswith("- ")]


def test_the_figures_are_those_of_the_folds_and_the_holdout() -> None:
    facts = made()
    assert facts.holdout is not None
    shares = [np.mean(fold.predictions.y == fold.predictions.predicted) for fold in facts.folds]
    theirs = [(facts.task.codes(facts.task.y)[test] == 1).mean() for _, test in facts.task.folds]
    found = corrected_t_test(np.array(shares), np.array(theirs), direction="maximize", test_to_train=0.25, alpha=0.05)
    held = np.mean(facts.holdout.y == facts.holdout.predicted)
    ours, baseline, gain, verdict, holdout, _ = rows(card.markdown(facts), "Metrics")["accuracy"]
    assert ours == f"{np.mean(shares):.4f} ± {np.std(shares, ddof=1):.4f}"
    assert baseline == f"{np.mean(theirs):.4f} ± {np.std(theirs, ddof=1):.4f}"
    assert gain.startswith(f"+{found.difference:.4f} (")
    low, high = (float(bound) for bound in re.findall(r"[+](\d\.\d+)", gain)[1:])
    # Folds are not all of one size.
    assert (low, high) == (pytest.approx(found.low, abs=1e-3), pytest.approx(found.high, abs=1e-3))
    assert verdict == "better"
    assert holdout == f"{held:.4f}"


def test_each_class_has_its_precision_recall_and_rows() -> None:
    facts = made()
    y = np.concatenate([fold.predictions.y for fold in facts.folds])
    predicted = np.concatenate([fold.predictions.predicted for fold in facts.folds])
    report = reference.classification_report(y, predicted, output_dict=True)
    table = rows(card.markdown(facts), "Classes")
    for code, label in enumerate("123"):
        expected = report[str(code)]
        assert table[label] == [
            f"{int((facts.task.y == code + 1).sum())}",
            *(f"{expected[name]:.4f}" for name in ("precision", "recall", "f1-score")),
        ]


def test_rows_are_counted_once_however_often_they_were_scored() -> None:
    once, often = (rows(card.markdown(made(split=split)), "Slices") for split in ("grouped", "repeated"))
    by_class = rows(card.markdown(made(split="repeated")), "Classes")
    assert sum(int(by_class[label][0]) for label in "123") == 142
    assert all(sum(int(row[0].split()[0]) for row in list(table.values())[2:5]) == 142 for table in (once, often))


def test_slices_are_thirds_of_the_features_that_matter_most() -> None:
    facts = made()
    assert facts.importance is not None
    most = facts.importance.mean(axis=1).idxmax()
    values = facts.task.X[most]
    low, high = sorted(values)[int(np.ceil(142 / 3)) - 1], sorted(values)[int(np.ceil(2 * 142 / 3)) - 1]
    inside = ((values > low) & (values <= high)).to_numpy()
    shares = [
        np.mean((fold.predictions.y == fold.predictions.predicted)[inside[fold.test]])
        for fold in facts.folds
        if inside[fold.test].any()
    ]
    row = rows(card.markdown(facts), "Slices")[rf"{low:g} \< {most.replace('_', ' ')} ≤ {high:g}"]
    assert row[:2] == [str(inside.sum()), f"{np.mean(shares):.4f}"]


def test_ranges_data_and_lineage_are_told() -> None:
    facts = made()
    text = card.markdown(facts)
    proline = facts.task.X["proline"]
    assert rows(text, "Limits")["proline"] == [f"{proline.min():g} to {proline.max():,.0f}", "not given"]
    assert rows(text, "Limits")["alcohol"][1] == "% vol"
    files = rows(text, "Data")["`data/raw/wine.data`"]
    assert files[1:] == [
        "`3e584720e6718d28509f86f05b7885a1`",
        "`data/raw/wine.data.dvc`",
        "<https://archive.ics.uci.edu/ml/machine-learning-databases/wine/wine.data>",
    ]
    lineage = rows(text, "Lineage")
    assert lineage["`config.sha256`"] == [f"`{facts.tags['config.sha256']}`"]
    assert lineage["`seed`"] == ["`0`"]
    assert lineage["numpy"] == [np.__version__]
    assert rows(text, "Training")["`model.C`"] == [f"`{facts.params['model.C']}`"]


def test_calibration_is_told_of_all_folds_answers() -> None:
    facts = made()
    probabilities = np.concatenate([fold.predictions.probabilities for fold in facts.folds])
    y = np.concatenate([fold.predictions.y for fold in facts.folds])
    text = section(card.markdown(facts), "Calibration")
    brier = ((np.eye(3)[y] - probabilities) ** 2).sum(axis=1).mean()
    assert f"the Brier score (from 0 to 2) is {brier:.4f}" in text
    assert f"the log loss {-np.log(probabilities[range(len(y)), y]).mean():.4f}" in text
    assert sum(int(row[-1]) for name, row in rows(card.markdown(facts), "Calibration").items() if " to " in name) == 142


def test_a_good_model_has_no_limits_but_its_range() -> None:
    facts = made()
    assert limits(facts) == []
    assert "None of this was found wanting." in section(card.markdown(facts), "Limits")


def test_a_class_that_is_never_predicted_is_a_limit() -> None:
    facts = made()
    folds = []
    for fold in facts.folds:
        # What it gave to class 3, it gives to class 2.
        probabilities = fold.predictions.probabilities @ [[1, 0, 0], [0, 1, 0], [0, 1, 0]]
        answers = replace(fold.predictions, probabilities=probabilities, predicted=probabilities.argmax(axis=1))
        folds.append(replace(fold, predictions=answers))
    told = limits(replace(facts, folds=folds))
    count = int((facts.task.y == 3).sum())
    assert f"Class 3 is never predicted, on any fold ({count} rows)." in told
    assert not any(line.startswith(("Class 1", "Class 2")) for line in told)


def test_a_slice_where_the_answers_are_wrong_is_a_limit() -> None:
    facts = made()
    folds = []
    for fold in facts.folds:
        bad = (facts.task.X["proline"] > 1000).to_numpy()[fold.test]
        probabilities = np.where(
            bad[:, None], np.roll(np.eye(3)[fold.predictions.y], 1, axis=1), fold.predictions.probabilities
        )
        answers = replace(fold.predictions, probabilities=probabilities, predicted=probabilities.argmax(axis=1))
        scores = metrics.score(answers, facts.task.metrics) | {"majority_accuracy": 0.4}
        folds.append(replace(fold, predictions=answers, scores=scores))
    # Nothing recorded of importance: the features that tell classes apart are sliced by, proline among them.
    told = limits(replace(facts, folds=folds, importance=None))
    assert any(line.startswith(r"It does much worse where proline \> ") for line in told)
    assert not any("proline ≤" in line for line in told)


def test_a_model_that_is_no_better_than_the_majority_is_told_so() -> None:
    told = limits(made(baseline="logreg", model="majority"))
    assert told[0].startswith("It does not beat the majority class: its accuracy is 0.4015")
    assert told[1] == "It is worse than the baseline, logreg, in accuracy."
    assert any(line.startswith("Class 1 is never predicted") for line in told)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"holdout": None}, "Nothing was held out"),
        ({"baseline": None}, "No baseline was put beside it."),
        ({"tags": {"git.commit": "c0", "git.dirty": "true"}}, "The code had changes that no commit holds"),
        ({"tags": {}}, "The commit of the code is not known."),
    ],
)
def test_what_is_not_known_is_a_limit(changed: dict[str, object], told: str) -> None:
    facts = replace(made(), **changed)
    (line,) = limits(facts)
    assert line.startswith(told)
    assert "nan" not in re.sub("<[^>]*>", "", card.html(facts)).lower().split()


def test_no_difference_to_an_equal_baseline() -> None:
    assert "No difference to the baseline, logreg, is shown in accuracy." in limits(made(baseline="logreg"))


@pytest.mark.usefixtures("wine_quality")
def test_wine_quality_with_its_text_and_a_binned_target() -> None:
    facts = made(data="quality", target="good", baseline="majority")
    text = card.markdown(facts)
    colours = facts.task.X["colour"]
    slices = rows(text, "Slices")
    assert slices["colour = red"][0] == f"{(colours == 'red').sum():,}"
    assert slices["colour = white"][0] == f"{(colours == 'white').sum():,}"
    assert rows(text, "Limits")["colour"][0] == "red, white"
    assert "2 classes ordinary (up to 6) and good (above 6)" in text
    assert section(text, "Data").count("`data/raw/winequality-") == 4
    assert not any("exact copy" in line for line in limits(facts))


@pytest.mark.usefixtures("wine_quality")
def test_copies_of_test_rows_in_training_are_a_limit() -> None:
    facts = made(data="red", target="good", split="stratified", model="majority")
    (told,) = [line for line in limits(facts) if "exact copy" in line]
    X, folds = facts.task.X, facts.task.folds
    copied = [
        len(X.iloc[test].merge(X.iloc[train].drop_duplicates(), how="inner", on=list(X))) for train, test in folds
    ]
    assert told.startswith(f"{100 * sum(copied) / len(X):.1f}")


def test_the_same_facts_give_the_same_bytes() -> None:
    facts = made()
    shuffled = replace(
        facts,
        params=dict(reversed(facts.params.items())),
        tags=dict(reversed(facts.tags.items())),
        folds=[replace(fold, fit_seconds=9.0) for fold in facts.folds],
    )
    assert card.markdown(facts) == card.markdown(shuffled)
    assert card.html(facts) == card.html(shuffled)


def test_the_page_needs_no_other_file_and_is_sound() -> None:
    html = card.html(made())
    assert [address for address in addresses(html) if not address.startswith(("data:", "#"))] == []
    page = Page(html)
    assert [text for tag, text in page.texts if tag == "h2" and text.strip()] == SECTIONS
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {link["href"][1:] for link in page.all("a") if link["href"].startswith("#")} <= set(ids)
    (image,) = page.all("img")
    assert image["alt"].startswith("given ")
    ET.fromstring(svg(image["src"]))
    # Every tag is closed: but for those that have no end, the page is XML.
    body = html[html.index("<body>") : html.index("</body>") + len("</body>")]
    ET.fromstring(re.sub(r"(<(?:img|br|meta)[^>]*)>", r"\1/>", body))


def test_both_say_the_same() -> None:
    facts = made()
    marked, page = card.markdown(facts), Page(card.html(facts)).text
    for figure in re.findall(r"\d\.\d{4}", marked):
        assert figure in page
    assert [line[3:] for line in marked.splitlines() if line.startswith("## ")] == SECTIONS


NASTY = "<script>alert(1)</script> | a_b *c* `d` [e](javascript:f)\n# g"


def test_text_stays_text() -> None:
    cells = [[NASTY, Code(NASTY)]]
    parts = [Paragraph(NASTY), Bullets([NASTY]), Tiles([(NASTY, NASTY)]), Table(NASTY, [NASTY, "b"], cells)]
    nasty = Document(NASTY, NASTY, [Section("Overview", parts)])
    html, marked = document.html(nasty), document.markdown(nasty)
    assert "<script>" not in html
    assert html.count("&lt;script&gt;alert(1)") == 13
    assert "<script>" not in marked.replace(r"\<script\>", "")
    (row,) = [line for line in marked.splitlines() if line.startswith("| ") and line.count(r"\<script") == 2]
    assert len(re.split(r"(?<!\\)\|", row)) == 4
    assert not any(line.startswith("# g") for line in marked.splitlines())
    assert not re.search(r"(?<!\\)\[e", marked)


def test_a_nasty_name_in_the_record_stays_text() -> None:
    facts = made()
    html = card.html(replace(facts, params={**facts.params, "model": NASTY, "model.x": NASTY}))
    assert "<script" not in html
    assert "&lt;script&gt;" in html
