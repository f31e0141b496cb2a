// How every function of the C API fails: with a status, and a message for bmx_last_error().
#pragma once

#include <exception>
#include <new>
#include <string>

namespace bmx::api {

extern thread_local std::string last_error;

template <class F>
int guarded(F f) noexcept {
  try {
    f();
    return 0;
  } catch (const std::bad_alloc&) {
    last_error = "out of memory";
  } catch (const std::exception& e) {
    last_error = e.what();
  } catch (...) {
    last_error = "unknown error";
  }
  return 1;
}

}  // namespace bmx::api
