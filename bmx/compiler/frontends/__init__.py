"""Front ends: each reads networks of one framework into the compiler's graph (`bmx.compiler.ir`)."""
