#include "engine/step_reader.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "engine/access.h"
#include "engine/checked.h"
#include "engine/file.h"
#include "engine/step_fields.h"
#include "engine/weights.h"

namespace bmx::engine {
namespace {

constexpr int64_t kFarthest = 1 << 30;

// Has one function per kind of step.
class StepReader {
 public:
  StepReader(const Program& program, Part fields, Part data, Step* step)
      : program_(program), fields_(program, fields, data, step), step_(*step) {}

  void read() {
    switch (step_.kind) {
      case Kind::kLoad:
        load();
        break;
      case Kind::kStore:
        store();
        break;
      case Kind::kFill:
        fill();
        break;
      case Kind::kConv:
        conv();
        break;
      case Kind::kDepthwise:
        depthwise();
        break;
      case Kind::kPool:
        pool();
        break;
      case Kind::kPoolBits:
        pool_bits();
        break;
      case Kind::kMap:
        map();
        break;
      case Kind::kSoftmax:
        softmax();
        break;
      case Kind::kCopy:
        copy();
        break;
    }
    if (!fields_.done()) throw Refusal("it is longer than its fields");
    check_overlap(program_, step_);
  }

 private:
  const Tensor& in() const { return program_.tensors[step_.in]; }

  void take_size(const Tensor& t) { step_.height = t.height, step_.width = t.width, step_.channels = t.channels; }

  // Reads the number of an input or output and takes its shape as H x W x C. The last two of three or more dimensions
  // are height and width; the last of two is the width. The dimensions before them are channels.
  void array(const std::vector<Array>& arrays, const char* what) {
    step_.array = fields_.u32();
    if (step_.array >= arrays.size()) throw Refusal("there is no " + std::string(what) + " " + text(step_.array));
    const Array& a = arrays[step_.array];
    const int64_t width = a.dims > 1 ? a.shape[a.dims - 1] : 1, height = a.dims > 2 ? a.shape[a.dims - 2] : 1;
    const int64_t channels = a.size / height / width;
    if (std::max({width, height, channels}) > kLargestSize) {
      throw Refusal(what + (" '" + std::string(a.name)) + "' is too large");
    }
    step_.height = static_cast<int32_t>(height), step_.width = static_cast<int32_t>(width);
    step_.channels = static_cast<int32_t>(channels);
  }

  void load() {
    array(program_.inputs, "input");
    fields_.epilogue();
  }

  void store() {
    step_.in = fields_.tensor("its input", nhwc::Type::kF32);
    array(program_.outputs, "output");
    fields_.give(in());
  }

  void fill() {
    step_.out = fields_.tensor("the tensor to fill");
    take_size(program_.tensors[step_.out]);
  }

  void conv() {
    step_.arithmetic = static_cast<Arithmetic>(fields_.between(0, 4, "arithmetic"));
    const nhwc::Type types[] = {nhwc::Type::kBit, nhwc::Type::kF32, nhwc::Type::kU8, nhwc::Type::kF32, nhwc::Type::kU8};
    step_.in = fields_.tensor("its input", types[static_cast<int>(step_.arithmetic)]);
    fields_.window(-kLargestSize);
    nhwc::Conv& c = step_.conv;
    c.groups = fields_.between(1, kLargestSize, "groups");
    c.filters = fields_.between(1, kLargestSize, "filters");
    c.run = fields_.between(0, 1, "run") == 1;
    step_.channels = c.filters;
    check_groups();
    if (c.run) check_run();
    weights();
    results();
    fields_.epilogue();
    check_border();
    const int64_t inputs = times(in().channels / c.groups, step_.window.kernel_h, step_.window.kernel_w);
    step_.macs = times(step_.height, step_.width, c.filters, inputs);
  }

  void check_groups() const {
    const nhwc::Conv& c = step_.conv;
    if (c.groups == 1) return;
    const bool even = in().channels % c.groups == 0 && c.filters % c.groups == 0;
    if (!even || c.filters / c.groups % 8 != 0) {
      throw Refusal(text(in().channels) + " channels and " + text(c.filters) + " filters in " + text(c.groups) +
                    " groups; a group must have a whole number of channels and a multiple of 8 filters");
    }
    if (step_.arithmetic == Arithmetic::kBinary && in().channels / c.groups % 64 != 0) {
      throw Refusal("binary groups of " + text(in().channels / c.groups) + " channels; they must be a multiple of 64");
    }
  }

