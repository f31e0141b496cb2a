"""Mutation testing: random small changes to the code, in a copy of the tree, each followed by the tests of its room."""


class Failed(Exception):
    """A line for the user."""
