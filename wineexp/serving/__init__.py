"""Serving: a Litestar application that answers with whatever a registered model's alias names.

An `Edge` (request ids, limits, metrics) wraps Litestar's routes; a `Watch` follows the alias and holds the `Served`
version that answers; `Reader` turns bytes into rows or into the list of everything that is wrong with them.
"""
