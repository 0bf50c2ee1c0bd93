"""Fetch the files of a data set and verify them against their pins: `python -m wineexp.fetch data=red`."""

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

    from wineexp.data.dataset import Dataset
    from wineexp.data.pin import Pin

log = logging.getLogger(__name__)


@program(Fetch)
def main(cfg: DictConfig) -> None:
    """Run from the command line."""
    run(cfg)


def run(cfg: DictConfig) -> "Dataset":
    """Load the data set, which fetches missing files and verifies all; log the files, and link to them if asked.

    In a DVC project they are stored in DVC's cache.
    """
    dataset: Dataset = build(OmegaConf.masked_copy(cfg, "data"))["data"]()
    for pin in dataset.pins:
        log.info("%s: %d bytes with md5 %s%s.", pin.name, pin.size, pin.md5, ", as pinned" if pin.is_pinned else "")
    if cfg.links is not None:
        link(dataset.pins, Path(cfg.links))
    from wineexp.data.pin import store_in_cache

    store_in_cache(dataset.pins)
    return dataset


def link(pins: "Iterable[Pin]", folder: Path) -> None:
    """Replace the links in a folder by links to the files and, with the suffix `.pin`, to their pins.

    DVC does not accept a `.dvc` file as a dependency, nor a pinned file that is not there yet. It does accept a folder
    of links and follows them, so that a stage that depends on the folder runs again when a file or its pin changes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        if path.is_symlink():
            path.unlink()
    for pin in pins:
        for name, target in ((pin.path.name, pin.path), (f"{pin.path.name}.pin", pin.dvc_file)):
            (folder / name).symlink_to(os.path.relpath(target, folder))


if __name__ == "__main__":
    main()
