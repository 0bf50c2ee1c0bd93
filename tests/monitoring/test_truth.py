"""Predictions and truths, in any order: each joins exactly once, and the last word counts."""

import shutil
import tempfile
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

import wineexp.feedback
from wineexp import UserError, compose
from wineexp.monitoring import prediction_log, segments, truth
from wineexp.monitoring.folder import FolderStore
from wineexp.monitoring.format import CHALLENGER, predictions_layout
from wineexp.monitoring.truth import JoinCounts

LAYOUTS = {
    variant: predictions_layout("wine", 1, [], variant=variant, classes=["a"]) for variant in ("champion", CHALLENGER)
}
START = 1_760_000_000_000_000

# Few, so that many come twice; the last id is never logged.
ids = ["one", "two", "unknown"]
rows = st.integers(0, 1)


class TruthMachine(RuleBasedStateMachine):
    """Logs, feeds back, makes segments and joins, beside a model of what must come out."""

    def __init__(self) -> None:
        super().__init__()
        # The log passes by in as many parts as it has segments.
        self.patches = pytest.MonkeyPatch()
        self.patches.setattr(segments, "TABLE_ROWS", 1)
        self.patches.setattr(truth, "LOOKED_UP_ROWS", 1)
        self.folder = Path(tempfile.mkdtemp())
        self.stores = [FolderStore(self.folder) for _ in range(2)]
        self.clock = 0
        # By variant, id and row: when each was logged.
        self.logged: list[tuple[str, str, int]] = []
        self.truths: list[tuple[str, int, str]] = []

    def teardown(self) -> None:
        for store in self.stores:
            store.close()
        shutil.rmtree(self.folder)
        self.patches.undo()

    def tick(self) -> int:
        self.clock += 1
        return START + self.clock

    @rule(
        writer=st.integers(0, 1),
        variant=st.sampled_from(sorted(LAYOUTS)),
        request_id=st.sampled_from(ids[:2]),
        row=rows,
    )
    def log(self, writer: int, variant: str, request_id: str, row: int) -> None:
        self.stores[writer].write(LAYOUTS[variant], [(self.tick(), request_id, row, 1.0, "", "a", 1.0)])
        self.logged.append((variant, request_id, row))

    @rule(
        writer=st.integers(0, 1),
        truths=st.lists(
            st.tuples(st.sampled_from(ids), rows, st.sampled_from(["a", "b", "3", "3.5"])), min_size=1, max_size=4
        ),
    )
    def feed_back(self, writer: int, truths: list[tuple[str, int, str]]) -> None:
        moment = self.tick()
        self.stores[writer].write_truths([(moment, *truth) for truth in truths])
        self.truths += truths

    @rule(writer=st.integers(0, 1))
    def restart(self, writer: int) -> None:
        self.stores[writer].close()
        self.stores[writer] = FolderStore(self.folder)
        segments.seal(self.folder)

    @precondition(lambda self: self.logged or self.truths)
    @rule()
    def join(self) -> None:
        counts = JoinCounts()
        frames = list(prediction_log.read_with_truth(str(self.folder), counts=counts))
        joined = pd.concat(frames) if frames else pd.DataFrame(columns=["variant", "request_id", "row", "truth"])
        found = list(zip(joined["variant"], joined["request_id"], joined["row"], joined["truth"], strict=True))
        last = {(request_id, row): truth for request_id, row, truth in self.truths}
        once = list(dict.fromkeys(self.logged))
        assert found == [(*key, last[key[1:]]) for key in once if key[1:] in last]
        known = {key[1:] for key in self.logged}
        assert counts.predictions == len(self.logged)
        assert counts.joined == len(found)
        assert counts.truths == len(self.truths)
        assert counts.replaced == len(self.truths) - len(last)
        assert counts.repeated == sum(key[1:] in last for key in self.logged) - len(found)
        assert set(counts.unjoined_ids) == {f"{request_id}, {row}" for request_id, row in last.keys() - known}
        assert counts.unjoined == len(counts.unjoined_ids)
        assert counts.contradicted == sum(truth != last[request_id, row] for request_id, row, truth in self.truths)


TestTruth = pytest.mark.timeout(600)(TruthMachine.TestCase)
TestTruth.settings = settings(max_examples=30, stateful_step_count=20, deadline=None)


def test_truths_of_numbers_are_numbers_to_the_bit(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    store.write(predictions_layout("wine", 1, []), [(START + number, "r", number, 1.0, "", 0.5) for number in range(3)])
    store.write_truths([(START, "r", 0, repr(0.1 + 0.2)), (START, "r", 1, "7")])
    joined = pd.concat(prediction_log.read_with_truth(str(tmp_path), columns=["number"], only_joined=False))
    assert list(joined["truth"][:2]) == [0.1 + 0.2, 7.0]
    assert joined["truth"].isna()[2]
    store.close()


def test_a_truth_that_is_no_number_joins_no_predicted_number_and_is_listed(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    store.write(predictions_layout("wine", 1, []), [(START + number, "r", number, 1.0, "", 0.5) for number in range(4)])
    store.write_truths([(START, "r", 0, "high"), (START, "r", 1, "nan"), (START, "r", 2, "7"), (START, "r", 3, "low")])
    # The last word counts, and makes it one.
    store.write_truths([(START + 1, "r", 3, "8")])
    store.close()
    counts = JoinCounts()
    joined = pd.concat(prediction_log.read_with_truth(str(tmp_path), counts=counts))
    assert dict(zip(joined["row"], joined["truth"], strict=True)) == {2: 7.0, 3: 8.0}
    assert (counts.joined, counts.not_numbers, counts.not_number_ids) == (2, 2, ["r, 0", "r, 1"])
    assert counts.unjoined == 0
    # From a file, where the log says that it has to be a number, nothing is stored.
    (tmp_path / "truth.csv").write_text("request_id,row,truth\nr,0,high\nr,2,9\n")
    with pytest.raises(UserError, match=r"request id and row r, 0: a number was predicted, and the truth is none"):
        wineexp.feedback(compose(f"file={tmp_path}/truth.csv", f"log={tmp_path}", program="feedback"))
    assert sum(map(len, prediction_log.read_truths(str(tmp_path)))) == 5
