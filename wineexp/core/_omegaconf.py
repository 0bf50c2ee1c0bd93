"""All that core uses of OmegaConf beyond its public API; tests/core/test_mistakes.py relies on it."""

from omegaconf import DictConfig


def root_of(node: DictConfig) -> DictConfig:
    """The whole config that a node is part of."""
    root = node._get_root()
    assert isinstance(root, DictConfig)  # noqa: S101  a node of a list of configs has none
    return root
