"""Estimators, feature pipelines, explanations, and models as files."""
