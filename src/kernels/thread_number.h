// The caller's thread number in a parallel region; always 0 without OpenMP.
#pragma once

#ifdef _OPENMP
#include <omp.h>
#endif

namespace bmx {

inline int thread_number() {
#ifdef _OPENMP
  return omp_get_thread_num();
#else
  return 0;
#endif
}

}  // namespace bmx
