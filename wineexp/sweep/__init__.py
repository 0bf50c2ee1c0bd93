"""Sweeps: many jobs of one Hydra program, their parameters suggested by Optuna.

The door is `hydra_plugins/wineexp_sweeper`, which Hydra scans at every start of a program: nothing is imported here.
"""
