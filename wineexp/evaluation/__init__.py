"""Metrics, cross-validation, comparison of scores, figures."""
