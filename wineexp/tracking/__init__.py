"""All that touches MLflow: runs, studies, registry, provenance."""
