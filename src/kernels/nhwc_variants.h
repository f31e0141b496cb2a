// The kernels of nhwc.h for each instruction set. One definition makes them all: a template over a struct `Isa`, which
// has vectors of kLanes floats and as many int32s, the operations on them, and one struct for each arithmetic of a
// convolution (nhwc_conv.h).
#pragma once

#include "kernels/nhwc.h"

namespace bmx::nhwc {

extern const Kernels kPortableKernels;
#if BMX_X86_64
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512Kernels;
#elif BMX_AARCH64
extern const Kernels kNeonKernels;
extern const Kernels kNeonDotKernels;
#elif BMX_ARM32
extern const Kernels kNeonKernels;
extern const Kernels kNeonFmaKernels;
#endif

}  // namespace bmx::nhwc
