// Which thread of a parallel region the caller is; without OpenMP there is one.
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
