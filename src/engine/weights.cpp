#include "engine/weights.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "engine/checked.h"
#include "engine/file.h"
#include "engine/step_fields.h"

namespace bmx::engine {
namespace {

constexpr int64_t kLargestElement = 64;  // in bytes
constexpr int64_t kLargestByte = 255, kLargestSum = 0x7FFFFFFF;
using Element = std::array<uint8_t, kLargestElement>;

// A mask of the unused bits of an element: all bits of filters beyond `filters`, and each filter's bits beyond `used`.
Element unused_bits(int64_t element_bytes, int64_t filters, int64_t used, int64_t bits) {
  Element mask{};
  for (int64_t bit = 0; bit < 8 * element_bytes; ++bit) {
    if (bit / bits >= filters || bit % bits >= used) mask[bit / 8] |= static_cast<uint8_t>(1 << bit % 8);
  }
  return mask;
}

bool any(const uint8_t* element, int64_t bytes, const Element& mask) {
  for (int64_t i = 0; i < bytes; ++i) {
    if ((element[i] & mask[i]) != 0) return true;
  }
  return false;
}

constexpr int kFilters = 16;  // filters in a block for inputs of bytes

// For each filter of a block, the sum of its weights and of their absolute values.
struct Sums {
  std::array<int64_t, kFilters> sum{}, absolute{};
};

Sums sums_of_bytes(const uint8_t* block, int64_t elements) {
  Sums sums;
  const auto* w = reinterpret_cast<const int8_t*>(block);
  for (int64_t e = 0; e < elements; ++e) {
    for (int f = 0; f < kFilters; ++f, w += 4) {
      sums.sum[f] += w[0] + w[1] + w[2] + w[3];
      sums.absolute[f] += std::abs(w[0]) + std::abs(w[1]) + std::abs(w[2]) + std::abs(w[3]);
    }
  }
  return sums;
}

// Each filter has `inputs` weights, -1 or +1.
Sums sums_of_signs(const uint8_t* block, int64_t elements, int64_t inputs) {
  Sums sums;
  for (int64_t e = 0; e < elements; ++e) {
    uint64_t bits;
    std::memcpy(&bits, block + 8 * e, sizeof(bits));
    constexpr uint64_t kOne = 0x5555555555555555, kTwo = 0x3333333333333333;
    const uint64_t pairs = (bits & kOne) + (bits >> 1 & kOne), ones = (pairs & kTwo) + (pairs >> 2 & kTwo);
    for (int f = 0; f < kFilters; ++f) sums.sum[f] += static_cast<int64_t>(ones >> 4 * f & 15);
  }
  for (int f = 0; f < kFilters; ++f) sums.sum[f] = 2 * sums.sum[f] - inputs, sums.absolute[f] = inputs;
  return sums;
}

}  // namespace

WeightLayout::WeightLayout(const Step& step, const Tensor& in)
    : arithmetic_(step.arithmetic), groups_(step.conv.groups), filters_(step.conv.filters / groups_) {
  const nhwc::Window& w = step.window;
  const int64_t channels = in.channels / groups_, taps = times(w.kernel_h, w.kernel_w);
  const int64_t run = step.conv.run ? times(w.kernel_w, channels) : channels;
  inputs_ = times(taps, channels);
  spans_ = step.conv.run ? w.kernel_h : taps;
  block_filters_ = 16;
  switch (arithmetic_) {
    case Arithmetic::kBinary:
      block_filters_ = 8, bits_ = 64;
      spans_ = taps, elements_ = round_up(channels, 64) / 64;
      last_ = channels - 64 * (elements_ - 1);
      break;
    case Arithmetic::kFloat:
      bits_ = last_ = 32, elements_ = run;
      break;
    case Arithmetic::kFloatSigns:
      bits_ = last_ = 1, elements_ = run;
      break;
    case Arithmetic::kInt8:
      bits_ = 32, elements_ = round_up(run, 4) / 4;
      last_ = 8 * (run - 4 * (elements_ - 1));
      break;
    case Arithmetic::kInt8Signs:
      bits_ = 4, elements_ = round_up(run, 4) / 4;
      last_ = run - 4 * (elements_ - 1);
      break;
  }
  blocks_ = round_up(filters_, block_filters_) / block_filters_;
}

int64_t WeightLayout::bytes() const { return times(groups_, blocks_, spans_, elements_, element_bytes()); }

int64_t WeightLayout::starts() const { return times(groups_, round_up(filters_, kPadding)); }

int64_t WeightLayout::filters_of(int64_t block) const {
  return std::min(block_filters_, filters_ - block % blocks_ * block_filters_);
}

void WeightLayout::check_zeros(const uint8_t* weights) const {
  const int64_t size = element_bytes();
  for (int64_t block = 0; block < groups_ * blocks_; ++block, weights += block_bytes()) {
    const int64_t filters = filters_of(block);
    const bool whole = filters == block_filters_;
    if (whole && last_ == bits_) continue;
    const Element inside = unused_bits(size, filters, bits_, bits_), last = unused_bits(size, filters, last_, bits_);
    for (int64_t span = 0; span < spans_; ++span) {
      const uint8_t* elements = weights + span * elements_ * size;
      for (int64_t e = whole ? elements_ - 1 : 0; e < elements_; ++e) {
        if (any(elements + e * size, size, e == elements_ - 1 ? last : inside)) throw Refusal(bits_not_zero("weights"));
      }
    }
  }
}

void WeightLayout::check_start(const uint8_t* weights, const int32_t* start, int32_t zero_point) const {
  const int64_t starts_of_group = round_up(filters_, kPadding);
  std::vector<int64_t> expected(starts(), 0);
  for (int64_t block = 0; block < groups_ * blocks_; ++block, weights += block_bytes()) {
    const bool signs = arithmetic_ == Arithmetic::kInt8Signs;
    const int64_t elements = spans_ * elements_;
    const Sums sums = signs ? sums_of_signs(weights, elements, inputs_) : sums_of_bytes(weights, elements);
    int64_t* to = &expected[block / blocks_ * starts_of_group + block % blocks_ * block_filters_];
    for (int64_t f = 0; f < filters_of(block); ++f) {
      if (times(sums.absolute[f], kLargestByte) > kLargestSum) throw Refusal("its sums may not fit 32 bits");
      to[f] = -zero_point * sums.sum[f];
    }
  }
  if (!std::equal(expected.begin(), expected.end(), start)) {
    throw Refusal("its start does not match its weights and zero point");
  }
}

}  // namespace bmx::engine
