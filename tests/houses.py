"""A table of houses whose prices are predicted as numbers, with the configs of its data set and target."""

from pathlib import Path

import numpy as np
import pandas as pd

# Not conf, which programs find by themselves, and say so.
CONFIGS = "configs"

DATA = """\
_target_: wineexp.data.table
path: FOLDER/houses.csv
targets: [price]
noun: [house, houses]
columns:
  area: {unit: m²}
  price: {unit: kEUR, meaning: What it was sold for.}
"""
TARGET = """\
_target_: wineexp.data.target.Target
column: price
kind: regression
bins: null
labels: null
ordinal: false
transform: null
metric: root_mean_squared_error
direction: minimize
"""


def houses(n_rows: int = 300, seed: int = 0) -> pd.DataFrame:
    """Prices that grow with the area, by a factor in a good district, and vary in proportion to themselves."""
    rng = np.random.default_rng(seed)
    area, district = rng.uniform(30, 200, n_rows), rng.choice(["good", "plain"], n_rows)
    price = np.exp(rng.normal(0, 0.1, n_rows)) * area * np.where(district == "good", 9, 4)
    return pd.DataFrame({"area": area.round(1), "district": district, "price": price.round(2)})


def write_houses(folder: Path) -> None:
    """The table, and in the folder `CONFIGS` its configs: choices `data=houses target=price`."""
    houses().to_csv(folder / "houses.csv", index=False)
    for name, text in {"data/houses.yaml": DATA, "target/price.yaml": TARGET}.items():
        (folder / CONFIGS / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / CONFIGS / name).write_text(text.replace("FOLDER", str(folder)))
