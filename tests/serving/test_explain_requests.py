"""What the server asks of the process that explains, which a stand-in replaces."""

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


def test_a_request_whose_version_is_replaced_is_answered_at_once_and_may_be_sent_again() -> None:
    request = RefreshRequest("explain", [1.0], (1, "a", "a"))
    waiting = explain._request_explanation(cast(Any, Replaced()), request)
    with pytest.raises(ProblemError) as raised:
        asyncio.run(asyncio.wait_for(waiting, 5))
    assert "another version has taken over" in str(vars(raised.value))


class Starting:
    """A follower of a refresh process that is starting, and what it was asked for."""

    def __init__(self) -> None:
        self.requests: list[RefreshRequest] = []
        self.started = asyncio.Event()

    async def explain(self, request: RefreshRequest) -> ExplanationReply:
        """Reply once the process has started."""
        self.requests.append(request)
        await self.started.wait()
        return ExplanationReply(200)


def test_one_request_at_a_time_keeps_it_ready_however_many_pages_ask() -> None:
    async def ask() -> None:
        follower, predictor = Starting(), SimpleNamespace(version=SimpleNamespace(identity=(2, "b", "b")))
        for _ in range(2):
            for _ in range(100):
                assert await explain.prepare.fn(cast(Any, predictor), cast(Any, follower)) == {"status": "preparing"}
                await asyncio.sleep(0)
            follower.started.set()
            await asyncio.gather(*explain._preparations)
            follower.started.clear()
        assert follower.requests == [RefreshRequest("prepare", identity=(2, "b", "b"))] * 2

    asyncio.run(ask())
