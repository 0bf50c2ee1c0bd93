"""Sweeps: many jobs of one Hydra program, whose parameters Optuna suggests.

Hydra finds the sweeper in `hydra_plugins/wineexp_sweeper` and imports this package at every start of a program, so that
nothing is imported here.
"""
