"""Puts a challenger beside a server's champion: what the first process starts, and what each serving process does."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
from litestar.types import HTTPScope

from wineexp.core.config import SHADOW, Serve
from wineexp.serving.answers import Answers
from wineexp.serving.challenger.follower import ChallengerFollower
from wineexp.serving.challenger.shadow_process import ShadowProcess
from wineexp.serving.challenger.shadow_sender import ShadowSender
from wineexp.serving.challenger.traffic_split import TrafficSplit
from wineexp.serving.metrics import Metrics
from wineexp.serving.model.predictor import Predictor
from wineexp.serving.refresh.follower import AliasFollower
from wineexp.serving.refresh.messages import RefreshPaths
from wineexp.serving.refresh.monitor import RefreshMonitor


@dataclass(frozen=True)
class ChallengerPaths:
    """What serving processes need to know of a challenger.

    Attributes
    ----------
    refresh : RefreshPaths
        Of its refresh monitor.
    shadow : Path or None
        The socket of its process; None in mode split, in which the serving processes themselves predict with it.
    """

    refresh: RefreshPaths
    shadow: Path | None


class ChallengerStatus(msgspec.Struct, frozen=True):
    """The challenger, as /readyz shows it.

    Attributes
    ----------
    alias, mode : str
    version : int or None
        Of the one that is tested.
    why : str or None
        Why there is none, or why it does not answer.
    """

    alias: str
    mode: str
    version: int | None
    why: str | None


@contextmanager
def following_challenger(settings: Serve) -> Iterator[ChallengerPaths | None]:
    """Follow the challenger's alias, and in mode shadow run its process, as long as the context lasts."""
    alias = settings.serve.challenger
    if alias is None:
        yield None
        return
    of_challenger = replace(settings, serve=replace(settings.serve, alias=alias, challenger=None))
    with ExitStack() as stack:
        paths = stack.enter_context(RefreshMonitor(of_challenger)).paths
        shadow = None
        if settings.serve.challenger_mode == SHADOW:
            shadow = stack.enter_context(ShadowProcess(of_challenger, paths)).socket
        yield ChallengerPaths(paths, shadow)


class LiveTest:
    """The challenger in one serving process, if there is one.

    Parameters
    ----------
    settings : Serve
    paths : ChallengerPaths or None
    champion : AliasFollower
    metrics : Metrics
    answers : Answers
        To which a challenger in the shadow listens.

    Attributes
    ----------
    choose : callable
        The version that answers a request, from its scope.
    lifespans : list of callable
        For the application.
    """

    def __init__(
        self,
        settings: Serve,
        paths: ChallengerPaths | None,
        champion: AliasFollower,
        metrics: Metrics,
        answers: Answers,
    ) -> None:
        self._settings = settings.serve
        self._champion = champion
        self._sender: ShadowSender | None = None
        self._split: TrafficSplit | None = None
        self.choose: Callable[[HTTPScope], Predictor] = lambda _: champion.predictor
        self.lifespans: list[Callable[[Any], Any]] = []
        if paths is None:
            return
        if paths.shadow is not None:
            self._sender = ShadowSender(paths.shadow, metrics)
            answers.receivers.append(self._sender.receive)
            self.lifespans.append(self._sender.sending)
        else:
            of_challenger = replace(settings, serve=replace(settings.serve, alias=str(settings.serve.challenger)))
            follower = ChallengerFollower(of_challenger, paths.refresh)
            self._split = TrafficSplit(settings.serve, champion, follower)
            self.choose = self._split.choose
            self.lifespans.append(follower.follow)

    @property
    def status(self) -> ChallengerStatus | None:
        """The challenger now; None where none is configured."""
        alias, mode = self._settings.challenger, self._settings.challenger_mode
        if alias is None:
            return None
        if self._sender is not None:
            return ChallengerStatus(alias, mode, self._sender.version, self._sender.absent)
        assert self._split is not None  # noqa: S101  for mypy: one of the two there is
        challenger = self._split.challenger.predictor
        if challenger is None:
            return ChallengerStatus(alias, mode, None, self._split.challenger.absent)
        why = self._split.objection(self._champion.predictor, challenger)
        return ChallengerStatus(alias, mode, challenger.lineage.version, why)
