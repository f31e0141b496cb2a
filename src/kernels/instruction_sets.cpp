#include "kernels/instruction_sets.h"

#include <array>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>

#if BMX_AMX
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif
#if (BMX_AARCH64 || BMX_ARM32) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#elif BMX_AARCH64 && defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace bmx {
namespace {

bool always() { return true; }

#if BMX_X86_64

bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

// Available on Intel since Ice Lake and on AMD since Zen 4.
bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512vpopcntdq") && __builtin_cpu_supports("avx512vnni");
}

#if BMX_AMX

// Whether the operating system saves tiles when it switches threads. (xgetbv is written as bytes, because its intrinsic
// needs a compiler flag.)
bool system_saves_tiles() {
  unsigned a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d) || (c & bit_OSXSAVE) == 0) return false;
  unsigned low, high;
  asm(".byte 0x0f, 0x01, 0xd0" : "=a"(low), "=d"(high) : "c"(0));
  constexpr unsigned kConfig = 1u << 17, kData = 1u << 18;
  return (low & (kConfig | kData)) == (kConfig | kData);
}

// On Linux a process must ask for tiles once. Linux refuses if a thread's signal stack is too small for them.
bool system_permits_tiles() {
  constexpr int kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

// Intel's server processors since Sapphire Rapids have AMX. The AMX kernels use the other extensions tested here too.
bool has_amx() {
  unsigned a, b, c, d;
  if (!has_avx512() || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
  constexpr unsigned kBf16 = 1u << 22, kTile = 1u << 24, kInt8 = 1u << 25, kAll = kBf16 | kTile | kInt8;
  return (d & kAll) == kAll && __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512bitalg") &&
         __builtin_cpu_supports("avx512bf16") && system_saves_tiles() && system_permits_tiles();
}

#endif

#elif BMX_AARCH64

// Whether there are dot products of bytes.
bool has_dot() {
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

bool has_neon() {
#if defined(__ARM_NEON)
  return true;
#elif defined(__linux__)
  return (getauxval(AT_HWCAP) & HWCAP_NEON) != 0;
#else
  return false;
#endif
}

// Whether NEON has fused multiply-add.
bool has_neon_fma() {
#if defined(__ARM_NEON) && defined(__ARM_FEATURE_FMA)
  return true;
#elif defined(__linux__)
  return has_neon() && (getauxval(AT_HWCAP) & HWCAP_VFPv4) != 0;
#else
  return false;
#endif
}

#endif

struct Row {
  InstructionSet set;
  const char* name;
  bool (*runs_here)();
};

// The instruction sets of this build, fastest first.
constexpr Row kRows[] = {
#if BMX_AMX
    {InstructionSet::kAmx, "amx", has_amx},
#endif
#if BMX_X86_64
    {InstructionSet::kAvx512, "avx512", has_avx512},
    {InstructionSet::kAvx2, "avx2", has_avx2},
#elif BMX_AARCH64
    {InstructionSet::kNeonDot, "neon_dot", has_dot},
    {InstructionSet::kNeon, "neon", always},
#elif BMX_ARM32
    {InstructionSet::kNeonFma, "neon_fma", has_neon_fma},
    {InstructionSet::kNeon, "neon", has_neon},
#endif
    {InstructionSet::kPortable, "portable", always},
};
constexpr size_t kCount = sizeof(kRows) / sizeof(*kRows);

// The instruction sets that this machine runs.
struct Available {
  std::array<const Row*, kCount> rows{};
  std::array<const char*, kCount + 1> names{};
  size_t count = 0;
};

const Available& available() {
  static const Available result = [] {
    Available a;
    for (const Row& row : kRows) {
      if (!row.runs_here()) continue;
      a.rows[a.count] = &row;
      a.names[a.count++] = row.name;
    }
    return a;
  }();
  return result;
}

InstructionSet choose() {
  const Available& here = available();
  const char* wanted = std::getenv("BMX_ISA");
  if (wanted == nullptr || *wanted == '\0') return here.rows[0]->set;
  if (const auto found = find_instruction_set(wanted)) return *found;
  std::string allowed;
  for (size_t i = 0; i < here.count; ++i) allowed += (i == 0 ? "" : ", ") + std::string(here.names[i]);
  throw std::runtime_error("BMX_ISA is '" + std::string(wanted) + "'; this machine runs " + allowed);
}

}  // namespace

const char* name_of(InstructionSet set) {
  for (const Row& row : kRows) {
    if (row.set == set) return row.name;
  }
  return "";  // not in this build
}

const char* const* available_instruction_sets() { return available().names.data(); }

std::optional<InstructionSet> find_instruction_set(const char* name) {
  const Available& here = available();
  for (size_t i = 0; i < here.count; ++i) {
    if (std::strcmp(here.names[i], name) == 0) return here.rows[i]->set;
  }
  return std::nullopt;
}

InstructionSet chosen_instruction_set() {
  static const InstructionSet chosen = choose();
  return chosen;
}

}  // namespace bmx
