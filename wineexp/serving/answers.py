"""The place where every answered row passes, whichever protocol it came by.

Each route that predicts calls `Answers.hand_on` once its predictions are made and before they are sent: `/predict` on
its fast path and in the framework, `/invocations`, KServe's version 1, and the Open Inference Protocol. What wants to
see each answered row is one of the `receivers`: the prediction log is one.

A receiver is called on the event loop, or in the thread that computes a large request, and an answer waits for it: it
puts the answer somewhere, in a microsecond, and works on it elsewhere. It must not raise.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from wineexp.monitoring.format import CHALLENGER, CHAMPION
from wineexp.serving.model.predictor import NumberPrediction, Outputs, Prediction, Predictor
from wineexp.serving.model.rows import Rows

# In a request's ASGI state: when its head had arrived, of `time.perf_counter`.
STARTED_AT = "started_at"
# Where two versions share the traffic, the number of the one that answers, which the response has as a header.
ANSWERED_VERSION = "answered_version"


class Answer(NamedTuple):
    """The answered rows of one request.

    Attributes
    ----------
    time : float
        When they were answered, in seconds since 1970, UTC.
    latency_ms : float
        Since the request's head had arrived.
    request_id : str
    predictor : Predictor
        The version that predicted.
    rows : Rows
        As validated: another version with the same features can predict them as they are.
    outputs : array
        Probabilities of shape (n_rows, n_classes), or numbers of shape (n_rows, 1).
    predictions : sequence or None
        The same as `Predictor.predictions` gives it, where the response needed that.
    variant : str
        `champion`, or `challenger` where a second version predicts the same rows.
    """

    time: float
    latency_ms: float
    request_id: str
    predictor: Predictor
    rows: Rows
    outputs: Outputs
    predictions: Sequence[Prediction] | Sequence[NumberPrediction] | None = None
    variant: str = CHAMPION


class Answers:
    """Hands answered requests on.

    Parameters
    ----------
    alias : str
        The champion's: what another one names is the challenger.

    Attributes
    ----------
    receivers : list of callable
        Each is called with every `Answer`.
    """

    def __init__(self, alias: str) -> None:
        self._alias = alias
        self.receivers: list[Callable[[Answer], None]] = []

    def hand_on(
        self,
        state: Mapping[str, Any],
        predictor: Predictor,
        rows: Rows,
        outputs: Outputs,
        predictions: Sequence[Prediction] | Sequence[NumberPrediction] | None = None,
    ) -> None:
        """Hand on what was predicted for a request with this ASGI state."""
        if not self.receivers:
            return
        milliseconds = 1000 * (time.perf_counter() - state[STARTED_AT])
        variant = CHAMPION if predictor.lineage.alias == self._alias else CHALLENGER
        answer = Answer(time.time(), milliseconds, state["request_id"], predictor, rows, outputs, predictions, variant)
        for receive in self.receivers:
            receive(answer)
