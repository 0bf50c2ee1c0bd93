"""How a server follows its alias: noticing a change, verifying the new version, taking over."""
