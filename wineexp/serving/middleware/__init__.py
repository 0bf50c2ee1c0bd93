"""ASGI middleware: what is done for every request, whether or not a route matches it; one concern a module."""
