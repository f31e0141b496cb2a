// For functions that are compiled once per instruction set. They are always inlined: otherwise the linker would keep a
// single copy for all instruction sets (the test instruction_sets_share_no_functions checks this).
#pragma once

#define BMX_INLINE [[gnu::always_inline]] inline
