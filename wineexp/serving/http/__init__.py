"""HTTP below the endpoints: errors, API keys, content types, and the protocol on a connection."""
