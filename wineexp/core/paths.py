"""Folders: the configs that come with wineexp, and the project whose data and records a program works on."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]

# In a clone conf/ lies beside the package; a wheel carries it inside the package.
IN_CLONE = (PACKAGE.parent / "conf" / "train.yaml").is_file()
CONF = PACKAGE.parent / "conf" if IN_CLONE else PACKAGE / "conf"

# The project's folder, with `data/` and a local `mlflow.db`. An installed wineexp takes its working directory.
ROOT = PACKAGE.parent if IN_CLONE else Path.cwd()

# A wheel carries the pins of its data sets here.
PINS = PACKAGE / "pins"
