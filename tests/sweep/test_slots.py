"""The slots of a study, looked at again and again while its trials come and go."""

import random
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

from wineexp.sweep.slots import DEAD, ERROR, INTERRUPTED, Slots

POINTS = [{"x": number} for number in range(12)]
ENDS = [
    (TrialState.COMPLETE, None),
    (TrialState.PRUNED, None),
    *((TrialState.FAIL, ended) for ended in (ERROR, DEAD, INTERRUPTED)),
]


def trial(number: int, slot: int, state: TrialState = TrialState.RUNNING, ended: str | None = None) -> FrozenTrial:
    made: Any = create_trial(
        state=state,
        value=1.0 if state is TrialState.COMPLETE else None,
        params={"x": slot},
        distributions={"x": optuna.distributions.IntDistribution(0, 99)},
        user_attrs={"slot": slot} | ({"ended": ended} if ended else {}),
    )
    made.number = number
    return made


def facts(slots: Slots) -> dict[str, Any]:
    return {
        "last": {slot: last.number for slot, last in slots.last.items()},
        "open": slots.open,
        "finished": slots.n_finished,
        "failures": slots.n_failures,
        "unvisited": slots.n_unvisited,
        "next": slots.next_unvisited(),
        "ended": slots.n_ended_since(0),
        "evaluated": {slot: getattr(slots.find_evaluated({"x": slot}), "number", None) for slot in range(12)},
    }


def test_many_looks_see_what_one_look_sees() -> None:
    rng = random.Random(0)
    for _ in range(30):
        trials: list[FrozenTrial] = []
        slots = Slots(1, lambda: iter(POINTS))
        for _ in range(60):
            running = [number for number, one in enumerate(trials) if not one.state.is_finished()]
            if running and rng.random() < 0.6:
                number = rng.choice(running)
                trials[number] = trial(number, trials[number].params["x"], *rng.choice(ENDS))
            elif slots.open:
                trials.append(trial(len(trials), min(slots.open)))
            elif len(slots.last) < len(POINTS):
                trials.append(trial(len(trials), len(slots.last)))
            slots.update(trials)
            at_once = Slots(1, lambda: iter(POINTS))
            at_once.update(trials)
            assert facts(slots) == facts(at_once)


def test_a_slot_is_open_after_an_interruption_and_as_often_as_retries_allow_after_a_death() -> None:
    slots, trials = Slots(1, None), []
    for ended, is_open in ((INTERRUPTED, True), (DEAD, True), (INTERRUPTED, True), (DEAD, False)):
        trials.append(trial(len(trials), 0))
        slots.update(trials)
        assert (slots.open, slots.n_finished) == (set(), 0)
        trials[-1] = trial(len(trials) - 1, 0, TrialState.FAIL, ended)
        slots.update(trials)
        assert (slots.open == {0}, slots.n_finished) == (is_open, int(not is_open))
    assert (len(slots.last), slots.n_failures) == (1, 0)


def test_a_point_that_a_worker_is_still_suggesting_is_visited() -> None:
    """Of two parameters it has stored one; the other is only among those that it was created with."""
    points = [{"x": 1, "y": 1}, {"x": 1, "y": 2}]
    slots = Slots(0, lambda: iter(points))
    half = trial(0, 0)
    half.params, half.system_attrs = {"x": 1}, {"fixed_params": points[0]}
    slots.update([half])
    assert slots.next_unvisited() == points[1]
