// A float matrix product over several threads.
#pragma once

#include "kernels/buffer.h"
#include "kernels/training/kernels.h"

namespace bmx {

// c (m, n) = a (m, k) * b (k, n), a and b by row and column strides, c contiguous.
inline void float_matmul(const Kernels& kernels, size_t m, size_t n, size_t k, const float* a, size_t a_row,
                         size_t a_column, const float* b, size_t b_row, size_t b_column, float* c, int threads) {
  const size_t parts = static_cast<size_t>(threads) < m ? threads : (m == 0 ? 1 : m);
  Buffer<float> scratch(parts * kFloatGemmScratch);
#pragma omp parallel for num_threads(threads) schedule(static, 1)
  for (size_t part = 0; part < parts; ++part) {
    const size_t begin = m * part / parts, end = m * (part + 1) / parts;
    kernels.float_gemm(end - begin, n, k, a + begin * a_row, a_row, a_column, b, b_row, b_column, c + begin * n, n,
                       false, scratch.get() + part * kFloatGemmScratch);
  }
}

}  // namespace bmx
