// Every function of the C API fails the same way: with a status, and a message for bmx_last_error().
#pragma once

#include <exception>
#include <new>
#include <stdexcept>
#include <string>

namespace bmx::api {

extern thread_local std::string last_error;

template <class T>
T* given(T* pointer, const char* what) {
  if (pointer == nullptr) throw std::invalid_argument(std::string(what) + " is NULL");
  return pointer;
}

template <class F>
int guarded(F f) noexcept {
  try {
    f();
    return 0;
  } catch (const std::bad_alloc&) {
    last_error = "out of memory";
  } catch (const std::exception& e) {
    try {
      last_error = e.what();
    } catch (const std::bad_alloc&) {
      last_error = "out of memory";
    }
  } catch (...) {
    last_error = "unknown error";
  }
  return 1;
}

}  // namespace bmx::api
