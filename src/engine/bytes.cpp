#include "engine/bytes.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <utility>

namespace bmx::engine {
namespace {

[[noreturn]] void fail(const std::string& path, const std::string& why) {
  throw std::runtime_error(path + ": cannot be read: " + why);
}

// Closes a file descriptor at the end of its scope; the mapping outlives it.
struct Descriptor {
  int number;
  ~Descriptor() { close(number); }
};

}  // namespace

Bytes Bytes::map(const std::string& path) {
  const int number = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (number < 0) fail(path, std::strerror(errno));
  const Descriptor file{number};
  struct stat status;
  if (fstat(file.number, &status) != 0) fail(path, std::strerror(errno));
  if (!S_ISREG(status.st_mode)) fail(path, "it is not a file");
  if (status.st_size == 0) fail(path, "it is empty");
  Bytes bytes;
  bytes.size_ = static_cast<size_t>(status.st_size);
  void* data = mmap(nullptr, bytes.size_, PROT_READ, MAP_PRIVATE, file.number, 0);
  if (data == MAP_FAILED) fail(path, std::strerror(errno));
  bytes.data_ = static_cast<const uint8_t*>(data);
  return bytes;
}

Bytes Bytes::copy(const void* data, size_t size) {
  Bytes bytes;
  bytes.owned_ = Buffer<uint8_t>(size);
  bytes.size_ = size;
  bytes.data_ = bytes.owned_.get();
  if (size != 0) std::memcpy(bytes.owned_.get(), data, size);
  return bytes;
}

Bytes::Bytes(Bytes&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      owned_(std::move(other.owned_)) {}

Bytes::~Bytes() {
  if (data_ != nullptr && owned_.size() == 0) munmap(const_cast<uint8_t*>(data_), size_);
}

}  // namespace bmx::engine
