"""How a server follows its alias: noticing a change, verifying the new version, swapping it in. See README.md."""