  void check_run() const {
    if (step_.conv.groups != 1 || step_.window.dilate_x != 1 || in().pixel_stride != in().pixel_bytes()) {
      throw Refusal("its kernel rows are not runs: a run needs 1 group, no dilation and pixels without gaps");
    }
  }

  void weights() {
    nhwc::Conv& c = step_.conv;
    const WeightLayout layout(step_, in());
    c.weights = fields_.data<uint8_t>(layout.bytes(), "weights");
    layout.check_zeros(c.weights);
    const uint32_t start = fields_.u32();
    if (in().type == nhwc::Type::kU8) {
      c.start = fields_.data_at<int32_t>(start, layout.starts(), "start");
      layout.check_start(c.weights, c.start, in().zero_point);
    } else if (start != kAbsent) {
      throw Refusal("it has a start; only convolutions of bytes have one");
    }
  }

  // How the count of differing bits becomes a result.
  void results() {
    nhwc::Conv& c = step_.conv;
    c.all = fields_.f32();
    c.step = fields_.f32();
    if (step_.arithmetic != Arithmetic::kBinary && (c.all != 0 || c.step != 0)) {
      throw Refusal("only binary convolutions have all and step");
    }
    if (!std::isfinite(c.all) || !std::isfinite(c.step)) throw Refusal("all and step must be finite");
  }

  // All windows must lie in the image and its border.
  void check_border() const {
    const Tensor& t = in();
    const nhwc::Window& w = step_.window;
    check_axis(step_.height, w.kernel_h, w.stride_y, w.dilate_y, w.pad_y, t.above, int64_t{t.height} + t.below, "row");
    check_axis(step_.width, w.kernel_w, w.stride_x, w.dilate_x, w.pad_x, t.left, int64_t{t.width} + t.right, "column");
  }

  void check_axis(int64_t size, int64_t kernel, int64_t stride, int64_t dilate, int64_t pad, int64_t before,
                  int64_t end, const char* what) const {
    const int64_t last = (size - 1) * stride - pad + (kernel - 1) * dilate;
    if (-pad < -before || last >= end) {
      throw Refusal("its windows read " + std::string(what) + "s " + text(-pad) + " to " + text(last) + " of " +
                    quoted(in()) + ", which has " + text(-before) + " to " + text(end - 1));
    }
  }

  void depthwise() {
    step_.in = fields_.tensor("its input", nhwc::Type::kF32);
    step_.channels = step_.conv.filters = step_.conv.groups = in().channels;
    fields_.window(-kLargestSize);
    const int64_t taps = times(step_.window.kernel_h, step_.window.kernel_w);
    step_.conv.weights = reinterpret_cast<const uint8_t*>(fields_.per_channel<float>("weights", taps));
    fields_.epilogue();
    check_border();
    step_.macs = times(step_.height, step_.width, step_.channels, taps);
  }

  // Pooling windows may lie outside the image, but not so far that a coordinate does not fit 32 bits.
  void pool_window() {
    fields_.window(0);
    if (step_.window.dilate_y != 1 || step_.window.dilate_x != 1) throw Refusal("pooling has no dilation");
  }

  void check_reach() const {
    const nhwc::Window& w = step_.window;
    const int64_t y = int64_t{step_.height} * w.stride_y + w.kernel_h + w.pad_y;
    const int64_t x = int64_t{step_.width} * w.stride_x + w.kernel_w + w.pad_x;
    if (std::max(y, x) > kFarthest) throw Refusal("its windows are too far outside the image");
  }

  void pool() {
    step_.in = fields_.tensor("its input", nhwc::Type::kF32);
    step_.channels = in().channels;
    pool_window();
    step_.mode = fields_.between(0, 2, "mode");
    fields_.epilogue();
    check_reach();
  }

  void pool_bits() {
    step_.in = fields_.tensor("its input", nhwc::Type::kBit);
    step_.out = fields_.tensor("its output", nhwc::Type::kBit);
    step_.channels = in().channels;
    fields_.give(program_.tensors[step_.out]);
    pool_window();
    check_reach();
    const uint32_t flips = fields_.u32();
    if (flips == kAbsent) return;
    step_.flips = fields_.bits<uint64_t>(flips, 64, "flips");
  }

