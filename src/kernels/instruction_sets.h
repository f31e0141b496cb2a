// The instruction sets that have kernels, and the choice of one for the process.
//
// A new instruction set needs a value here, a row in instruction_sets.cpp with its test of the processor, and compiler
// flags in cmake/instruction_sets.cmake. Each room that has kernels for it (training, engine) needs a file and a case
// in its kernels.cpp. Every variant gives the same integers.
#pragma once

#include <optional>

namespace bmx {

enum class InstructionSet { kPortable, kAvx2, kAvx512, kAmx, kNeon, kNeonFma, kNeonDot };

// The name as in BMX_ISA: "portable", "avx2", "avx512", "amx", "neon", "neon_fma", "neon_dot".
const char* name_of(InstructionSet set);

// The names of the instruction sets that this machine runs, fastest first, ending with nullptr. If the processor has
// tiles (AMX), the first call asks the operating system for permission to use them. From then on signal stacks of the
// process (sigaltstack) must have room for them; getauxval(AT_MINSIGSTKSZ) includes it.
const char* const* available_instruction_sets();

// Empty if this build or this machine does not support it.
std::optional<InstructionSet> find_instruction_set(const char* name);

// The instruction set named by the environment variable BMX_ISA, which is read once; otherwise the fastest one that
// this machine runs. Throws std::runtime_error if the named one does not exist or this machine does not run it.
InstructionSet chosen_instruction_set();

}  // namespace bmx
