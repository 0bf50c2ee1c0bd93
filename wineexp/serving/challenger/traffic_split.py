"""Decides which of two versions answers a request: the same one for the same unit, in every worker and replica."""

from hashlib import blake2b
from typing import Any

from litestar.types import HTTPScope

from wineexp.core.config import Server
from wineexp.serving.answers import ANSWERED_VERSION
from wineexp.serving.challenger.follower import ChallengerFollower
from wineexp.serving.model.predictor import Predictor
from wineexp.serving.refresh.follower import AliasFollower

# What a path has that names the version by itself.
VERSION_IN_PATH = "/versions/"


class TrafficSplit:
    """Chooses between the champion and the challenger by a keyed hash of a unit, such as a customer.

    The key is the challenger's version, so that each test deals the units anew: those that had the last challenger are
    not those that get the next one.

    Parameters
    ----------
    settings : Server
    champion : AliasFollower
    challenger : ChallengerFollower
    """

    def __init__(self, settings: Server, champion: AliasFollower, challenger: ChallengerFollower) -> None:
        self.champion = champion
        self.challenger = challenger
        self._bound = int(settings.share * 2**64)
        self._unit = settings.unit.lower().encode() if settings.unit else None
        self._compared: tuple[Predictor, Predictor] | None = None
        self._differs: str | None = None

    def choose(self, scope: HTTPScope) -> Predictor:
        """The version that answers a request."""
        champion, challenger = self.champion.predictor, self.challenger.predictor
        if challenger is None or self.objection(champion, challenger) or VERSION_IN_PATH in scope["path"]:
            return champion
        state: dict[str, Any] = scope["state"]
        unit = state["headers"].get(self._unit) if self._unit else None
        if unit is None:
            unit = state["request_id"].encode()
        chosen = challenger if is_challengers(unit, challenger.version.identity, self._bound) else champion
        state[ANSWERED_VERSION] = chosen.lineage.version
        return chosen

    def objection(self, champion: Predictor, challenger: Predictor) -> str | None:
        """Why a challenger cannot answer the champion's requests; None where it can."""
        if self._compared is None or self._compared[0] is not champion or self._compared[1] is not challenger:
            self._differs = compare(champion, challenger)
            self._compared = champion, challenger
        return self._differs


def is_challengers(unit: bytes, identity: tuple[int, str, str], bound: int) -> bool:
    """Whether the hash of a unit, of 64 bits and with a version's identity as its key, is below a bound."""
    key = blake2b(repr(identity).encode()).digest()
    return int.from_bytes(blake2b(unit, key=key, digest_size=8).digest()) < bound


def compare(champion: Predictor, challenger: Predictor) -> str | None:
    """What keeps a challenger from answering a champion's requests, as a sentence."""
    if champion.version.identity == challenger.version.identity:
        return "the challenger's alias names the champion's version"
    if set(champion.parser.features) != set(challenger.parser.features):
        return "the challenger has other features than the champion"
    if champion.schema.classes != challenger.schema.classes:
        return "the challenger has other classes than the champion"
    return None
