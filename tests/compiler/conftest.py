"""The fixtures of small_checkpoints."""

from small_checkpoints import edit_json, lenet, run, save  # noqa: F401
