"""Types of the user's own that a stored model may hold: those that the key `trust` of a program's own config names.

A server trusts what its own config says, and nothing that lies in a store beside a model. While a program runs, the
names are in an environment variable, which every process inherits that it starts.
"""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from omegaconf import DictConfig

from wineexp.core.environment import restoring
from wineexp.core.errors import UserError

# Names with commas between them. Who sets it trusts them in every program.
VARIABLE = "WINEEXP_TRUSTED_TYPES"


def own_types() -> list[str]:
    """The names of the types that the user trusts."""
    return [name for word in os.environ.get(VARIABLE, "").split(",") if (name := word.strip())]


@contextmanager
def trusting(cfg: Mapping[str, Any] | DictConfig) -> Iterator[None]:
    """Trust the types that a program's config names, until the program ends.

    Raises
    ------
    UserError
        Names that are none of a type.
    """
    said = [str(name) for name in cfg.get("trust") or []]
    if faults := [name for name in said if not re.fullmatch(r"[^\W\d]\w*(?:\.[^\W\d]\w*)+", name)]:
        raise UserError(*(f"trust={name}: the full name of a class is wanted, as my.module.Model" for name in faults))
    if not said:
        yield
        return
    with restoring(VARIABLE):
        os.environ[VARIABLE] = ",".join(dict.fromkeys([*own_types(), *said]))
        yield
