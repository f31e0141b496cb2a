#include "kernels/nhwc.h"

#include "kernels/dispatch.h"
#include "kernels/nhwc_variants.h"

namespace bmx::nhwc {
namespace {

const Variants<Kernels>& variants() {
  static const Variants<Kernels> instance = [] {
    Variants<Kernels> v;
#if BMX_X86_64
    if (cpu_has_avx512_vnni()) v.add(kAvx512Kernels);
    if (cpu_has_avx2()) v.add(kAvx2Kernels);
#elif BMX_AARCH64
    if (cpu_has_dot()) v.add(kNeonDotKernels);
    v.add(kNeonKernels);
#elif BMX_ARM32
    if (cpu_has_neon_fma()) v.add(kNeonFmaKernels);
    if (cpu_has_neon()) v.add(kNeonKernels);
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

}  // namespace bmx::nhwc
