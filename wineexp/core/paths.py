"""Where things are: the configs that come with wineexp, and the project whose data and records a program works on."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]

# In a clone conf/ lies beside the package; a wheel carries it inside.
IN_CLONE = (PACKAGE.parent / "conf" / "train.yaml").is_file()
CONF = PACKAGE.parent / "conf" if IN_CLONE else PACKAGE / "conf"

# The folder that `data/` and a local `mlflow.db` are in: the clone, or where an installed wineexp was started.
ROOT = PACKAGE.parent if IN_CLONE else Path.cwd()

# Pins of the data sets that come with wineexp, where a wheel carries them.
PINS = PACKAGE / "pins"
