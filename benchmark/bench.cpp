// What benchmark/convolution.py times: the kernels without MXNet around them, and the roof that no loop of
// xor + popcount + add can pass on this machine.
#include "kernels/buffer.h"
#include "kernels/training/binary_conv.h"
#include "roof.h"

namespace {

using roof::Clock;
using roof::seconds_since;

bmx::ConvShape square(int64_t channels, int64_t size) {
  bmx::ConvShape s;
  s.batch = 1;
  s.channels = s.filters = channels;
  s.in = {1, size, size};
  s.kernel = {1, 3, 3};
  s.pad = {0, 1, 1};
  return s;
}

}  // namespace

extern "C" {

// MAC/s of the register-resident loop on one core; 0 where this CPU has no AVX-512 VPOPCNTDQ.
double bench_roof(int64_t steps) {
#if BMX_X86_64
  if (bmx::find_kernels("avx512") != nullptr) return roof::binary(steps);
#endif
  return 0;
}

// Seconds for one 3x3 convolution (stride 1, pad 1, batch 1), weights packed beforehand, least of `repeats`:
// from packed bits to floats, or (`pack`) from NCHW floats to NCHW floats. Negative: no such kernels here.
double bench_conv(const char* isa, int64_t channels, int64_t size, bool pack, int repeats, int threads,
                  const float* data, const float* weight, float* out) {
  const bmx::Kernels* kernels = bmx::find_kernels(isa);
  if (kernels == nullptr) return -1;
  const bmx::ConvShape s = square(channels, size);
  bmx::Buffer<uint64_t> input(bmx::packed_input_words(s)), weights(bmx::packed_weight_words(s));
  const bmx::Epilogue epilogue{static_cast<float>(s.inputs()), 1, nullptr, nullptr, true};
  bmx::pack_conv_weight(*kernels, s, weight, weights.get(), threads);
  bmx::pack_conv_input(*kernels, s, data, true, input.get(), threads);
  double best = 1e9;
  for (int i = 0; i < repeats; ++i) {
    const auto start = Clock::now();
    if (pack) bmx::pack_conv_input(*kernels, s, data, true, input.get(), threads);
    bmx::binary_conv(*kernels, s, input.get(), weights.get(), epilogue, out, threads);
    const double seconds = seconds_since(start);
    best = seconds < best ? seconds : best;
  }
  return best;
}
}
