"""The model that is served: loading a version's files, checking them, parsing rows, predicting."""
