# The kernels of src/kernels and the compiler flags of each instruction set (src/kernels/instruction_sets.h).
#
#   bmx_add_kernels(TARGET ROOM...)
#
# adds the sources that are compiled once for each instruction set, of the rooms `training` and `engine`, to a target:
# <room>/portable.cpp, and <room>/<instruction set>.cpp for those of the processor. Only these files may use the
# instructions that the choice at run time guards.

# The processor that the code is for: one, as some files are compiled with instructions that others do not have.
set(BMX_PROCESSOR "${CMAKE_SYSTEM_PROCESSOR}")
if(APPLE AND CMAKE_OSX_ARCHITECTURES)
  set(BMX_PROCESSOR "${CMAKE_OSX_ARCHITECTURES}")
endif()
if(BMX_PROCESSOR MATCHES ";")
  message(FATAL_ERROR "CMAKE_OSX_ARCHITECTURES is '${BMX_PROCESSOR}'; build for one at a time and join the results with lipo")
endif()

# (GCC warns of variables inside its own AVX-512 header that are undefined on purpose: GCC bug 105593.)
set(BMX_FLAGS_portable "")
set(BMX_FLAGS_avx2 -mavx2 -mfma)
set(BMX_FLAGS_avx512 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vpopcntdq -mavx512vnni -mavx2 -mfma
  -mprefer-vector-width=512 -Wno-uninitialized -Wno-maybe-uninitialized)
set(BMX_FLAGS_amx ${BMX_FLAGS_avx512} -mavx512vbmi -mavx512bitalg -mavx512bf16 -mamx-tile -mamx-int8 -mamx-bf16)
set(BMX_FLAGS_neon "")
set(BMX_FLAGS_neon_dot -march=armv8.2-a+dotprod)
set(BMX_FLAGS_neon32 -march=armv7-a -mfpu=neon)
set(BMX_FLAGS_neon32_fma -march=armv7-a -mfpu=neon-vfpv4)
# The engine's kernels say themselves where a product is not rounded, and ask for neither errno nor exceptions.
set(BMX_ROOM_FLAGS_engine -ffp-contract=off -fno-math-errno -fno-trapping-math)
set(BMX_ROOM_FLAGS_training "")

# Files of a room for an instruction set; what else than <set>.cpp has its flags.
set(BMX_MORE_training_avx2 sign_lookup_avx2)
set(BMX_MORE_training_avx512 sign_lookup_avx512)

if(BMX_PROCESSOR MATCHES "x86_64|AMD64")
  set(BMX_PROCESSOR_DEFINITION BMX_X86_64=1)
  set(BMX_SETS_training portable avx2 avx512)
  set(BMX_SETS_engine portable avx2 avx512)
  # GCC since 11 with binutils since 2.35, clang since 12; and Linux, which gives tiles to those who ask.
  include(CheckCXXSourceCompiles)
  string(REPLACE ";" " " CMAKE_REQUIRED_FLAGS "${BMX_FLAGS_amx}")
  check_cxx_source_compiles("
    #include <asm/unistd.h>
    #include <immintrin.h>
    int main() { asm volatile(\"tdpbssd %tmm2, %tmm1, %tmm0\"); return __NR_arch_prctl; }" BMX_COMPILES_AMX)
  unset(CMAKE_REQUIRED_FLAGS)
  if(BMX_COMPILES_AMX)
    list(APPEND BMX_PROCESSOR_DEFINITION BMX_AMX=1)
    list(APPEND BMX_SETS_training amx)
    list(APPEND BMX_SETS_engine amx)
  endif()
elseif(BMX_PROCESSOR MATCHES "aarch64|arm64|ARM64")
  set(BMX_PROCESSOR_DEFINITION BMX_AARCH64=1)
  set(BMX_SETS_training portable)
  set(BMX_SETS_engine portable neon neon_dot)
elseif(BMX_PROCESSOR MATCHES "^arm")
  set(BMX_PROCESSOR_DEFINITION BMX_ARM32=1)
  set(BMX_SETS_training portable)
  set(BMX_SETS_engine portable neon32 neon32_fma)
else()
  set(BMX_SETS_training portable)
  set(BMX_SETS_engine portable)
endif()

set(BMX_KERNELS_DIR ${CMAKE_CURRENT_LIST_DIR}/../src/kernels)

function(bmx_add_kernels target)
  target_compile_definitions(${target} PUBLIC ${BMX_PROCESSOR_DEFINITION})
  target_sources(${target} PRIVATE ${BMX_KERNELS_DIR}/instruction_sets.cpp)
  foreach(room ${ARGN})
    target_sources(${target} PRIVATE ${BMX_KERNELS_DIR}/${room}/kernels.cpp)
    foreach(set ${BMX_SETS_${room}})
      foreach(file ${set} ${BMX_MORE_${room}_${set}})
        set(source ${BMX_KERNELS_DIR}/${room}/${file}.cpp)
        target_sources(${target} PRIVATE ${source})
        set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS "${BMX_FLAGS_${set}};${BMX_ROOM_FLAGS_${room}}")
      endforeach()
    endforeach()
  endforeach()
endfunction()
