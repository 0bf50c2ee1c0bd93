"""What a CSV file says about itself before its table."""

import re

# Excel takes such a first line for what separates the values, and shows no row for it.
_SEPARATOR_LINE = re.compile(r"sep=(.)\r?\n?")


def named_separator(line: str) -> str | None:
    """The separator that a file's first line names, as `sep=;` does, without a byte order mark; None where it does not.

    Such a line is no row of the table, and not its header.
    """
    named = _SEPARATOR_LINE.fullmatch(line)
    return named[1] if named else None
