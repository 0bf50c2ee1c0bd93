"""A request for an explanation whose version is replaced while it waits."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from wineexp.serving.http.problems import ProblemError
from wineexp.serving.refresh.messages import ExplanationReply, RefreshRequest
from wineexp.serving.routes import explain


class Replaced:
    """A follower that serves another version than the one that is to be explained."""

    predictor = SimpleNamespace(version=SimpleNamespace(identity=(2, "b", "b")))

    async def explain(self, _: RefreshRequest) -> ExplanationReply:
        """The refresh process's reply about a version that it no longer serves."""
        return ExplanationReply(409)


def test_it_is_answered_at_once_and_may_be_sent_again() -> None:
    request = RefreshRequest("explain", [1.0], (1, "a", "a"))
    waiting = explain._request_explanation(cast(Any, Replaced()), request)
    with pytest.raises(ProblemError) as raised:
        asyncio.run(asyncio.wait_for(waiting, 5))
    assert "another version has taken over" in str(vars(raised.value))
