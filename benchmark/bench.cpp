// What benchmark/convolution.py times: the kernels without MXNet around them, and the roof that no loop of
// xor + popcount + add can pass on this machine.
#include <chrono>

#include "kernels/binary_conv.h"
#include "kernels/buffer.h"
#if BMX_X86_64
#include <immintrin.h>
#endif

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

#if BMX_X86_64
// 5 x 4 accumulators, all in registers, operands too: the arithmetic alone, no load in the loop.
__attribute__((target("avx512f,avx512vpopcntdq"))) double roof_avx512(int64_t steps) {
  __m512i acc[5][4], a[5], b;
  for (int r = 0; r < 5; ++r) {
    a[r] = _mm512_set1_epi64(0x123456789abcdef * (r + 1));
    for (auto& x : acc[r]) x = _mm512_setzero_si512();
  }
  b = _mm512_set1_epi64(0x5555aaaa3333cccc);
  const auto start = Clock::now();
  for (int64_t i = 0; i < steps; ++i) {
    for (int r = 0; r < 5; ++r) {
      for (int v = 0; v < 4; ++v) {
        acc[r][v] = _mm512_add_epi64(acc[r][v], _mm512_popcnt_epi64(_mm512_xor_si512(a[r], b)));
        asm volatile("" : "+v"(b));  // keeps the compiler from computing a loop invariant once
      }
    }
  }
  const double seconds = seconds_since(start);
  __m512i sum = _mm512_setzero_si512();
  for (auto& row : acc) {
    for (auto& x : row) sum = _mm512_add_epi64(sum, x);
  }
  asm volatile("" : : "v"(sum));
  return 512.0 * 20 * static_cast<double>(steps) / seconds;
}
#endif

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
  if (bmx::find_kernels("avx512") != nullptr) return roof_avx512(steps);
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
