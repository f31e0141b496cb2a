#include "engine/schedule.h"

#include <algorithm>

#include "engine/access.h"

namespace bmx::engine {
namespace {

constexpr int64_t kLarge = 1 << 20;      // what does not fit the second-level cache
constexpr int64_t kBandBytes = 1 << 18;  // what does, beside weights and the input
constexpr size_t kMostPending = 256;     // so that a strange program takes no quadratic time

bool gives_floats_only(const Step& step) {
  const Epilogue& e = step.epilogue;
  return step.kind == Kind::kConv && e.f32 != kNone && e.bits == kNone && e.u8 == kNone && e.count_bits == kNone;
}

// Rows of a band, 0 if there are too few for each thread.
int band_rows(const Program& program, const Step& conv, const Step& pool, int threads) {
  const Tensor& t = program.tensors[conv.epilogue.f32];
  const nhwc::Window& w = conv.window;
  const Tensor& in = program.tensors[conv.in];
  const int64_t weights = int64_t{w.kernel_h} * w.kernel_w * in.bytes_of(in.channels) * conv.conv.filters;
  if (t.pixels() * t.pixel_bytes() < kLarge || weights > kBandBytes) return 0;
  const int64_t least = int64_t{pool.window.kernel_h} + pool.window.stride_y;
  const int64_t rows = std::max(kBandBytes / t.row_stride, least);
  return rows * threads <= t.height ? static_cast<int>(rows) : 0;
}

// The pooling after a convolution and after nothing but FILLs that do not touch what the convolution does, or kNone.
int pool_of(const Program& program, int conv) {
  const std::vector<Step>& steps = program.steps;
  if (!gives_floats_only(steps[conv])) return kNone;
  const int tensor = steps[conv].epilogue.f32;
  size_t next = conv + 1;
  while (next < steps.size() && steps[next].kind == Kind::kFill) {
    if (!independent(program, steps[conv], steps[next])) return kNone;
    ++next;
  }
  if (next == steps.size() || steps[next].kind != Kind::kPool || steps[next].in != tensor) return kNone;
  const bool once = reads(program, steps[next], tensor) == 1 && reads(program, steps[conv], tensor) == 0;
  const bool apart = !stores_to_what_is_read(program, steps[next], steps[conv]);
  return once && apart && !is_read_later(program, tensor, next + 1) ? static_cast<int>(next) : kNone;
}

void find_barriers(const Program& program, std::vector<Item>* items) {
  std::vector<Access> pending;  // since the last barrier
  for (Item& item : *items) {
    std::vector<Access> own = accesses(program.steps[item.step]);
    if (item.pool != kNone) {
      for (const Access& access : accesses(program.steps[item.pool])) own.push_back(access);
    }
    item.barrier = pending.size() > kMostPending || conflict(program, own, pending);
    if (item.barrier) pending.clear();
    pending.insert(pending.end(), own.begin(), own.end());
  }
}

}  // namespace

std::vector<Item> make_schedule(const Program& program, int threads) {
  std::vector<Item> items;
  const int count = static_cast<int>(program.steps.size());
  for (int i = 0; i < count; ++i) {
    const int pool = pool_of(program, i);
    const int rows = pool == kNone ? 0 : band_rows(program, program.steps[i], program.steps[pool], threads);
    if (rows == 0) {
      items.push_back({i});
      continue;
    }
    for (int fill = i + 1; fill < pool; ++fill) items.push_back({fill});
    items.push_back({i, pool, rows});
    i = pool;
  }
  find_barriers(program, &items);
  return items;
}

}  // namespace bmx::engine
