// The engine's kernels for every little-endian machine.
#include "kernels/nhwc_portable.h"

namespace bmx::nhwc {

const Kernels kPortableKernels = make_kernels<Portable>("portable");

}  // namespace bmx::nhwc
