"""The commands of ``bmx``, a module each: `add_parser` describes its arguments, and sets `run`, which obeys them."""
