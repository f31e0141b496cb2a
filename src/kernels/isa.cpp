#include "kernels/isa.h"

#include "kernels/dispatch.h"

namespace bmx {
namespace {

#if BMX_AARCH64 || BMX_ARM32
// ARM is where networks run (nhwc.h), not where they are trained: only the names are those of the engine's kernels.
Kernels renamed(const char* name) {
  Kernels k = kPortableKernels;
  k.name = name;
  return k;
}
#endif

const Variants<Kernels>& variants() {
  static const Variants<Kernels> instance = [] {
    Variants<Kernels> v;
#if BMX_X86_64
    if (cpu_has_avx512()) v.add(kAvx512Kernels);
    if (cpu_has_avx2()) v.add(kAvx2Kernels);
#elif BMX_AARCH64
    static const Kernels neon = renamed("neon"), neon_dot = renamed("neon_dot");
    if (cpu_has_dot()) v.add(neon_dot);
    v.add(neon);
#elif BMX_ARM32
    static const Kernels neon = renamed("neon"), neon_fma = renamed("neon_fma");
    if (cpu_has_neon_fma()) v.add(neon_fma);
    if (cpu_has_neon()) v.add(neon);
#endif
    v.add(kPortableKernels);
    return v;
  }();
  return instance;
}

}  // namespace

const Kernels& kernels() {
  static const Kernels& chosen = variants().choose();
  return chosen;
}

const Kernels* find_kernels(const char* name) { return variants().find(name); }

const char* const* available_kernels() { return variants().names(); }

}  // namespace bmx
