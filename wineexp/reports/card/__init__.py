"""The model card, computed from a version's record."""
