#include "kernels/engine/kernels.h"

#include "kernels/instruction_sets.h"

namespace bmx::nhwc {
namespace {

const Kernels& table(InstructionSet set) {
  switch (set) {
#if BMX_AMX
    case InstructionSet::kAmx:
      return kAmxKernels;
#endif
#if BMX_X86_64
    case InstructionSet::kAvx512:
      return kAvx512Kernels;
    case InstructionSet::kAvx2:
      return kAvx2Kernels;
#elif BMX_AARCH64
    case InstructionSet::kNeonDot:
      return kNeonDotKernels;
    case InstructionSet::kNeon:
      return kNeonKernels;
#elif BMX_ARM32
    case InstructionSet::kNeonFma:
      return kNeonFmaKernels;
    case InstructionSet::kNeon:
      return kNeonKernels;
#endif
    default:
      return kPortableKernels;
  }
}

}  // namespace

const Kernels& kernels() {
  static const Kernels& chosen = table(chosen_instruction_set());
  return chosen;
}

const Kernels* find_kernels(const char* name) {
  const auto set = find_instruction_set(name);
  return set ? &table(*set) : nullptr;
}

}  // namespace bmx::nhwc
