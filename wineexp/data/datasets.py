"""Data sets: pinned bytes, parsed and held against a schema before anything is computed from them."""

import csv
import io
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from wineexp.core.errors import UserError
from wineexp.data import pin

if TYPE_CHECKING:
    import pandera.pandas as pa

# Column of UCI's file: lowest and highest physically plausible value, unit (Cortez et al. 2009, table 1).
VINHO_VERDE = {
    "fixed acidity": (3, 20, "g/L tartaric acid"),
    "volatile acidity": (0, 3, "g/L acetic acid"),
    "citric acid": (0, 3, "g/L"),
    "residual sugar": (0, 100, "g/L"),
    "chlorides": (0, 1, "g/L sodium chloride"),
    "free sulfur dioxide": (0, 350, "mg/L"),
    "total sulfur dioxide": (0, 500, "mg/L"),
    "density": (0.98, 1.05, "g/cm³"),
    "pH": (2.5, 4.5, "pH"),
    "sulphates": (0, 3, "g/L potassium sulphate"),
    "alcohol": (7, 16, "% vol"),
}

# UCI's wine data names its columns in prose and gives no units; the names are scikit-learn's.
CULTIVARS = {
    "alcohol": (10, 16, "% vol"),
    "malic_acid": (0, 10, ""),
    "ash": (1, 4, ""),
    "alcalinity_of_ash": (5, 40, ""),
    "magnesium": (50, 200, ""),
    "total_phenols": (0, 6, ""),
    "flavanoids": (0, 8, ""),
    "nonflavanoid_phenols": (0, 1, ""),
    "proanthocyanins": (0, 6, ""),
    "color_intensity": (0, 20, ""),
    "hue": (0, 3, ""),
    "od280_od315_of_diluted_wines": (0, 6, ""),
    "proline": (100, 2500, ""),
}

# Columns that a target is read from, and their classes.
TARGETS = {"cultivar": range(1, 4), "quality": range(3, 10)}


@dataclass(frozen=True)
class Dataset:
    """A table of wines.

    Attributes
    ----------
    frame : DataFrame of shape (n_samples, n_columns)
        The features and every column that a target can be read from.
    features : tuple of str
        The columns that a model may see.
    units : dict of str to str
        Unit of each feature; empty where the source gives none.
    pins : tuple of Pin
        The files that the rows come from, in their order.
    """

    frame: pd.DataFrame
    features: tuple[str, ...]
    units: dict[str, str]
    pins: tuple[pin.Pin, ...]

    @property
    def md5(self) -> str:
        """The md5 of each file, in order, joined by `+`."""
        return "+".join(pinned.md5 for pinned in self.pins)

    @property
    def duplicates(self) -> int:
        """How many rows repeat an earlier one in every column."""
        return int(self.frame.duplicated().sum())


def cultivar(pin_file: str) -> Dataset:
    """UCI's wine data: 178 wines of three cultivars, rebuilt from scikit-learn where the file is missing.

    Parameters
    ----------
    pin_file : str
        The pin of `wine.data`.

    Raises
    ------
    UserError
        The file cannot be had, has other bytes than its pin says, or breaks the schema.
    """
    pinned = pin.read(pin_file)
    content = pin.load(pinned, rebuild=_uci_wine)
    columns = ["cultivar", *CULTIVARS]
    frame = _table(content, pinned.name, CULTIVARS, columns=columns, separator=",", header=False)
    return Dataset(frame, tuple(CULTIVARS), {name: unit for name, (_, _, unit) in CULTIVARS.items()}, (pinned,))


def wine_quality(pin_files: dict[str, str]) -> Dataset:
    """UCI's wine quality data: physico-chemical measurements and the median of three tasters' grades.

    Parameters
    ----------
    pin_files : dict of str to str
        For each colour the pin of its file. More than one colour adds the column `colour`.

    Raises
    ------
    UserError
        A file cannot be had, has other bytes than its pin says, or breaks the schema; of all files at once.
    """

    def load(pin_file: str) -> tuple[pin.Pin, pd.DataFrame] | UserError:
        try:
            pinned = pin.read(pin_file)
            content, columns = pin.load(pinned), [*VINHO_VERDE, "quality"]
            return pinned, _table(content, pinned.name, VINHO_VERDE, columns=columns, separator=";", header=True)
        except UserError as error:
            return error

    # At once, so that two files that cannot be reached keep the user waiting no longer than one.
    with ThreadPoolExecutor() as pool:
        loaded = list(pool.map(load, pin_files.values()))
    if faults := [fault for error in loaded if isinstance(error, UserError) for fault in error.faults]:
        raise UserError(*faults)
    pins, frames = zip(*loaded, strict=True)
    if len(frames) > 1:
        frames = [frame.assign(colour=colour) for colour, frame in zip(pin_files, frames, strict=True)]
    frame = pd.concat(frames, ignore_index=True).rename(columns=_snake_case)
    units = {_snake_case(name): unit for name, (_, _, unit) in VINHO_VERDE.items()}
    if len(pin_files) > 1:
        units["colour"] = ""
    return Dataset(frame, tuple(units), units, pins)


