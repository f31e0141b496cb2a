#include "kernels/isa.h"

#include <array>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>

namespace bmx {
namespace {

#if BMX_X86_64
bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512vpopcntdq");
}
#endif

constexpr size_t kMaxVariants = 4;

struct Table {
  std::array<const Kernels*, kMaxVariants> variants{};
  std::array<const char*, kMaxVariants> names{};  // always ends with nullptr

  Table() {
    size_t count = 0;
    auto add = [&](const Kernels& k) {
      variants[count] = &k;
      names[count++] = k.name;
    };
#if BMX_X86_64
    if (has_avx512()) add(kAvx512Kernels);
    if (has_avx2()) add(kAvx2Kernels);
#endif
    add(kPortableKernels);
  }
};

const Table& table() {
  static const Table instance;
  return instance;
}

const Kernels& choose() {
  const char* wanted = std::getenv("BMX_ISA");
  if (wanted == nullptr || *wanted == '\0') return *table().variants[0];
  if (const Kernels* found = find_kernels(wanted)) return *found;
  std::string allowed;
  for (const char* const* name = available_kernels(); *name != nullptr; ++name) {
    allowed += (allowed.empty() ? "" : ", ") + std::string(*name);
  }
  throw std::runtime_error("BMX_ISA is '" + std::string(wanted) + "'; this machine runs " + allowed);
}

}  // namespace

const Kernels& kernels() {
  static const Kernels& chosen = choose();
  return chosen;
}

const Kernels* find_kernels(const char* name) {
  for (const Kernels* k : table().variants) {
    if (k != nullptr && std::strcmp(k->name, name) == 0) return k;
  }
  return nullptr;
}

const char* const* available_kernels() { return table().names.data(); }

}  // namespace bmx
