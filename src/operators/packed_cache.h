// The kernel layout of packed file words, kept between calls.
#pragma once

#include <cstring>
#include <memory>
#include <mutex>

#include "kernels/buffer.h"

namespace bmx {

// Converting the words of a file takes longer than the convolution itself, so that an operator keeps the
// result with a copy of the words it came from, and compares them at each call: whatever is done to the
// weight array, the result is right. Safe for several threads.
class PackedCache {
 public:
  using Words = std::shared_ptr<const Buffer<uint64_t>>;

  // The converted weight of `words` words; convert(target) is called if the `bytes` at `source`, or what they mean,
  // differ from last time.
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
