"""Decisions about a registered model: each one written down before it takes effect, none ever changed."""

import getpass
import hashlib
import json
import logging
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from mlflow.exceptions import MlflowException

from wineexp.core.errors import UserError
from wineexp.tracking.registry import Registry

log = logging.getLogger(__name__)

# Tags of the registered model: a decision each, by number, and the number of the last one whose moves were made.
PREFIX, SETTLED = "decision.", "decisions.settled"
NUMBERED = rf"{re.escape(PREFIX)}\d{{6,}}"
# The whole story, as a file among the artifacts of the run that a decision is about.
LOG = "decisions.jsonl"
# A tag of that run: the kind of the last one.
DECISION = "decision"
# A registered model's tag holds 5,000 characters in PostgreSQL; what is left is for the names and numbers.
LONGEST_WHY = 3500


@dataclass(frozen=True)
class Decision:
    """One entry of the audit.

    Attributes
    ----------
    number : int
        From 1, without gaps.
    when : str
        UTC, ISO 8601.
    who : str
        user@host.
    kind : str
        promoted, refused, or rolled back.
    moves : dict of str to [int or None, int or None]
        For each alias the version it named and the one it is to name; empty where nothing moves.
    why : list of str
    run_id : str
        Of the run that it is about.
    before : str
        SHA-256 of the entry before, so that an entry cannot be changed without a trace.
    alias : str
        What it is about; empty of the first decisions, which did not say so.
    """

    number: int
    when: str
    who: str
    kind: str
    moves: dict[str, list[int | None]]
    why: list[str]
    run_id: str
    before: str
    alias: str = ""


class Audit:
    """The decisions about one registered model. `append` and `settle` are for who holds the registry alone."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry

    def decisions(self) -> list[Decision]:
        """All that are there, the oldest first.

        Raises
        ------
        UserError
            With every one that is no decision any more.
        """
        found, faults = [], []
        for number, text in self._texts().items():
            try:
                found.append(Decision(**json.loads(text)))
            except (ValueError, TypeError):
                faults.append(
                    f"decision {number} of {self.registry.name} cannot be read, its tag {_key(number)} was altered; "
                    f"write it again as {LOG} has it, an artifact of every run that was decided on later"
                )
        if faults:
            raise UserError(*faults)
        return found

    def append(
        self, kind: str, alias: str, moves: Mapping[str, list[int | None]], why: list[str], run_id: str
    ) -> Decision:
        """Write a decision down; `settle` makes its moves."""
        self.registry.ensure()
        texts = self._texts()
        entry = Decision(
            # Not their count: where one was taken out, that would be the number of another one.
            number=self._last(texts) + 1,
            when=datetime.now(UTC).isoformat(timespec="seconds"),
            who=f"{_user()}@{socket.gethostname()}",
            kind=kind,
            alias=alias,
            moves=dict(moves),
            why=_shortened(why),
            run_id=run_id,
            before=_digest(texts[max(texts)]) if texts else "",
        )
        text = json.dumps(asdict(entry), ensure_ascii=False)
        self.registry.client.set_registered_model_tag(self.registry.name, _key(entry.number), text)
        return entry

    def settle(self) -> None:
        """Make the moves of decisions that were written down and not carried out: their process was killed."""
        settled = self._settled()
        for entry in self.decisions():
            if entry.number <= settled:
                continue
            for alias, (_, to) in entry.moves.items():
                if to is None:
                    self.registry.client.delete_registered_model_alias(self.registry.name, alias)
                # Deleted since by other means; `faults` tells of an alias that is not where it was sent.
                elif self.registry.find(str(to)) is not None:
                    self.registry.client.set_registered_model_alias(self.registry.name, alias, str(to))
            self.registry.client.set_registered_model_tag(self.registry.name, SETTLED, str(entry.number))
            self._log(entry)

    def _log(self, entry: Decision) -> None:
        """Tell the run that the last decision is about of it, with a copy of the story; the decision stands without."""
        story = "".join(f"{text}\n" for number, text in self._texts().items() if number <= entry.number)
        try:
            self.registry.client.log_text(entry.run_id, story, LOG)
            self.registry.client.set_tag(entry.run_id, DECISION, entry.kind)
        except (MlflowException, OSError) as error:
            reason = " ".join(str(error).split())
            log.warning("decision %d stands, but run %s got no copy of it: %s", entry.number, entry.run_id, reason)

    def faults(self) -> list[str]:
        """What does not add up: entries changed, taken out or not carried out, aliases moved by other means."""
        texts, decisions = self._texts(), self.decisions()
        given = range(1, self._last(texts) + 1)
        found = [f"decision {number} was taken out" for number in given if number not in texts]
        for number, entry in zip(texts, decisions, strict=True):
            follows = number - 1 not in texts or entry.before == _digest(texts[number - 1])
            if entry.number != number or not follows:
                found.append(f"decision {number} does not follow on the one before it: one of them was altered")
        due = [entry for entry in decisions if entry.number > self._settled()]
        found += [
            f"decision {entry.number} was written down, but its process was stopped before it was carried out; the "
            "next decision does that first"
            for entry in due
        ]
        told = {alias: to for entry in decisions for alias, (_, to) in entry.moves.items()}
        actual, unsure = self.registry.aliases(), {alias for entry in due for alias in entry.moves}
        found += [
            f"alias {alias} names {_version(actual.get(alias))}, but the last decision about it says "
            f"{_version(told.get(alias))}: it was moved by other means"
            for alias in sorted((told.keys() | actual.keys()) - unsure)
            if told.get(alias) != actual.get(alias)
        ]
        return found

    def _texts(self) -> dict[int, str]:
        """The text of each decision by its number, the first one first."""
        tags = self.registry.tags()
        return {int(key.removeprefix(PREFIX)): tags[key] for key in sorted(tags) if re.fullmatch(NUMBERED, key)}

    def _settled(self) -> int:
        return int(self.registry.tags().get(SETTLED, 0))

    def _last(self, texts: Mapping[int, str]) -> int:
        """The highest number that was ever given, whether or not its decision is still there."""
        return max([self._settled(), *texts])


def _key(number: int) -> str:
    return f"{PREFIX}{number:06}"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # In a container a process may run under a number that has no name.
        return str(os.getuid())


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _shortened(why: list[str]) -> list[str]:
    """The reasons, as many as fit."""
    kept: list[str] = []
    for reason in why:
        if sum(map(len, kept)) + len(reason) > LONGEST_WHY:
            return [*kept, "..."]
        kept.append(reason)
    return kept


def _version(number: int | None) -> str:
    return "nothing" if number is None else f"version {number}"
