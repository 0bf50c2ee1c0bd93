"""Registers with Hydra what conf/pipeline.yaml names, so that DVC can compose it.

DVC composes the config in its own process, where wineexp's programs are not imported; but Hydra finds this plugin in
the project's root and runs it first.
"""

from hydra.core.config_store import ConfigStore

from wineexp.core.config import GROUPS, Train
from wineexp.core.paths import CONF

ConfigStore.instance().store("train_schema", Train, provider="wineexp")
for group in GROUPS:
    for path in (CONF / group).glob("*.yaml"):
        # Each stage needs the names of the choices, and a composed config holds their contents only.
        ConfigStore.instance().store(
            group=f"chosen/{group}", name=path.stem, node={group: path.stem}, package="chosen", provider="wineexp"
        )
