// Prints the roofs of this machine (roof.h) in GMAC/s, a name and a number a line; nothing where there are none.
//
//   g++ -std=c++17 -O2 benchmark/roof.cpp -o roof && ./roof
#if defined(__x86_64__) && defined(__GNUC__)
#define BMX_X86_64 1
#endif
#include "roof.h"

#include <algorithm>
#include <cstdio>

int main() {
#if BMX_X86_64
  if (!__builtin_cpu_supports("avx512vpopcntdq") || !__builtin_cpu_supports("avx512vnni")) return 0;
  double binary = 0, f32 = 0, u8 = 0;
  for (int round = 0; round < 50; ++round) {
    binary = std::max(binary, roof::binary(20000));
    f32 = std::max(f32, roof::f32(20000));
    u8 = std::max(u8, roof::u8(20000));
  }
  std::printf("binary %.1f\nfloat %.1f\nint8 %.1f\n", binary / 1e9, f32 / 1e9, u8 / 1e9);
#endif
}
