// The choice between instruction sets, for every table of kernels.
#pragma once

#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#if (BMX_AARCH64 || BMX_ARM32) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#elif BMX_AARCH64 && defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace bmx {

#if BMX_X86_64
inline bool cpu_has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

inline bool cpu_has_avx512() {
  return cpu_has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512vpopcntdq");
}

inline bool cpu_has_avx512_vnni() { return cpu_has_avx512() && __builtin_cpu_supports("avx512vnni"); }
#elif BMX_AARCH64
// Dot products of bytes.
inline bool cpu_has_dot() {
#if defined(__ARM_FEATURE_DOTPROD)
  return true;
#elif defined(__linux__)
  return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
#elif defined(__APPLE__)
  int32_t has = 0;
  size_t size = sizeof(has);
  return sysctlbyname("hw.optional.arm.FEAT_DotProd", &has, &size, nullptr, 0) == 0 && has != 0;
#else
  return false;
#endif
}
#elif BMX_ARM32
inline bool cpu_has_neon() {
#if defined(__ARM_NEON)
  return true;
#elif defined(__linux__)
  return (getauxval(AT_HWCAP) & HWCAP_NEON) != 0;
#else
  return false;
#endif
}

// And fused multiply-add.
inline bool cpu_has_neon_fma() {
#if defined(__ARM_NEON) && defined(__ARM_FEATURE_FMA)
  return true;
#elif defined(__linux__)
  return cpu_has_neon() && (getauxval(AT_HWCAP) & HWCAP_VFPv4) != 0;
#else
  return false;
#endif
}
#endif

// Tables of one kind that this machine runs, fastest first.
template <class Kernels>
class Variants {
 public:
  void add(const Kernels& kernels) {
    variants_.push_back(&kernels);
    names_.back() = kernels.name;
    names_.push_back(nullptr);
  }

  const Kernels* find(const char* name) const {
    for (const Kernels* kernels : variants_) {
      if (std::strcmp(kernels->name, name) == 0) return kernels;
    }
    return nullptr;
  }

  // Ends with nullptr.
  const char* const* names() const { return names_.data(); }

  // The fastest, or those that the environment variable BMX_ISA names.
  const Kernels& choose() const {
    const char* wanted = std::getenv("BMX_ISA");
    if (wanted == nullptr || *wanted == '\0') return *variants_[0];
    if (const Kernels* found = find(wanted)) return *found;
    std::string allowed;
    for (const Kernels* kernels : variants_) allowed += (allowed.empty() ? "" : ", ") + std::string(kernels->name);
    throw std::runtime_error("BMX_ISA is '" + std::string(wanted) + "'; this machine runs " + allowed);
  }

 private:
  std::vector<const Kernels*> variants_;
  std::vector<const char*> names_{nullptr};
};

}  // namespace bmx
