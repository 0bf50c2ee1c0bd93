"""Serving: a Litestar application that predicts with the version of a registered model that an alias names.

`routes` has the HTTP endpoints, `middleware` what is done for every request, `http` errors, API keys and the HTTP
protocol. `model` loads a version and predicts with it; `refresh` follows the alias, and verifies and swaps versions.
"""
