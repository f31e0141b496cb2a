// The engine's kernels for every little-endian machine.
#include "kernels/engine/portable.h"

namespace bmx::nhwc {

const Kernels kPortableKernels = make_kernels<Portable>("portable");

}  // namespace bmx::nhwc
