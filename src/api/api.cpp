// The C API: a thin layer that turns exceptions into status codes and messages. (Its models and sessions: engine.cpp.)
#include "bmx.h"

#include "api/guarded.h"
#include "kernels/instruction_sets.h"

namespace bmx::api {

thread_local std::string last_error;

}  // namespace bmx::api

extern "C" {

const char* bmx_version(void) { return BMX_VERSION; }

int bmx_word_bits(void) { return BMX_WORD_BITS; }

int bmx_isa(const char** name) {
  return bmx::api::guarded([&] { *bmx::api::given(name, "name") = bmx::name_of(bmx::chosen_instruction_set()); });
}

const char* const* bmx_isas(void) { return bmx::available_instruction_sets(); }

const char* bmx_last_error(void) { return bmx::api::last_error.c_str(); }

}  // extern "C"
