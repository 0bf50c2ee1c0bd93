"""The one kind of error that is the user's to mend: shown as its text, without a traceback."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in what the user gave: a config, a file, an environment.

    Parameters
    ----------
    *faults : str
        Every fault found, one sentence each: what was wrong, the value, the rule, what to do.

    """

    def __init__(self, *faults: str) -> None:
        super().__init__(*faults)
        self.faults = faults

    def __str__(self) -> str:
        if len(self.faults) == 1:
            return self.faults[0]
        listed = [f"  - {fault}".replace("\n", "\n    ") for fault in self.faults]
        return "\n".join([f"{len(self.faults)} faults:", *listed])


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """A closing clause for an error about an unknown name: the nearest choice, and all of them."""
    choices = sorted(map(str, choices))
    near = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
    guess = f"did you mean {near[0]}? " if near else ""
    return f"{guess}choices: {', '.join(choices) or '(none)'}"
