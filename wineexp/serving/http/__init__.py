"""HTTP below the endpoints: bodies, keys, errors, the protocol."""
