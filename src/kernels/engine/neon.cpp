// The engine's kernels for every AArch64 machine.
#include "kernels/engine/neon.h"

namespace bmx::nhwc {

const Kernels kNeonKernels = make_neon_kernels<Neon>("neon");

}  // namespace bmx::nhwc
