// The instruction sets that kernels are written for, and the one that a process uses.
//
// A new one is a value here, a row in instruction_sets.cpp that says what it needs of the processor, its compiler flags
// in cmake/instruction_sets.cmake, and for each room of kernels that has its own (training, engine) a file and a case
// in that room's kernels.cpp. Every variant gives the same integers.
#pragma once

#include <optional>

namespace bmx {

enum class InstructionSet { kPortable, kAvx2, kAvx512, kAmx, kNeon, kNeonFma, kNeonDot };

// As BMX_ISA has it: "portable", "avx2", "avx512", "amx", "neon", "neon_fma", "neon_dot".
const char* name_of(InstructionSet set);

// Names of those that this machine runs, fastest first, ending with nullptr. The first call asks the operating system
// for the use of tiles where the processor has them (AMX); afterwards signal stacks of the process (sigaltstack) must
// have room for them, which getauxval(AT_MINSIGSTKSZ) includes.
const char* const* available_instruction_sets();

// Empty if this build or this machine does not have it.
std::optional<InstructionSet> find_instruction_set(const char* name);

// The fastest that this machine runs, or the one that the environment variable BMX_ISA names, read once. Throws
// std::runtime_error if that does not exist or this machine does not run it.
InstructionSet chosen_instruction_set();

}  // namespace bmx
