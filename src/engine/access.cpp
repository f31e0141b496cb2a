#include "engine/access.h"

#include <algorithm>
#include <string>

#include "engine/file.h"

namespace bmx::engine {
namespace {

using Part = Access::Part;

// The bytes of a tensor: `rows` rows, row_stride apart, of `columns` pixels, pixel_stride apart, of `bytes` bytes.
struct Region {
  int64_t begin, rows, columns, row_stride, pixel_stride, bytes;

  int64_t row_bytes() const { return (columns - 1) * pixel_stride + bytes; }
  int64_t end() const { return begin + (rows - 1) * row_stride + row_bytes(); }
};

Region region(const Tensor& t, Part part) {
  Region r{t.offset, t.height, t.width, t.row_stride, t.pixel_stride, t.pixel_bytes()};
  if (part != Part::kImage) {
    r.begin -= t.above * t.row_stride + t.left * t.pixel_stride;
    r.rows += int64_t{t.above} + t.below;
    r.columns += int64_t{t.left} + t.right;
  }
  return r;
}

// Whether two intervals never meet when both repeat with `period`.
bool apart(int64_t a, int64_t a_size, int64_t b, int64_t b_size, int64_t period) {
  if (period <= 0) return false;
  const int64_t ahead = ((b - a) % period + period) % period;
  return ahead >= a_size && ahead + b_size <= period;
}

bool on_grid(const Region& r) { return r.rows == 1 || r.row_stride % r.pixel_stride == 0; }

// True only if the regions share no byte: one ends before the other begins, or they are different columns of the same
// rows, or different channels of the same pixels.
bool disjoint(const Region& a, const Region& b) {
  if (a.end() <= b.begin || b.end() <= a.begin) return true;
  if (a.row_stride == b.row_stride && apart(a.begin, a.row_bytes(), b.begin, b.row_bytes(), a.row_stride)) return true;
  return a.pixel_stride == b.pixel_stride && a.pixel_stride > 0 && on_grid(a) && on_grid(b) &&
         apart(a.begin, a.bytes, b.begin, b.bytes, a.pixel_stride);
}

// Whether two tensors are channels of the same pixels, or the same tensor. The border of one then never meets the image
// of the other.
bool same_pixels(const Tensor& a, const Tensor& b) {
  const Tensor &low = a.offset <= b.offset ? a : b, &high = a.offset <= b.offset ? b : a;
  return a.row_stride == b.row_stride && a.pixel_stride == b.pixel_stride && a.height == b.height &&
         a.width == b.width &&
         a.row_stride >= (a.width + std::max({a.left, a.right, b.left, b.right})) * a.pixel_stride &&
         low.pixel_bytes() <= low.pixel_stride && high.offset - low.offset + high.pixel_bytes() <= low.pixel_stride;
}

bool same_place(const Tensor& a, const Tensor& b) {
  return a.type == b.type && a.offset == b.offset && a.row_stride == b.row_stride && a.pixel_stride == b.pixel_stride &&
         a.height == b.height && a.width == b.width && a.channels == b.channels;
}

}  // namespace

std::vector<Access> accesses(const Step& step) {
  std::vector<Access> all;
  if (step.in != kNone) {
    const bool border = step.kind == Kind::kConv || step.kind == Kind::kDepthwise;
    all.push_back({step.in, border ? Part::kAll : Part::kImage, false});
  }
  if (step.out != kNone) all.push_back({step.out, step.kind == Kind::kFill ? Part::kBorder : Part::kImage, true});
  for (const Operation& op : step.epilogue.ops) {
    if (op.tensor != kNone) all.push_back({op.tensor, Part::kImage, false, true});
  }
  const Epilogue& e = step.epilogue;
  for (int tensor : {e.f32, e.bits, e.u8, e.count_bits}) {
    if (tensor != kNone) all.push_back({tensor, Part::kImage, true});
  }
  return all;
}

bool overlap(const Program& program, const Access& x, const Access& y) {
  const Tensor &a = program.tensors[x.tensor], &b = program.tensors[y.tensor];
  const bool parts_differ =
      (x.part == Part::kImage && y.part == Part::kBorder) || (x.part == Part::kBorder && y.part == Part::kImage);
  if (parts_differ && same_pixels(a, b)) return false;
  return !disjoint(region(a, x.part), region(b, y.part));
}

void check_overlap(const Program& program, const Step& step) {
  const std::vector<Access> all = accesses(step);
  for (size_t i = 0; i < all.size(); ++i) {
    for (size_t j = i + 1; j < all.size(); ++j) {
      const Tensor &a = program.tensors[all[i].tensor], &b = program.tensors[all[j].tensor];
      if (!all[j].write || (all[i].operand && same_place(a, b))) continue;
      if (overlap(program, all[i], all[j])) {
        throw Refusal("tensor '" + std::string(b.name) + "', which it stores, overlaps tensor '" + a.name + "'");
      }
    }
  }
}

int64_t tensor_bytes(const Program& program, const Step& step) {
  int64_t bytes = 0;
  for (const Access& access : accesses(step)) {
    const Tensor& t = program.tensors[access.tensor];
    if (access.part == Part::kBorder) {
      bytes += ((int64_t{t.height} + t.above + t.below) * (int64_t{t.width} + t.left + t.right) - t.pixels()) *
               t.pixel_bytes();
    } else {
      bytes += t.pixels() * t.pixel_bytes();
    }
  }
  return bytes;
}

}  // namespace bmx::engine