def _snake_case(name: str) -> str:
    return name.replace(" ", "_")


def _uci_wine() -> bytes:
    """UCI's own bytes of wine.data: classes from 1, no zero before the point, three trailing zeros kept."""
    from sklearn.datasets import load_wine

    def written(value: float) -> str:
        text = repr(float(value)).removesuffix(".0")
        if text in ("8.6", "8.9", "9.4"):
            text += "0"
        return text.removeprefix("0") if text.startswith("0.") else text

    wine = load_wine()
    rows = zip(wine.target, wine.data, strict=True)
    lines = (",".join([str(label + 1), *map(written, values)]) for label, values in rows)
    return ("\n".join(lines) + "\n").encode()


def _table(
    content: bytes,
    name: str,
    measurements: Mapping[str, tuple[float, float, str]],
    *,
    columns: list[str],
    separator: str,
    header: bool,
) -> pd.DataFrame:
    """The file's table in the schema's types, or one error with every violation: line, column, value, rule."""
    try:
        reader = csv.reader(io.StringIO(content.decode()), delimiter=separator)
        lines = [(reader.line_num, row) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{name} is not CSV text in UTF-8: {error}") from error
    rule = f"the schema wants {len(columns)} separated by {separator!r}"
    found = lines.pop(0)[1] if header and lines else columns
    faults = [
        (line, f"{name}, line {line}: {len(row)} values ({separator.join(row)!r}), {rule}")
        for line, row in lines
        # A line is as long as the header says; where that is wrong, it is said once.
        if len(row) != len(found)
    ]
    if found != columns:
        faults.insert(
            0, (1, f"{name}, line 1: columns are {found}, the schema wants {columns} separated by {separator!r}")
        )
    else:
        cells = {line: row for line, row in lines if len(row) == len(columns)}
        raw = pd.DataFrame.from_dict(cells, orient="index", columns=columns, dtype=object)
        numbers = raw.apply(pd.to_numeric, errors="coerce").astype(float)
        faults += [
            (line, f"{name}, line {line}, {column}: {raw.at[line, column]!r} is {fault}")
            for (line, column), fault in _violations(raw, numbers, _schema(measurements, columns)).items()
        ]
    if not lines:
        faults.append((1, f"{name} holds no rows"))
    if faults:
        raise UserError(*(fault for _, fault in sorted(faults, key=lambda numbered: numbered[0])))
    classes = [column for column in columns if column in TARGETS]
    table: pd.DataFrame = numbers.astype(dict.fromkeys(classes, int)).reset_index(drop=True)
    return table


def _schema(measurements: Mapping[str, tuple[float, float, str]], columns: list[str]) -> "pa.DataFrameSchema":
    import pandera.pandas as pa

    rules = {
        name: pa.Check.in_range(low, high, error=f"from {low} to {high} {unit}".rstrip())
        for name, (low, high, unit) in measurements.items()
    } | {
        name: pa.Check.isin(list(allowed), error=f"one of {', '.join(map(str, allowed))}")
        for name, allowed in TARGETS.items()
    }
    return pa.DataFrameSchema({name: pa.Column(float, rules[name]) for name in columns})


def _violations(raw: pd.DataFrame, numbers: pd.DataFrame, schema: "pa.DataFrameSchema") -> dict[tuple[int, str], str]:
    """What is wrong with each broken cell, by line and column, in the columns' order; NaN stands for no number."""
    import pandera.errors

    broken = {
        (raw.index[row], raw.columns[column]): "no number"
        if str(raw.iat[row, column]).strip()
        else "missing, and no value may be"
        for row, column in np.argwhere(numbers.isna())
    }
    try:
        # A cell that is no number would make pandera stop at the column; a number stands in for it.
        schema.validate(numbers.fillna(0), lazy=True)
    except pandera.errors.SchemaErrors as error:
        for case in error.failure_cases.itertuples():
            broken.setdefault((int(case.index), case.column), f"not {case.check}")
    columns = list(raw.columns)
    return dict(sorted(broken.items(), key=lambda cell: columns.index(cell[0][1])))
