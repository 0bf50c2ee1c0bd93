"""Experiments on wine, from data to served model: one composed config is one run."""
