"""The exception that every part of bmx raises for bad input."""


class Error(Exception):
    """Bad input or an impossible request.

    The message is one line for the user: which file, layer or value, what is allowed, what to do.
    """
