"""Have a data set in place, its files verified against their pins: `python -m wineexp.fetch data=red`."""

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

from wineexp.core.config import Fetch
from wineexp.core.instantiation import build
from wineexp.core.program import program

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wineexp.data.datasets import Dataset
    from wineexp.data.pin import Pin

log = logging.getLogger(__name__)


@program(Fetch)
def main(cfg: DictConfig) -> None:
    """Run from the command line."""
    run(cfg)


def run(cfg: DictConfig) -> "Dataset":
    """Load the data set, which gets what is missing and verifies every file; log its files, and link to them."""
    dataset: Dataset = build(OmegaConf.masked_copy(cfg, "data"))["data"]()
    for pinned in dataset.pins:
        log.info("%s: %d bytes with md5 %s, as pinned.", pinned.name, pinned.size, pinned.md5)
    if cfg.links is not None:
        link(dataset.pins, Path(cfg.links))
    return dataset


def link(pins: "Iterable[Pin]", folder: Path) -> None:
    """Make a folder's links those to the files and, named `.pin`, to their pins.

    DVC refuses a `.dvc` file as a dependency, and a file that one pins is a dependency only once it is there; but it
    follows a link, so that the folder changes as soon as a byte of either does.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        if path.is_symlink():
            path.unlink()
    for pinned in pins:
        for name, there in ((pinned.path.name, pinned.path), (f"{pinned.path.name}.pin", pinned.dvc_file)):
            (folder / name).symlink_to(os.path.relpath(there, folder))


if __name__ == "__main__":
    main()
