// The engine's kernels for ARMv7-A with NEON and VFPv3: Cortex-A8, A9.
#include "kernels/engine/neon32.h"

namespace bmx::nhwc {

const Kernels kNeonKernels = make_kernels<Neon32>("neon");

}  // namespace bmx::nhwc
