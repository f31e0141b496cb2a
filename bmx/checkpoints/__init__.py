"""Files of MXNet and BMXNet, versions 1 and 2, and the networks in them."""
