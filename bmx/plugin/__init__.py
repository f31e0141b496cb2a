"""What bmx adds to MXNet: operators and functions of mx.nd and mx.sym, and what its loaders and executors learn."""
