"""The part of `--help` that describes the choices of each config group by the first comment of their YAML files."""

import re
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path

from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from wineexp.core.config import GROUPS

MAX_DESCRIPTION_CHARS = 110


def register() -> None:
    """Register the OmegaConf resolver with which conf/hydra/help/choices.yaml inserts the text."""
    OmegaConf.register_new_resolver("help_choices", choices_text, replace=True)


def choices_text(choices: Mapping[str, str | None]) -> str:
    """The groups of a program, each with its choices and their descriptions; a star marks the default.

    Parameters
    ----------
    choices : mapping of str to str or None
        The default choice of each group, as the program's config has it.
    """
    folders = list(config_folders())
    paragraphs = []
    # The groups that define an experiment come first, in the order of `GROUPS`.
    for group in sorted(choices, key=lambda name: GROUPS.index(name) if name in GROUPS else len(GROUPS)):
        default = choices[group]
        if group.startswith("hydra/"):
            continue
        # A group such as `model@baseline` has the choices of `model`, and its own key in the config.
        descriptions = described(group.partition("@")[0], folders)
        width = max(map(len, descriptions), default=0)
        lines = []
        for name, text in descriptions.items():
            mark = "*" if name == default else " "
            description = textwrap.shorten(text, MAX_DESCRIPTION_CHARS, placeholder=" ...")
            lines.append(f"  {mark} {name:<{width}}  {description}".rstrip())
        paragraphs.append("\n".join([f"{group}=", *lines]))
    # The text becomes part of a template of Hydra's, in which $ must be escaped.
    return ("\n".join(paragraphs) + "\n").replace("$", "$$")


def config_folders() -> Iterator[Path]:
    """The folders on Hydra's search path, which includes the user's `--config-dir`."""
    for element in GlobalHydra.instance().config_loader().get_search_path().get_path():
        path = Path(element.path.removeprefix("file://"))
        if not element.path.startswith("pkg://") and path.is_dir():
            yield path


def described(group: str, folders: list[Path]) -> dict[str, str]:
    """The choices of a group in alphabetical order, with the first sentence of their files."""
    descriptions: dict[str, str] = {}
    for folder in folders:
        for path in sorted((folder / group).glob("*.yaml")):
            descriptions.setdefault(path.stem, first_comment(path))
    return dict(sorted(descriptions.items()))


def first_comment(path: Path) -> str:
    """First sentence of the comment at the beginning of a file; empty where there is no such comment."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        # A directive of Hydra's, not a description.
        if line.startswith("# @package"):
            continue
        # The paragraph ends at an empty comment, at an indented command or at the first key.
        if not re.match("# ?\\S", line):
            break
        lines.append(line.removeprefix("#").strip())
    return re.split(r"\.(?= +[A-Z]|$)", " ".join(lines))[0]
