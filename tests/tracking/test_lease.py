"""The lock of the registry: one holder at a time, and a killed one is not waited for long."""

import os
import signal
import time
from collections.abc import Iterator

import pytest

from wineexp.core.errors import UserError
from wineexp.tracking.lease import Lease
from wineexp.tracking.registry import Registry

SECONDS = 0.5


def locks(registry: Registry) -> list[str]:
    return [model.name for model in registry.client.search_registered_models(f"name = '{registry.name}.lock'")]


def test_a_dead_holder_is_waited_for_one_lease_and_a_released_lock_not_at_all(registry: Registry) -> None:
    # A holder that was killed never releases the lock.
    Lease(registry.client, f"{registry.name}.lock").acquire()
    start = time.monotonic()
    with registry.lock():
        assert time.monotonic() - start > SECONDS
    assert locks(registry) == []
    with registry.lock():
        assert locks(registry) == [f"{registry.name}.lock"]


def test_a_lock_that_changes_hands_all_the_time_is_given_up(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = Lease(registry.client, f"{registry.name}.lock", seconds=0.05)
    monkeypatch.setattr(lease, "_take", lambda: False)
    monkeypatch.setattr(lease, "_holder", lambda: str(time.monotonic()))
    with pytest.raises(UserError, match=r"\.lock has been held by other decisions"):
        lease.acquire()


def test_a_holder_that_was_taken_over_does_not_release_the_lock_of_the_next_one(registry: Registry) -> None:
    slow = Lease(registry.client, f"{registry.name}.lock")
    slow.acquire()
    with registry.lock():
        slow.release()
        assert locks(registry) == [f"{registry.name}.lock"]


@pytest.fixture
def default_handler_of_ctrl_c() -> Iterator[None]:
    """Python's own handler, which is not installed where the tests were started as a background job of a shell."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


@pytest.mark.usefixtures("default_handler_of_ctrl_c")
def test_ctrl_c_waits_for_the_end_of_a_decision(registry: Registry) -> None:
    ended = []

    def decide() -> None:
        with registry.lock():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
            ended.append(True)

    with pytest.raises(KeyboardInterrupt):
        decide()
    assert ended == [True]
    assert locks(registry) == []
