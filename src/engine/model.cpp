#include "engine/model.h"

#include <stdexcept>

#include "engine/access.h"
#include "engine/file.h"

namespace bmx::engine {

std::shared_ptr<const Model> Model::load(const std::string& path) {
  return std::shared_ptr<const Model>(new Model(Bytes::map(path), path));
}

std::shared_ptr<const Model> Model::copy(const void* bytes, size_t size) {
  return std::shared_ptr<const Model>(new Model(Bytes::copy(bytes, size), "model in memory"));
}

Model::Model(Bytes bytes, const std::string& source) : bytes_(std::move(bytes)) {
  try {
    program_ = read_program(bytes_.data(), bytes_.size());
  } catch (const Refusal& refusal) {
    throw std::runtime_error(source + ": " + refusal.what());
  }
  for (Step& step : program_.steps) step.bytes += tensor_bytes(program_, step);
}

}  // namespace bmx::engine
