"""Data sets: pinned bytes, parsed and held against a schema before anything is computed from them."""

import csv
import io
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from wineexp import pin
from wineexp.errors import UserError

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
    columns = ["cultivar", *CULTIVARS]
    raw = _parse(pin.load(pinned, rebuild=_uci_wine), pinned.name, separator=",", columns=columns)
    frame = _validated(raw, _schema(CULTIVARS, "cultivar"), pinned.name, first_line=1)
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
            raw = _parse(pin.load(pinned), pinned.name, separator=";", columns=[*VINHO_VERDE, "quality"], header=True)
            return pinned, _validated(raw, _schema(VINHO_VERDE, "quality"), pinned.name, first_line=2)
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


def _parse(content: bytes, name: str, *, separator: str, columns: list[str], header: bool = False) -> pd.DataFrame:
    """All cells as text (n_samples, n_columns), so that the schema can name each one that is no number."""
    try:
        rows = list(csv.reader(io.StringIO(content.decode()), delimiter=separator))
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{name} is not CSV text: {error}") from error
    faults = []
    if header:
        found = rows.pop(0) if rows else []
        if found != columns:
            faults.append(f"{name}, line 1: columns are {found}, the schema wants {columns} separated by {separator!r}")
    first_line = 2 if header else 1
    faults += [
        f"{name}, line {line}: {len(row)} values, the schema wants {len(columns)} separated by {separator!r}"
        for line, row in enumerate(rows, first_line)
        if len(row) != len(columns)
    ]
    if faults:
        raise UserError(*faults)
    return pd.DataFrame(rows, columns=columns, dtype=object)


def _schema(measurements: Mapping[str, tuple[float, float, str]], target: str) -> "pa.DataFrameSchema":
    import pandera.pandas as pa

    allowed = list(TARGETS[target])
    classes = pa.Column(float, pa.Check.isin(allowed, error=f"one of {', '.join(map(str, allowed))}"))
    features = {
        name: pa.Column(float, pa.Check.in_range(low, high, error=f"from {low} to {high} {unit}".rstrip()))
        for name, (low, high, unit) in measurements.items()
    }
    return pa.DataFrameSchema({target: classes} | features)


def _validated(raw: pd.DataFrame, schema: "pa.DataFrameSchema", name: str, *, first_line: int) -> pd.DataFrame:
    """The table in the schema's types, or one error with every violation: row, column, value, rule."""
    import pandera.errors

    numbers = raw.apply(pd.to_numeric, errors="coerce").astype(float)
    broken = {
        (row, column): "missing, and no value may be" if raw.at[row, column] == "" else "no number"
        for row, column in numbers.isna().stack().loc[lambda cells: cells].index
    }
    try:
        # A cell that is no number would make pandera stop at the column; a number stands in for it.
        valid: pd.DataFrame = schema.validate(numbers.fillna(0), lazy=True)
    except pandera.errors.SchemaErrors as error:
        for case in error.failure_cases.dropna(subset="index").itertuples():
            broken.setdefault((int(case.index), case.column), f"not {case.check}")
    if broken:
        raise UserError(
            *(
                f"{name}, line {first_line + row}, {column}: {raw.at[row, column]!r} is {rule}"
                for (row, column), rule in sorted(broken.items(), key=lambda cell: cell[0][0])
            )
        )
    classes = [column for column in raw.columns if column in TARGETS]
    return valid.astype(dict.fromkeys(classes, int))
