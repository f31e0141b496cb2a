// A compiled network in memory: read once, never changed, shared by all sessions.
#pragma once

#include <memory>
#include <string>

#include "engine/bytes.h"
#include "engine/program.h"

namespace bmx::engine {

class Model {
 public:
  // Both throw std::runtime_error that names the file and the fault.
  static std::shared_ptr<const Model> load(const std::string& path);
  static std::shared_ptr<const Model> copy(const void* bytes, size_t size);

  const Program& program() const { return program_; }

 private:
  Model(Bytes bytes, const std::string& source);

  const Bytes bytes_;
  Program program_;
};

}  // namespace bmx::engine
