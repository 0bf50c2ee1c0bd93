"""What `--help` says of each choice: the first comment of its YAML file."""

import re
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path

from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from wineexp.core.config import GROUPS

WIDTH = 110


def register() -> None:
    """Let conf/hydra/help/choices.yaml ask for the text on a program's groups."""
    OmegaConf.register_new_resolver("help_choices", choices_text, replace=True)


def choices_text(choices: Mapping[str, str | None]) -> str:
    """The groups of a program, each with its choices and a few words on them; a star marks the default.

    Parameters
    ----------
    choices : mapping of str to str or None
        The choice that the program's config makes of each group.
    """
    folders = list(config_folders())
    paragraphs = []
    # What an experiment is made of comes first, in its own order.
    for group in sorted(choices, key=lambda name: GROUPS.index(name) if name in GROUPS else len(GROUPS)):
        default = choices[group]
        if group.startswith("hydra/"):
            continue
        # `model@baseline`: the choices are those of the group, chosen under another name.
        names = described(group.partition("@")[0], folders)
        width = max(map(len, names), default=0)
        lines = [
            f"  {'*' if name == default else ' '} {name:<{width}}  {textwrap.shorten(words, WIDTH, placeholder=' ...')}"
            for name, words in names.items()
        ]
        paragraphs.append("\n".join([f"{group}=", *map(str.rstrip, lines)]))
    # Hydra's template replaces $NAME.
    return ("\n".join(paragraphs) + "\n").replace("$", "$$")


def config_folders() -> Iterator[Path]:
    """The folders on Hydra's search path, the user's own `--config-dir` among them."""
    for element in GlobalHydra.instance().config_loader().get_search_path().get_path():
        path = Path(element.path.removeprefix("file://"))
        if not element.path.startswith("pkg://") and path.is_dir():
            yield path


def described(group: str, folders: list[Path]) -> dict[str, str]:
    """The choices of a group in alphabetical order, each with the first comment of its file."""
    found: dict[str, str] = {}
    for folder in folders:
        for path in sorted((folder / group).glob("*.yaml")):
            found.setdefault(path.stem, first_comment(path))
    return dict(sorted(found.items()))


def first_comment(path: Path) -> str:
    """The first sentence of the comment that a file begins with; empty where it begins otherwise."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        # Hydra's own directive, which says where the file's keys go.
        if line.startswith("# @package"):
            continue
        # An empty comment or an indented command ends the paragraph.
        if not re.match("# ?\\S", line):
            break
        lines.append(line.removeprefix("#").strip())
    return re.split(r"\.(?= +[A-Z]|$)", " ".join(lines))[0]