  void map() {
    step_.in = fields_.tensor("its input");
    if (in().type == nhwc::Type::kBit) throw Refusal("its input, " + quoted(in()) + ", is bit; it must be f32 or u8");
    take_size(in());
    fields_.epilogue();
  }

  void softmax() {
    step_.in = fields_.tensor("its input", nhwc::Type::kF32);
    step_.out = fields_.tensor("its output", nhwc::Type::kF32);
    take_size(in());
    fields_.give(program_.tensors[step_.out]);
  }

  void copy() {
    step_.in = fields_.tensor("its input", nhwc::Type::kF32);
    step_.out = fields_.tensor("its output", nhwc::Type::kF32);
    const Tensor& out = program_.tensors[step_.out];
    take_size(out);
    const int count = fields_.between(0, kCopyAxes, "number of sizes");
    int64_t last_in = 0, last_out = 0, numbers = 1;
    for (int i = 0; i < count; ++i) {
      CopyAxis axis{};
      axis.size = fields_.between(1, kLargestSize, "a size");
      axis.stride_in = fields_.u32();
      axis.stride_out = fields_.u32();
      if (axis.stride_in % 4 != 0 || axis.stride_out % 4 != 0) throw Refusal("its strides must be multiples of 4");
      last_in = plus(last_in, times(axis.size - 1, axis.stride_in));
      last_out = plus(last_out, times(axis.size - 1, axis.stride_out));
      numbers = times(numbers, axis.size);
      step_.axes.push_back(axis);
    }
    check_copied(in(), last_in);
    check_copied(out, last_out);
    // Otherwise a small file could copy one number for hours.
    if (numbers > out.pixels() * out.channels) throw Refusal("it copies more numbers than " + quoted(out) + " has");
  }

  void check_copied(const Tensor& t, int64_t last) const {
    const int64_t size = (t.height - 1) * t.row_stride + (t.width - 1) * t.pixel_stride + t.pixel_bytes();
    if (plus(last, 4) > size) {
      throw Refusal("it reaches byte " + text(last) + " of " + quoted(t) + ", which has " + text(size));
    }
  }

  const Program& program_;
  StepFields fields_;
  Step& step_;
};

// Reads the step at the beginning of `code`; returns its size.
size_t read_step(Part code, const Strings& strings, Part data, Program* program, std::string* where) {
  Step step;
  StepFields head(*program, code, {}, &step);
  const uint32_t kind = head.u32(), size = head.u32();
  step.name = strings.at(head.u32());
  *where += " '" + std::string(step.name) + "'";
  if (kind < 1 || kind > kKinds) throw Refusal("kind " + text(kind) + "; allowed: 1 to " + text(kKinds));
  step.kind = static_cast<Kind>(kind);
  *where += std::string(" (") + kind_name(step.kind) + ")";
  constexpr uint32_t kHead = 12;
  if (size < kHead || size % 4 != 0 || size > code.size) throw Refusal("its size is " + text(size));
  StepReader(*program, {code.bytes + kHead, size - kHead}, data, &step).read();
  program->steps.push_back(std::move(step));
  return size;
}

// Each output must be stored exactly once.
void check_outputs(const Program& program) {
  std::vector<int> given(program.outputs.size());
  for (const Step& step : program.steps) {
    if (step.kind == Kind::kStore) ++given[step.array];
  }
  for (size_t i = 0; i < given.size(); ++i) {
    if (given[i] != 1) {
      throw Refusal("output '" + std::string(program.outputs[i].name) + "' is stored by " + text(given[i]) +
                    " steps; exactly one step must store it");
    }
  }
}

}  // namespace

const char* kind_name(Kind kind) {
  static const char* const names[] = {"LOAD", "STORE",     "FILL", "CONV",    "DEPTHWISE",
                                      "POOL", "POOL_BITS", "MAP",  "SOFTMAX", "COPY"};
  return names[static_cast<uint32_t>(kind) - 1];
}

void read_steps(Part code, uint32_t count, const Strings& strings, Part data, Program* program) {
  for (uint32_t i = 0; i < count; ++i) {
    std::string where = "step " + text(i);
    try {
      const size_t size = read_step(code, strings, data, program, &where);
      code.bytes += size;
      code.size -= size;
    } catch (const Refusal& refusal) {
      throw Refusal(where + ": " + refusal.what());
    }
  }
  if (code.size != 0) throw Refusal("its code continues after the last step");
  check_outputs(*program);
}

}  // namespace bmx::engine
