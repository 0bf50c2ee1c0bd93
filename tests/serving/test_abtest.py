"""`python -m wineexp.abtest`: a verdict on two versions from the log and its labels, and what it refuses."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.serving.conftest import Store, copy_store
from wineexp import UserError, abtest, compose
from wineexp.monitoring import prediction_log, verdicts
from wineexp.monitoring.format import predictions_layout
from wineexp.workflows.live_comparison import LiveComparison

CLASSES = ["1", "2", "3"]
CHAMPION, CHALLENGER = 2, 1

pytestmark = pytest.mark.usefixtures("tested")


@pytest.fixture(scope="module")
def tested(promoted: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store whose version 2 is the champion and version 1 the challenger."""
    store = copy_store(promoted, tmp_path_factory.mktemp("abtest"))
    store.point(CHALLENGER, alias="challenger")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(store.folder)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", store.uri)
        yield store


def decided(log: Path, rights: dict[int, list[bool]], *, shadow: bool) -> None:
    """Log for each version whether its answers were right; each right answer is the class 1, each other the class 2."""
    store, now = prediction_log.open_store(str(log)), time.time_ns() // 1000
    for version, outcomes in rights.items():
        variant = "champion" if version == CHAMPION else "challenger"
        layout = predictions_layout("wine", version, [], variant=variant, classes=CLASSES)
        names = [f"r{number}" if shadow else f"{variant}{number}" for number in range(len(outcomes))]
        rows = [
            (now + number, name, 0, 1.0, "", "1" if right else "2", 0.5, 0.4, 0.1)
            for number, (name, right) in enumerate(zip(names, outcomes, strict=True))
        ]
        store.write(layout, rows)
        store.write_truths([(now + 10**7 + number, name, 0, "1") for number, name in enumerate(names)])
    store.close()


def run(log: Path, *overrides: str) -> LiveComparison:
    found: LiveComparison = abtest(compose(f"log={log}", *overrides, program="abtest"))
    return found


def outcomes(ahead: int, behind: int, equal: int) -> dict[int, list[bool]]:
    both = [(False, True)] * ahead + [(True, False)] * behind + [(True, True)] * equal
    return {CHAMPION: [pair[0] for pair in both], CHALLENGER: [pair[1] for pair in both]}


def test_a_better_challenger_is_found_in_shadow_by_the_rows_that_differ(tmp_path: Path) -> None:
    decided(tmp_path / "log", outcomes(ahead=70, behind=30, equal=300), shadow=True)
    found = run(tmp_path / "log")
    assert (found.mode, found.test.verdict, found.champion, found.challenger) == ("shadow", "better", 2, 1)
    assert (found.test.n_labels, found.differing, found.ahead, found.loss) == (400, 100, 70, "share of wrong answers")
    assert found.test.gain == pytest.approx(0.1)
    assert "better" in found.lines()[-1]
    assert verdicts.of_version(str(tmp_path / "log"), "wine", CHAMPION)["live_test"]["lines"] == found.lines()


def test_few_labels_lead_to_no_verdict_and_to_how_many_are_needed(tmp_path: Path) -> None:
    decided(tmp_path / "log", outcomes(ahead=12, behind=8, equal=80), shadow=True)
    found = run(tmp_path / "log", "sizes=[0.05,0.1]")
    assert found.test.verdict == "go on"
    assert found.test.needed[0.05] > found.test.needed[0.1] > 0
    assert found.lines()[-1].startswith("more labels that a true gain needs, in about half of the cases: 0.05: ")


def test_versions_that_answer_rows_of_their_own_are_two_streams(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    rights = {CHAMPION: list(generator.random(900) < 0.9), CHALLENGER: list(generator.random(300) < 0.5)}
    decided(tmp_path / "log", rights, shadow=False)
    found = run(tmp_path / "log")
    assert (found.mode, found.test.verdict, found.share) == ("split", "worse", 0.25)
    assert found.test.gain == pytest.approx(-0.4, abs=0.05)
    assert (found.champion_labels, found.challenger_labels, found.differing) == (900, 300, None)


def test_a_log_without_the_challenger_and_labels_of_other_classes_end_in_no_verdict(tmp_path: Path) -> None:
    decided(tmp_path / "log", {CHAMPION: [True] * 20}, shadow=True)
    found = run(tmp_path / "log")
    assert (found.test.verdict, found.test.n_labels) == ("go on", 0)
    assert "NaN" not in json.dumps(found.document())
    assert found.lines()[-1].endswith("no row of the test has a label yet, go on")


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="both name version 2 of wine"):
        run(tmp_path, "challenger=champion")
    with pytest.raises(UserError, match=r"nobody: wine in .* has no version or alias of this name"):
        run(tmp_path, "challenger=nobody")
    with pytest.raises(UserError) as refusal:
        run(tmp_path, "mode=both", "level=2", "sizes=[3]", "share=1")
    assert len(refusal.value.faults) == 4
