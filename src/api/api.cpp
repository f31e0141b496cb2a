// The C API: a thin layer that turns exceptions into status codes and messages.
#include <exception>
#include <string>

#include "bmx.h"
#include "kernels/isa.h"

namespace {

thread_local std::string last_error;

template <class F>
int guarded(F f) {
  try {
    f();
    return 0;
  } catch (const std::exception& e) {
    last_error = e.what();
    return 1;
  }
}

}  // namespace

extern "C" {

const char* bmx_version(void) { return BMX_VERSION; }

int bmx_word_bits(void) { return BMX_WORD_BITS; }

int bmx_isa(const char** name) {
  return guarded([&] { *name = bmx::kernels().name; });
}

const char* bmx_last_error(void) { return last_error.c_str(); }

}  // extern "C"
