"""The error that a program shows as a message without a traceback, and the guess at a misspelled name."""

import difflib
from collections.abc import Iterable

from wineexp.core.addresses import without_credentials


class UserError(Exception):
    """A mistake in a config, a file or the environment, which the user can correct.

    Parameters
    ----------
    *faults : str
        One sentence for each fault: the value, the rule that it breaks, what to do. No address in it shows credentials.
    """

    def __init__(self, *faults: str) -> None:
        self.faults = tuple(map(without_credentials, faults))
        super().__init__(*self.faults)

    def __str__(self) -> str:
        if len(self.faults) == 1:
            return self.faults[0]
        listed = [f"  - {fault}".replace("\n", "\n    ") for fault in self.faults]
        return "\n".join([f"{len(self.faults)} faults:", *listed])


class SetupError(UserError):
    """A mistake in what surrounds a config, which other values in it would not mend: a sweep ends at the first one."""


class UnavailableError(UserError):
    """A store, or a file in it, cannot be had at the moment; nothing speaks against what is there."""


def brief(text: str, max_chars: int) -> str:
    """At most so many characters of a text that an error repeats, and dots where there were more."""
    return text if len(text) <= max_chars else f"{text[:max_chars]}..."


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """Last clause of an error about an unknown name: the most similar choice, if any is, and a list of all choices."""
    choices = sorted(map(str, choices))
    nearest = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
    guess = f"did you mean {nearest[0]}? " if nearest else ""
    return f"{guess}choices: {', '.join(choices) or '(none)'}"
