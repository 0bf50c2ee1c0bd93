"""Decisions about a registered model: each is written down before it is carried out."""

import getpass
import json
import logging
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime

from mlflow.exceptions import MlflowException

from wineexp.core.errors import UserError
from wineexp.tracking.names import DECISION, DECISIONS_FILE, SOURCE_RUN_ID
from wineexp.tracking.registry import Registry

log = logging.getLogger(__name__)

# Tags of the registered model: one per decision, by its number, and the number of the last one that was carried out.
DECISION_PREFIX = "decision."
SETTLED = "decisions.settled"
DECISION_TAG = rf"{re.escape(DECISION_PREFIX)}\d{{6,}}"
# PostgreSQL holds 5,000 characters of a registered model's tag; the rest is for names and numbers.
MAX_REASONS_CHARS = 3500


@dataclass(frozen=True)
class Decision:
    """One entry of the history.

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
        For each alias the version that it named and the one that it is to name; empty where no alias moves.
    why : list of str
    run_id : str
        The run that was decided on.
    alias : str
        The alias that was decided on; moves of others follow from it.
    """

    number: int
    when: str
    who: str
    kind: str
    moves: dict[str, list[int | None]]
    why: list[str]
    run_id: str
    alias: str = ""


class History:
    """The decisions about one registered model.

    `append` and `settle` must be called under the registry's lock.

    Parameters
    ----------
    registry : Registry
    """

    def __init__(self, registry: Registry) -> None:
        self.registry = registry

    def decisions(self) -> list[Decision]:
        """All decisions, the oldest first.

        Raises
        ------
        UserError
            With every decision that cannot be read.
        """
        known = {field.name for field in fields(Decision)}
        decisions, faults = [], []
        for number, text in self._texts().items():
            try:
                # Entries of earlier releases have further keys.
                decisions.append(Decision(**{key: value for key, value in json.loads(text).items() if key in known}))
            except (ValueError, TypeError, AttributeError):
                faults.append(
                    f"decision {number} of {self.registry.name} cannot be read, its tag {_tag(number)} was altered; "
                    f"write it again as {DECISIONS_FILE} has it, an artifact of every run that was decided on later"
                )
        if faults:
            raise UserError(*faults)
        return decisions

    def append(
        self, kind: str, alias: str, moves: Mapping[str, list[int | None]], why: list[str], run_id: str
    ) -> Decision:
        """Write a decision down; `settle` carries it out."""
        self.registry.ensure()
        decision = Decision(
            # Where a decision was removed, their count would be the number of another one.
            number=self._last_number() + 1,
            when=datetime.now(UTC).isoformat(timespec="seconds"),
            who=f"{_user()}@{socket.gethostname()}",
            kind=kind,
            alias=alias,
            moves=dict(moves),
            why=_shortened(why),
            run_id=run_id,
        )
        text = json.dumps(asdict(decision), ensure_ascii=False)
        self.registry.client.set_registered_model_tag(self.registry.name, _tag(decision.number), text)
        return decision

    def settle(self) -> None:
        """Carry out every decision that was written down and not carried out yet, those of killed processes too."""
        last_settled = self._last_settled()
        for decision in self.decisions():
            if decision.number <= last_settled:
                continue
            for alias, (_, to) in decision.moves.items():
                if to is None:
                    self.registry.client.delete_registered_model_alias(self.registry.name, alias)
                # A version may have been deleted in MLflow since; `faults` then names the alias.
                elif self.registry.find(str(to)) is not None:
                    self.registry.client.set_registered_model_alias(self.registry.name, alias, str(to))
            self.registry.client.set_registered_model_tag(self.registry.name, SETTLED, str(decision.number))
            self._copy_to_run(decision)

    def _copy_to_run(self, decision: Decision) -> None:
        """Give the run that was decided on the kind of the decision and a copy of the history up to it.

        The run that it was promoted from gets the kind, too: an earlier decision may have been about that one.
        """
        texts = self._texts()
        copy = "".join(f"{text}\n" for number, text in texts.items() if number <= decision.number)
        try:
            self.registry.client.log_text(decision.run_id, copy, DECISIONS_FILE)
            tags = self.registry.client.get_run(decision.run_id).data.tags
            for run_id in filter(None, (decision.run_id, tags.get(SOURCE_RUN_ID))):
                self.registry.client.set_tag(run_id, DECISION, decision.kind)
        except (MlflowException, OSError) as error:
            reason = " ".join(str(error).split())
            log.warning(
                "decision %d stands, but run %s got no copy of it: %s", decision.number, decision.run_id, reason
            )

    def faults(self) -> list[str]:
        """Decisions that are missing or not carried out, and aliases that the last decision does not explain."""
        decisions, numbers = self.decisions(), self._texts().keys()
        faults = [
            f"decision {number} was removed" for number in range(1, self._last_number() + 1) if number not in numbers
        ]
        unsettled = [decision for decision in decisions if decision.number > self._last_settled()]
        faults += [
            f"decision {decision.number} was written down, but its process was stopped before it was carried out; the "
            "next decision carries it out first"
            for decision in unsettled
        ]
        decided = {alias: to for decision in decisions for alias, (_, to) in decision.moves.items()}
        actual, moving = self.registry.aliases(), {alias for decision in unsettled for alias in decision.moves}
        faults += [
            f"alias {alias} names {_version(actual.get(alias))}, but the last decision about it says "
            f"{_version(decided.get(alias))}: it was moved by other means"
            for alias in sorted((decided.keys() | actual.keys()) - moving)
            if decided.get(alias) != actual.get(alias)
        ]
        return faults

    def _texts(self) -> dict[int, str]:
        """The text of each decision by its number, in the order of the numbers."""
        tags = self.registry.tags()
        numbered = {
            int(tag.removeprefix(DECISION_PREFIX)): tags[tag] for tag in tags if re.fullmatch(DECISION_TAG, tag)
        }
        return dict(sorted(numbered.items()))

    def _last_settled(self) -> int:
        return int(self.registry.tags().get(SETTLED, 0))

    def _last_number(self) -> int:
        """The highest number that was ever given, whether or not its decision is still there."""
        return max([self._last_settled(), *self._texts()])


def _tag(number: int) -> str:
    return f"{DECISION_PREFIX}{number:06}"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # In a container a process may run under a number that has no name.
        return str(os.getuid())


def _shortened(reasons: list[str]) -> list[str]:
    """As many of the reasons as fit in a tag."""
    fitting: list[str] = []
    for reason in reasons:
        if sum(map(len, fitting)) + len(reason) > MAX_REASONS_CHARS:
            return [*fitting, "..."]
        fitting.append(reason)
    return fitting


def _version(number: int | None) -> str:
    return "nothing" if number is None else f"version {number}"
