#include "engine/bound_step.h"

#include <algorithm>

#include "engine/plain_steps.h"

namespace bmx::engine {
namespace {

constexpr int kFilterChunk = 64;  // a share of filters is a multiple of this
constexpr int kShares = 4;        // shares per thread, so that other threads can take over some of them
constexpr double kShare = 500;    // nanoseconds that a share takes at least

// The largest share of a thread divided by an even share.
double imbalance(int64_t items, int parts) {
  return static_cast<double>((items + parts - 1) / parts * parts) / static_cast<double>(items);
}

// Threads share the filters if there are few pixels, or if the weights are larger than the results as floats: each
// thread then reads only its own weights. Otherwise they share the pixels: a thread then reads in the next step what it
// has written, and no cache line is shared.
bool split_filters(const Program& program, const Step& step, int threads) {
  if (step.kind != Kind::kConv || step.conv.groups != 1) return false;
  const int64_t size = int64_t{step.height} * step.width;
  const double pixels = imbalance(size, threads);
  const double filters = imbalance((step.conv.filters + kFilterChunk - 1) / kFilterChunk, threads);
  if (filters < 0.9 * pixels) return true;
  const Tensor& in = program.tensors[step.in];
  int64_t filter_bytes = in.bytes_of(in.channels) * step.window.kernel_h * step.window.kernel_w;
  if (step.arithmetic == Arithmetic::kFloatSigns) filter_bytes /= 32;
  if (step.arithmetic == Arithmetic::kInt8Signs) filter_bytes /= 8;
  return filters <= 1.02 * pixels && filter_bytes > static_cast<int64_t>(sizeof(float)) * size;
}

int64_t items_of(const Program& program, const Step& step) {
  if (step.kind == Kind::kFill) {
    const Tensor& t = program.tensors[step.out];
    return int64_t{t.height} + t.above + t.below;
  }
  return step.kind == Kind::kCopy ? copy_items(step.axes) : int64_t{step.height} * step.width;
}

// A rough estimate in nanoseconds, on a fast processor.
double duration(const Step& step) {
  const double a_nanosecond[] = {400, 25, 100, 25, 80};  // multiply-adds per nanosecond of each arithmetic
  const double macs = static_cast<double>(step.macs), bytes = static_cast<double>(step.bytes);
  return macs / a_nanosecond[static_cast<int>(step.arithmetic)] + bytes / 8;
}

decltype(nhwc::Kernels::conv_binary) kernel_of(const nhwc::Kernels& k, Arithmetic arithmetic) {
  switch (arithmetic) {
    case Arithmetic::kBinary:
      return k.conv_binary;
    case Arithmetic::kFloat:
      return k.conv_f32;
    case Arithmetic::kInt8:
      return k.conv_u8;
    case Arithmetic::kFloatSigns:
      return k.conv_f32_signs;
    case Arithmetic::kInt8Signs:
      break;
  }
  return k.conv_u8_signs;
}

nhwc::TileConv tiles_of(const nhwc::Kernels& k, Arithmetic arithmetic) {
  switch (arithmetic) {
    case Arithmetic::kBinary:
      return k.tile_binary;
    case Arithmetic::kInt8:
      return k.tile_u8;
    case Arithmetic::kInt8Signs:
      return k.tile_u8_signs;
    default:
      return {};
  }
}

nhwc::View view(const Tensor& t, uint8_t* arena) {
  return {arena + t.offset, t.height, t.width, t.channels, t.row_stride, t.pixel_stride};
}

}  // namespace

Share whole(const Program& program, const Step& step) { return {0, items_of(program, step), 0, step.conv.filters}; }

std::vector<Share> shares_of(const Program& program, const Step& step, int threads) {
  const Share all = whole(program, step);
  const bool filters = split_filters(program, step, threads);
  const int64_t size = filters ? kFilterChunk : 1, end = filters ? all.last_filter : all.last;
  const auto each = static_cast<int64_t>(std::clamp<double>(duration(step) / threads / kShare, 1, kShares));
  const int64_t pieces = (end + size - 1) / size, parts = std::min<int64_t>(pieces, each * threads);
  const auto begin = [&](int64_t part) {
    return std::min(end, (pieces / parts * part + pieces % parts * part / parts) * size);
  };
  std::vector<Share> shares(parts, all);
  for (int64_t part = 0; part < parts; ++part) {
    if (filters) {
      shares[part].first_filter = static_cast<int32_t>(begin(part));
      shares[part].last_filter = static_cast<int32_t>(begin(part + 1));
    } else {
      shares[part].first = begin(part), shares[part].last = begin(part + 1);
    }
  }
  return shares;
}

void BoundStep::bind(const Program& program, const Step& step, uint8_t* arena) {
  kernels_ = &nhwc::kernels();
  step_ = &step;
  const int tensor = step.kind == Kind::kFill ? step.out : step.in;
  if (tensor != kNone) tensor_ = &program.tensors[tensor];
  if (step.in != kNone) in_ = view(program.tensors[step.in], arena);
  if (step.out != kNone) out_ = view(program.tensors[step.out], arena);
  if (step.kind == Kind::kLoad) array_size_ = program.inputs[step.array].size;
  if (step.kind == Kind::kStore) array_size_ = program.outputs[step.array].size;
  bind_epilogue(program, step, arena);
  kernel_ = kernel_of(*kernels_, step.arithmetic);
  conv_ = step.conv;
  conv_.in = in_;
  conv_.window = step.window;
  conv_.height = step.height, conv_.width = step.width;
  conv_.epilogue = &epilogue_;
  tiles_ = nullptr, scratch_ = 0;
  if (step.kind == Kind::kConv) {
    const nhwc::TileConv tiles = tiles_of(*kernels_, step.arithmetic);
    const int64_t scratch = tiles.run == nullptr ? -1 : tiles.scratch(conv_);
    if (scratch >= 0 && tiles.faster(conv_)) tiles_ = tiles.run, scratch_ = scratch;
  }
  pool_ = {in_, step.window, step.height, step.width, step.mode, &epilogue_};
}

void BoundStep::bind_epilogue(const Program& program, const Step& step, uint8_t* arena) {
  const Epilogue& e = step.epilogue;
  ops_.clear();
  for (const Operation& operation : e.ops) {
    nhwc::EpilogueOp op = operation.op;
    if (operation.tensor != kNone) {
      const Tensor& t = program.tensors[operation.tensor];
      op.tensor = view(t, arena);
      if (t.pixels() == 1) op.tensor.row_stride = op.tensor.pixel_stride = 0;
      op.one_channel = t.channels == 1 && step.channels != 1;
    }
    ops_.push_back(op);
  }
  epilogue_ = e.stores;
  epilogue_.ops = ops_.data();
  epilogue_.num_ops = static_cast<int>(ops_.size());
  if (e.f32 != kNone) epilogue_.f32 = view(program.tensors[e.f32], arena);
  if (e.bits != kNone) epilogue_.bits = view(program.tensors[e.bits], arena);
  if (e.u8 != kNone) epilogue_.u8 = view(program.tensors[e.u8], arena);
  if (e.count_bits != kNone) epilogue_.count_bits = view(program.tensors[e.count_bits], arena);
}

void BoundStep::run(const Share& s, const Images& images, int64_t image, uint8_t* scratch) const {
  if (s.first >= s.last) return;
  const nhwc::Kernels& k = *kernels_;
  switch (step_->kind) {
    case Kind::kLoad: {
      const float* in = images.inputs[step_->array] + image * array_size_;
      k.load(in, step_->height, step_->width, step_->channels, epilogue_, s.first, s.last);
      break;
    }
    case Kind::kStore:
      store(in_, images.outputs[step_->array] + image * array_size_, s.first, s.last);
      break;
    case Kind::kFill:
      fill(*tensor_, out_.data, s.first, s.last);
      break;
    case Kind::kConv:
      if (s.first_filter >= s.last_filter) break;
      if (tiles_ != nullptr) {
        tiles_(conv_, s.first, s.last, s.first_filter, s.last_filter, scratch);
      } else {
        kernel_(conv_, s.first, s.last, s.first_filter, s.last_filter);
      }
      break;
    case Kind::kDepthwise:
      k.depthwise(conv_, s.first, s.last);
      break;
    case Kind::kPool:
      k.pool(pool_, s.first, s.last);
      break;
    case Kind::kPoolBits:
      k.pool_bits(in_, step_->window, out_, step_->flips, s.first, s.last);
      break;
    case Kind::kMap:
      if (tensor_->type == nhwc::Type::kU8) {
        k.map_u8(in_, tensor_->scale, tensor_->zero_point, epilogue_, s.first, s.last);
      } else {
        k.map_f32(in_, epilogue_, s.first, s.last);
      }
      break;
    case Kind::kSoftmax:
      softmax(in_, out_, s.first, s.last);
      break;
    case Kind::kCopy:
      copy(step_->axes, in_.data, out_.data, s.first, s.last);
      break;
  }
}

}  // namespace bmx::engine
