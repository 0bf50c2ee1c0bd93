"""Tells schemathesis what a CSV text for the served model is, which a schema cannot: CSV_HEADER names the columns."""

import os

import schemathesis
from hypothesis import strategies

columns = os.environ["CSV_HEADER"].split(",")
cell = strategies.one_of(strategies.just(""), strategies.floats(-1e9, 1e9).map(str))
row = strategies.lists(cell, min_size=len(columns), max_size=len(columns)).map(",".join)
table = strategies.lists(row, min_size=1, max_size=20).map(lambda rows: "\n".join([",".join(columns), *rows]).encode())
schemathesis.openapi.media_type("text/csv", table)
