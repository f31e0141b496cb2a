"""The commands of ``bmx``, one module each. `add_parser` defines the arguments of a command, and `run` executes it."""
