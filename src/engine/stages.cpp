#include "engine/stages.h"

#include <algorithm>

#include "engine/access.h"

namespace bmx::engine {
namespace {

constexpr int kOverread = 64;  // bytes that a kernel may read beyond a tensor without using them
constexpr int kMostBack = 64;  // earlier steps to compare with, so that no file takes quadratic time

// A range of bytes of the arena that covers all that a share touches. Both ends grow from share to share.
struct Bytes {
  int64_t begin, end;
};

// The rows first <= row < last of a tensor, with its border.
Bytes rows(const Tensor& t, int64_t first, int64_t last) {
  const int64_t low = -int64_t{t.above}, high = int64_t{t.height} + t.below;
  first = std::clamp(first, low, high);
  last = std::clamp(last, first, high);
  const int64_t begin = t.offset + first * t.row_stride - t.left * t.pixel_stride;
  const int64_t row = (int64_t{t.left} + t.width + t.right - 1) * t.pixel_stride + t.pixel_bytes();
  return {begin, first == last ? begin : begin + (last - 1 - first) * t.row_stride + row};
}

Bytes pixels(const Tensor& t, int64_t first, int64_t last) {
  const auto at = [&](int64_t p) { return t.offset + p / t.width * t.row_stride + p % t.width * t.pixel_stride; };
  return {at(first), at(last - 1) + t.pixel_bytes()};
}

Bytes used(const Program& program, const Step& step, const Access& access, const Share& share) {
  const Tensor& t = program.tensors[access.tensor];
  const Bytes all = rows(t, -int64_t{t.above}, int64_t{t.height} + t.below);
  if (share.first >= share.last) return {all.end, all.end};  // empty, after all others
  switch (step.kind) {
    case Kind::kCopy:
      return all;
    case Kind::kFill:
      return rows(t, share.first - t.above, share.last - t.above);
    case Kind::kConv:
    case Kind::kDepthwise:
    case Kind::kPool:
    case Kind::kPoolBits:
      if (access.tensor == step.in && !access.write && !access.operand) {
        const nhwc::Window& w = step.window;
        const int64_t first = share.first / step.width, last = (share.last - 1) / step.width;
        const int64_t taps = int64_t{w.kernel_h - 1} * w.dilate_y + 1;
        return rows(t, first * w.stride_y - w.pad_y, last * w.stride_y - w.pad_y + taps);
      }
      break;
    default:
      break;
  }
  return t.height == step.height && t.width == step.width ? pixels(t, share.first, share.last) : all;
}

// Whether a kernel reads numbers that it does not use, because the channels do not fill the last vector or element.
bool reads_beyond(const Program& program, const Step& step, const Access& access) {
  const Tensor& t = program.tensors[access.tensor];
  const int groups = step.kind == Kind::kConv ? std::max(step.conv.groups, 1) : 1;
  const int together = t.type == nhwc::Type::kU8 ? 64 : 16;  // numbers that are read at once
  return !access.write && t.type != nhwc::Type::kBit && t.channels / groups % together != 0;
}

// Finds the parts of earlier steps that must be done before a part of a step begins.
class Conflicts {
 public:
  Conflicts(const Program& program, const std::vector<std::vector<Share>>& shares)
      : program_(program), shares_(shares) {
    for (const Step& step : program.steps) accesses_.push_back(accesses(step));
  }

  // For each part of a step, the parts of an earlier step that it needs.
  std::vector<Crew::Need> find(int step, int before) const {
    const auto own = static_cast<int>(shares_[step].size()), others = static_cast<int>(shares_[before].size());
    std::vector<Crew::Need> needs(own, Crew::Need{before, others, 0});
    for (const Access& x : accesses_[step]) {
      for (const Access& y : accesses_[before]) {
        if (!(x.write || y.write) || !(beyond(step, x) || beyond(before, y) || overlap(program_, x, y))) continue;
        const std::vector<Bytes> ours = all(step, x), theirs = all(before, y);
        for (int part = 0; part < own; ++part) {
          const Bytes& b = ours[part];
          const auto begin = theirs.begin(), end = theirs.end();
          const auto first = std::partition_point(begin, end, [&](const Bytes& other) { return other.end <= b.begin; });
          const auto last = std::partition_point(first, end, [&](const Bytes& other) { return other.begin < b.end; });
          if (first == last) continue;
          needs[part].first = std::min(needs[part].first, static_cast<int>(first - begin));
          needs[part].last = std::max(needs[part].last, static_cast<int>(last - begin));
        }
      }
    }
    return needs;
  }

 private:
  std::vector<Bytes> all(int step, const Access& access) const {
    std::vector<Bytes> parts;
    for (const Share& share : shares_[step]) {
      parts.push_back(used(program_, program_.steps[step], access, share));
      if (beyond(step, access)) parts.back().end += kOverread;
    }
    return parts;
  }
  bool beyond(int step, const Access& access) const { return reads_beyond(program_, program_.steps[step], access); }

  const Program& program_;
  const std::vector<std::vector<Share>>& shares_;
  std::vector<std::vector<Access>> accesses_;
};

}  // namespace

// If all parts of a step need all parts of the step before it, the step waits for all earlier steps. Later steps then
// need not be compared with those.
Crew::Job stages(const Program& program, const std::vector<std::vector<Share>>& shares) {
  const Conflicts conflicts(program, shares);
  Crew::Job job;
  for (int step = 0, base = 0; step < static_cast<int>(shares.size()); ++step) {
    const auto parts = static_cast<int>(shares[step].size());
    Crew::Stage stage{parts, step - base > kMostBack, std::vector<std::vector<Crew::Need>>(parts)};
    for (int before = step - 1; before >= base && !stage.wait; --before) {
      const std::vector<Crew::Need> needs = conflicts.find(step, before);
      const auto others = static_cast<int>(shares[before].size());
      const auto is_all = [&](const Crew::Need& need) { return need.first == 0 && need.last == others; };
      stage.wait = before == step - 1 && others > 0 && std::all_of(needs.begin(), needs.end(), is_all);
      for (int part = 0; part < parts; ++part) {
        if (needs[part].first < needs[part].last) stage.needs[part].push_back(needs[part]);
      }
    }
    if (stage.wait) base = step;
    job.push_back(std::move(stage));
  }
  return job;
}

}  // namespace bmx::engine
