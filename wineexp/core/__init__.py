"""Foundations of every other package: errors, config schemas, instantiation, the decorator of a program."""
