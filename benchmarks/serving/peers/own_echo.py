"""The server of this project with a model that gives every row the same probabilities: what is left is all else."""

import runpy

import numpy as np

from wineexp.serving.model.predictor import Served


def probabilities(served, rows):
    return np.full((len(rows), len(served.schema.classes)), 1 / len(served.schema.classes))


Served.probabilities = probabilities
runpy.run_module("wineexp.serve", run_name="__main__")
