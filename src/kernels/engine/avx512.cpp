// The engine's kernels for AVX-512 with VPOPCNTDQ and VNNI.
#include "kernels/engine/avx512.h"

namespace bmx::nhwc {

const Kernels kAvx512Kernels = make_avx512_kernels("avx512");

}  // namespace bmx::nhwc
