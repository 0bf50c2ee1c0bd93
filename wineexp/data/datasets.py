"""Data sets: pinned files, parsed and validated."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from wineexp.core.errors import UserError
from wineexp.data import csv_table, eda, pin, pinned_file
from wineexp.data.csv_table import Measurement
from wineexp.data.schema import snake_case

# Columns of UCI's wine quality files; units are those of Cortez et al. 2009, table 1.
WINE_QUALITY_MEASUREMENTS = {
    "fixed acidity": Measurement(3, 20, "g/L tartaric acid"),
    "volatile acidity": Measurement(0, 3, "g/L acetic acid"),
    "citric acid": Measurement(0, 3, "g/L"),
    "residual sugar": Measurement(0, 100, "g/L"),
    "chlorides": Measurement(0, 1, "g/L sodium chloride"),
    "free sulfur dioxide": Measurement(0, 350, "mg/L"),
    "total sulfur dioxide": Measurement(0, 500, "mg/L"),
    "density": Measurement(0.98, 1.05, "g/cm³"),
    "pH": Measurement(2.5, 4.5, "pH"),
    "sulphates": Measurement(0, 3, "g/L potassium sulphate"),
    "alcohol": Measurement(7, 16, "% vol"),
}

# Columns of UCI's wine data, which has no header and gives no units: the names are scikit-learn's.
CULTIVAR_MEASUREMENTS = {
    "alcohol": Measurement(10, 16, "% vol"),
    "malic_acid": Measurement(0, 10, ""),
    "ash": Measurement(1, 4, ""),
    "alcalinity_of_ash": Measurement(5, 40, ""),
    "magnesium": Measurement(50, 200, ""),
    "total_phenols": Measurement(0, 6, ""),
    "flavanoids": Measurement(0, 8, ""),
    "nonflavanoid_phenols": Measurement(0, 1, ""),
    "proanthocyanins": Measurement(0, 6, ""),
    "color_intensity": Measurement(0, 20, ""),
    "hue": Measurement(0, 3, ""),
    "od280_od315_of_diluted_wines": Measurement(0, 6, ""),
    "proline": Measurement(100, 2500, ""),
}

# The columns that a target can be read from, and the values that may occur.
TARGET_CLASSES = {"cultivar": range(1, 4), "quality": range(3, 10)}


@dataclass(frozen=True)
class Dataset:
    """A table and where it comes from.

    Attributes
    ----------
    frame : DataFrame of shape (n_samples, n_columns)
        The features and every column that a target can be read from.
    features : tuple of str
        Columns that a model may use.
    units : dict of str to str
        Unit of each feature; empty where the source gives none.
    pins : tuple of Pin
        The files that hold the rows, in their order.
    noun : sequence of two str
        What a row is, in singular and plural, for pages and reports; the config's `data.noun`.
    """

    frame: pd.DataFrame
    features: tuple[str, ...]
    units: dict[str, str]
    pins: tuple[pin.Pin, ...]
    noun: Sequence[str] = ("row", "rows")

    @property
    def md5(self) -> str:
        """The md5 of each file, in order, joined by `+`."""
        return "+".join(pinned.md5 for pinned in self.pins)

    @cached_property
    def duplicates(self) -> int:
        """Number of rows that repeat an earlier one in every column."""
        return int(self.frame.duplicated().sum())

    @cached_property
    def chance_duplicates(self) -> int:
        """Number of rows that would repeat an earlier one by chance; see `eda.chance_repeats`."""
        return eda.chance_repeats(self.frame)

    @property
    def is_repeated_by_chance(self) -> bool:
        """Whether chance alone explains half of the rows that repeat an earlier one, or more."""
        return 0 < self.duplicates <= 2 * self.chance_duplicates


def cultivar(pin_file: str) -> Dataset:
    """UCI's wine data: 178 wines of three cultivars, rebuilt from scikit-learn where the file is missing.

    Parameters
    ----------
    pin_file : str
        The pin of `wine.data`.

    Raises
    ------
    UserError
        The file is not available, has other bytes than its pin says, or holds an invalid value.
    """
    pinned = pin.read(pin_file)
    frame = csv_table.parse(
        pinned_file.load(pinned, rebuild=uci_wine_bytes),
        pinned.name,
        CULTIVAR_MEASUREMENTS,
        TARGET_CLASSES,
        columns=["cultivar", *CULTIVAR_MEASUREMENTS],
        separator=",",
        header=False,
    )
    units = {name: measurement.unit for name, measurement in CULTIVAR_MEASUREMENTS.items()}
    return Dataset(frame, tuple(units), units, (pinned,))


def wine_quality(pin_files: dict[str, str]) -> Dataset:
    """UCI's wine quality data: physico-chemical measurements and the median of three tasters' grades.

    Parameters
    ----------
    pin_files : dict of str to str
        The pin of each colour's file. With more than one colour, the table has a column `colour`.

    Raises
    ------
    UserError
        Files are not available, have other bytes than their pins say, or hold invalid values; it lists the faults of
        all files.
    """

    def load(pin_file: str) -> tuple[pin.Pin, pd.DataFrame] | UserError:
        try:
            pinned = pin.read(pin_file)
            return pinned, csv_table.parse(
                pinned_file.load(pinned),
                pinned.name,
                WINE_QUALITY_MEASUREMENTS,
                TARGET_CLASSES,
                columns=[*WINE_QUALITY_MEASUREMENTS, "quality"],
                separator=";",
                header=True,
            )
        except UserError as error:
            return error

    # Concurrently, because each file that cannot be reached takes seconds to fail.
    with ThreadPoolExecutor() as pool:
        loaded = list(pool.map(load, pin_files.values()))
    if faults := [fault for error in loaded if isinstance(error, UserError) for fault in error.faults]:
        raise UserError(*faults)
    pins, frames = zip(*loaded, strict=True)
    if len(frames) > 1:
        frames = [frame.assign(colour=colour) for colour, frame in zip(pin_files, frames, strict=True)]
    frame = pd.concat(frames, ignore_index=True).rename(columns=snake_case)
    units = {snake_case(name): measurement.unit for name, measurement in WINE_QUALITY_MEASUREMENTS.items()}
    if len(pin_files) > 1:
        units["colour"] = ""
    return Dataset(frame, tuple(units), units, pins)


def uci_wine_bytes() -> bytes:
    """The bytes of UCI's wine.data: classes count from 1, and 0.5 is written as .5."""
    from sklearn.datasets import load_wine

    def format_number(value: float) -> str:
        text = repr(float(value)).removesuffix(".0")
        # These alone keep a trailing zero in UCI's file.
        if text in ("8.6", "8.9", "9.4"):
            text += "0"
        return text.removeprefix("0") if text.startswith("0.") else text

    wine = load_wine()
    rows = zip(wine.target, wine.data, strict=True)
    lines = (",".join([str(label + 1), *map(format_number, values)]) for label, values in rows)
    return ("\n".join(lines) + "\n").encode()
