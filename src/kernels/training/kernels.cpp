#include "kernels/training/kernels.h"

#include "kernels/instruction_sets.h"

namespace bmx {
namespace {

const Kernels& table(InstructionSet set) {
  switch (set) {
#if BMX_X86_64
#if BMX_AMX
    case InstructionSet::kAmx: {
      static const Kernels kernels = [] {
        Kernels k = kAvx512Kernels;
        k.name = "amx";
        k.sign_tiles = &kAmxSignTiles;
        return k;
      }();
      return kernels;
    }
#endif
    case InstructionSet::kAvx512:
      return kAvx512Kernels;
    case InstructionSet::kAvx2:
      return kAvx2Kernels;
#endif
    default:  // also on ARM, where networks run (engine/kernels.h) and are not trained
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

}  // namespace bmx
