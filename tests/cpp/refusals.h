// Why the engine does not take a file.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "engine/model.h"
#include "test.h"

namespace test {

inline std::string refusal(const std::vector<uint8_t>& file) {
  try {
    bmx::engine::Model::copy(file.data(), file.size());
  } catch (const std::exception& e) {
    return e.what();
  }
  return "";
}

// An empty reason: it is not refused.
inline void check_refused(const std::vector<uint8_t>& file, const std::string& reason) {
  const std::string message = refusal(file);
  CHECK(message.empty() == reason.empty(), "'" + message + "' for '" + reason + "'");
  CHECK(message.find(reason) != std::string::npos, "'" + message + "' for '" + reason + "'");
  CHECK(message.find('\n') == std::string::npos, message);
}

}  // namespace test
