// For functions that are compiled once for each instruction set: inlined everywhere, so that the linker never keeps one
// copy for all (a test sees to that: instruction_sets_share_no_functions).
#pragma once

#define BMX_INLINE [[gnu::always_inline]] inline
