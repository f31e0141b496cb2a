// The engine's kernels for ARMv7-A with NEON and VFPv4, which has VFMA: Cortex-A7, A15 and all of ARMv8.
#include "kernels/engine/neon32.h"

namespace bmx::nhwc {

const Kernels kNeonFmaKernels = make_kernels<Neon32>("neon_fma");

}  // namespace bmx::nhwc
