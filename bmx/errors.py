"""The exception that every part of bmx raises for bad input."""


class Error(Exception):
    """Bad input or an impossible request.

    The message is one line for the user: which file, layer or value, what is allowed, what to do.
    """


class SamplesError(Error):
    """Of the samples that were given."""


class LabelsError(Error):
    """Of the labels of samples that were given."""
