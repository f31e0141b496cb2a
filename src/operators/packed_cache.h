// Keeps packed weights in the kernels' layout between calls.
#pragma once

#include <cstring>
#include <memory>
#include <mutex>

#include "kernels/buffer.h"

namespace bmx {

// Converting the words of a file takes longer than the convolution itself, so an operator keeps the result together
// with a copy of the words. It compares the words at each call, so the result is right even if the weight array
// changes. Thread-safe.
class PackedCache {
 public:
  using Words = std::shared_ptr<const Buffer<uint64_t>>;

  // The converted weight of `words` words. Calls convert(target) if the `bytes` bytes at `source`, or `word_bits`,
  // differ from the last call.
  template <class Convert>
  Words get(const void* source, size_t bytes, int word_bits, size_t words, Convert convert) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (weight_ == nullptr || weight_->size() != words || word_bits_ != word_bits || source_.size() != bytes ||
        std::memcmp(source_.get(), source, bytes) != 0) {
      Buffer<char> copy(bytes);
      std::memcpy(copy.get(), source, bytes);
      auto weight = std::make_shared<Buffer<uint64_t>>(words);
      convert(weight->get());
      source_ = std::move(copy);
      weight_ = std::move(weight);
      word_bits_ = word_bits;
    }
    return weight_;
  }

 private:
  std::mutex mutex_;
  Buffer<char> source_;
  int word_bits_ = 0;
  Words weight_;
};

}  // namespace bmx
