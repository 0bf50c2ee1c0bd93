"""The door through which DVC composes conf/pipeline.yaml: what it cannot know without importing wineexp.

DVC runs Hydra in its own process, looks for plugins in the project's root, and so runs this module before it composes.
"""

from hydra.core.config_store import ConfigStore

from wineexp.core.config import GROUPS, Train
from wineexp.core.paths import CONF

ConfigStore.instance().store("train_frame", Train, provider="wineexp")
for group in GROUPS:
    for path in (CONF / group).glob("*.yaml"):
        # A composed config says what a choice holds, not what it is called.
        ConfigStore.instance().store(
            group=f"chosen/{group}", name=path.stem, node={group: path.stem}, package="chosen", provider="wineexp"
        )
