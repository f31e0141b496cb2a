// Times the engine's kernels on one core, on layers of ResNet-18 and others, against the roofs of the machine:
//
//   bmx_nhwc_bench [instruction set [part of a name]]
//
// Rounds of all cases follow each other and the least time of each counts, so that a disturbance hits one round.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "kernels/buffer.h"
#include "kernels/engine/function.h"
#include "kernels/engine/kernels.h"
#include "roof.h"

namespace {

using namespace bmx::nhwc;

enum class Arithmetic { kBinary, kF32, kU8, kF32Signs, kU8Signs };
const char* const kArithmetics[] = {"binary", "f32", "u8", "f32 x binary", "u8 x binary"};

// An image of numbers between -2 and 2, or of any bits or bytes, with a border of `pad`; its memory is never freed.
View image(Type type, int32_t height, int32_t width, int32_t channels, int32_t pad) {
  View v;
  v.height = height;
  v.width = width;
  v.channels = channels;
  v.pixel_stride = type == Type::kF32 ? 4 * channels : type == Type::kBit ? (channels + 63) / 64 * 8 : channels;
  v.row_stride = (width + 2 * pad) * v.pixel_stride;
  const size_t size = (height + 2 * pad) * v.row_stride + 64;
  auto* memory = new bmx::Buffer<uint8_t>(size);
  v.data = memory->get() + pad * v.row_stride + pad * v.pixel_stride;
  for (size_t i = 0; i < size; ++i) memory->get()[i] = static_cast<uint8_t>(i * 7);
  if (type == Type::kF32) {
    for (size_t i = 0; i < size / 4; ++i)
      reinterpret_cast<float*>(memory->get())[i] = static_cast<float>(i * 7 % 99) / 25 - 2;
  }
  return v;
}

template <class T>
T* array(size_t size) {
  auto* memory = new bmx::Buffer<T>(size);
  for (size_t i = 0; i < size; ++i) memory->get()[i] = T{};
  return memory->get();
}

enum class Result { kCounts, kAddBits, kNormAddBits, kF32, kNormBits, kU8 };
const char* const kResults[] = {"counts -> bits",    "add -> f32, bits", "norm, add -> f32, bits", "f32",
                                "norm -> f32, bits", "clip -> u8"};

struct Case {
  const char* isa;
  int roof;  // kBinary, kF32 or kU8 as a number, or 3
  std::string name;
  double macs;  // of convolutions, else 0
  std::function<void()> run;
  double best = 1e9;
};

struct ConvShape {
  int32_t channels, filters, size, kernel, stride;  // size of the output
};

// An epilogue and its operations; never freed.
Epilogue* make_epilogue(Result result, int32_t channels, int32_t height, int32_t width) {
  auto* epilogue = new Epilogue;
  auto* ops = new EpilogueOp[2];
  const View f32 = image(Type::kF32, height, width, channels, 0);
  const View bits = image(Type::kBit, height, width, channels, 1);
  epilogue->ops = ops;
  epilogue->threshold = array<float>(channels + 32);
  epilogue->sign = array<uint32_t>(channels + 32);
  EpilogueOp norm{}, add{}, clip{};
  norm.operation = Operation::kNorm;
  for (const float** numbers : {&norm.a, &norm.b, &norm.c}) *numbers = array<float>(channels + 32);
  add.operation = Operation::kAdd;
  add.tensor = f32;  // in place, as the compiler does it where it can
  clip.operation = Operation::kClip;
  clip.high = 6;
  switch (result) {
    case Result::kCounts:
      epilogue->count_bits = bits;
      epilogue->count_threshold = array<int32_t>(channels + 32);
      epilogue->flip = array<uint8_t>(channels + 64);
      return epilogue;
    case Result::kAddBits:
      ops[epilogue->num_ops++] = add;
      break;
    case Result::kNormAddBits:
      ops[epilogue->num_ops++] = norm;
      ops[epilogue->num_ops++] = add;
      break;
    case Result::kNormBits:
      ops[epilogue->num_ops++] = norm;
      break;
    case Result::kF32:
      epilogue->f32 = f32;
      return epilogue;
    case Result::kU8:
      ops[epilogue->num_ops++] = clip;
      epilogue->u8 = image(Type::kU8, height, width, channels, 0);
      epilogue->inverse_scale = 1;
      return epilogue;
  }
  epilogue->f32 = f32;
  epilogue->bits = bits;
  return epilogue;
}

// So much that weights from here are in no cache.
constexpr size_t kFarSize = size_t{256} << 20;

uint8_t* far_memory() {
  static uint8_t* const memory = array<uint8_t>(kFarSize);
  return memory;
}

// With `far`, each call reads other weights, which come from memory.
Case make_conv(const Kernels& k, Arithmetic arithmetic, const ConvShape& s, Result result, bool far = false) {
  const bool f32 = arithmetic == Arithmetic::kF32 || arithmetic == Arithmetic::kF32Signs;
  const Type type = arithmetic == Arithmetic::kBinary ? Type::kBit : f32 ? Type::kF32 : Type::kU8;
  const int32_t pad = s.kernel / 2, in = s.size * s.stride;
  const View input = image(type, in, in, s.channels, pad);
  Conv conv{input,
            {s.kernel, s.kernel, s.stride, s.stride, 1, 1, pad, pad},
            s.size,
            s.size,
            1,
            s.filters,
            true,
            array<uint8_t>(size_t(input.pixel_stride + 8) * s.kernel * s.kernel * (s.filters + 16)),
            array<int32_t>(s.filters + 32),
            static_cast<float>(s.channels * s.kernel * s.kernel),
            2,
            make_epilogue(result, s.filters, s.size, s.size)};
  const decltype(k.conv_binary) kernels[] = {k.conv_binary, k.conv_f32, k.conv_u8, k.conv_f32_signs, k.conv_u8_signs};
  std::function<void(const Conv&, int64_t, int64_t, int32_t, int32_t)> kernel = kernels[int(arithmetic)];
  const TileConv tiles[] = {k.tile_binary, {}, k.tile_u8, {}, k.tile_u8_signs};
  if (const TileConv tile = tiles[int(arithmetic)]; tile.run != nullptr) {
    auto* scratch = new bmx::Buffer<uint8_t>(tile.scratch(conv));
    kernel = [=](const Conv& c, int64_t first, int64_t last, int32_t first_filter, int32_t last_filter) {
      tile.run(c, first, last, first_filter, last_filter, scratch->get());
    };
  }
  char name[120];
  std::snprintf(name, sizeof(name), "%-12s %4d -> %4d %3dx%-3d kernel %d/%d  %s%s", kArithmetics[int(arithmetic)],
                s.channels, s.filters, s.size, s.size, s.kernel, s.stride, kResults[int(result)],
                far ? ", weights from memory" : "");
  const double macs = double(s.channels) * s.kernel * s.kernel * s.filters * s.size * s.size;
  const int roof = arithmetic == Arithmetic::kBinary ? 0 : f32 ? 1 : 2;
  const int64_t pixels = int64_t{s.size} * s.size;
  if (!far) return {k.name, roof, name, macs, [=] { kernel(conv, 0, pixels, 0, s.filters); }};
  const bool bits = arithmetic != Arithmetic::kF32 && arithmetic != Arithmetic::kU8;
  const size_t size = size_t(macs) / 8 * (bits ? 1 : f32 ? 32 : 8);  // of the weights, for one pixel
  return {k.name, roof, name, macs, [=, next = size_t{0}]() mutable {
            Conv other = conv;
            other.weights = far_memory() + next;
            kernel(other, 0, pixels, 0, s.filters);
            next = next + 2 * size <= kFarSize ? next + size : 0;
          }};
}

// Steps that are not convolutions.
void add_others(const Kernels& k, std::vector<Case>& cases) {
  const auto add = [&](const char* name, std::function<void()> run) {
    cases.push_back({k.name, 3, std::string("other  ") + name, 0, std::move(run)});
  };
  const float* planes = array<float>(3 * 224 * 224);
  for (Result result : {Result::kF32, Result::kU8}) {
    const Epilogue* e = make_epilogue(result, 3, 224, 224);
    add(result == Result::kF32 ? "load 3x224x224 -> f32" : "load 3x224x224, clip -> u8",
        [=] { k.load(planes, 224, 224, 3, *e, 0, 224 * 224); });
  }
  const View large = image(Type::kF32, 112, 112, 64, 0), middle = image(Type::kF32, 56, 56, 64, 1),
             small = image(Type::kF32, 7, 7, 512, 0);
  const auto add_pool = [&](const char* name, const View& in, int mode, int32_t kernel, int32_t stride, int32_t size) {
    const Pool pool{in,   {kernel, kernel, stride, stride, 1, 1, 0, 0},        size, size,
                    mode, make_epilogue(Result::kF32, in.channels, size, size)};
    add(name, [=] { k.pool(pool, 0, int64_t{size} * size); });
  };
  add_pool("max pool 3/2 64x56x56", large, 0, 3, 2, 55);
  add_pool("max pool 3/2 64x28x28", image(Type::kF32, 57, 57, 64, 0), 0, 3, 2, 28);
  add_pool("average pool 2/2 64x28x28", middle, 1, 2, 2, 28);
  add_pool("global average pool 512x7x7", small, 1, 7, 1, 1);
  const View bits = image(Type::kBit, 56, 56, 128, 1), half = image(Type::kBit, 28, 28, 128, 1);
  add("pool of bits 2/2 128x28x28", [=] { k.pool_bits(bits, {2, 2, 2, 2, 1, 1, 0, 0}, half, nullptr, 0, 28 * 28); });
  const Epilogue* norm = make_epilogue(Result::kNormBits, 64, 56, 56);
  add("map norm -> f32, bits 64x56x56", [=] { k.map_f32(middle, *norm, 0, 56 * 56); });
  Conv conv{middle, {3, 3, 1, 1, 1, 1, 1, 1}, 56, 56, 64, 64, false, array<uint8_t>(64 * 9 * 4), nullptr, 0, 0, norm};
  add("depthwise 3/1 64x56x56, norm -> f32, bits", [=] { k.depthwise(conv, 0, 56 * 56); });
  for (Function function : {Function::kTanh, Function::kSigmoid, Function::kExp, Function::kGelu, Function::kRound}) {
    Epilogue* e = make_epilogue(Result::kF32, 64, 56, 56);
    auto* op = new EpilogueOp{};
    op->operation = Operation::kFunction;
    op->function = function;
    e->ops = op;
    e->num_ops = 1;
    add(("function " + std::to_string(int(function)) + " 64x56x56").c_str(),
        [=] { k.map_f32(middle, *e, 0, 56 * 56); });
  }
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<Case> all, cases;
  for (const char* isa : {"amx", "avx512", "avx2", "portable"}) {
    const Kernels* k = find_kernels(isa);
    if (k == nullptr || (argc > 1 && std::strcmp(argv[1], isa) != 0)) continue;
    const auto add = [&](Arithmetic arithmetic, const ConvShape& shape, Result result) {
      all.push_back(make_conv(*k, arithmetic, shape, result));
    };
    for (Result result : {Result::kCounts, Result::kAddBits, Result::kNormAddBits, Result::kF32}) {
      add(Arithmetic::kBinary, {64, 64, 56, 3, 1}, result);
      add(Arithmetic::kBinary, {128, 128, 28, 3, 1}, result);
      add(Arithmetic::kBinary, {256, 256, 14, 3, 1}, result);
      add(Arithmetic::kBinary, {512, 512, 7, 3, 1}, result);
    }
    add(Arithmetic::kBinary, {64, 128, 28, 3, 2}, Result::kCounts);
    add(Arithmetic::kBinary, {1024, 1024, 1, 1, 1}, Result::kCounts);
    for (Arithmetic arithmetic : {Arithmetic::kF32, Arithmetic::kU8}) {
      const Result result = arithmetic == Arithmetic::kF32 ? Result::kNormBits : Result::kU8;
      add(arithmetic, {3, 64, 112, 7, 2}, Result::kF32);
      add(arithmetic, {3, 64, 112, 7, 2}, result);
      if (arithmetic == Arithmetic::kU8) add(arithmetic, {3, 64, 112, 7, 2}, Result::kNormBits);
      if (arithmetic == Arithmetic::kU8) add(arithmetic, {3, 64, 56, 7, 2}, Result::kF32);
      add(arithmetic, {64, 128, 28, 1, 1}, result);
      add(arithmetic, {128, 256, 14, 1, 1}, result);
      add(arithmetic, {256, 512, 7, 1, 1}, result);
      add(arithmetic, {64, 64, 56, 3, 1}, result);
      add(arithmetic, {512, 1000, 1, 1, 1}, Result::kF32);
    }
    for (Arithmetic arithmetic :
         {Arithmetic::kBinary, Arithmetic::kF32, Arithmetic::kF32Signs, Arithmetic::kU8, Arithmetic::kU8Signs}) {
      const ConvShape dense{4096, 4096, 1, 1, 1};
      add(arithmetic, dense, Result::kF32);
      all.push_back(make_conv(*k, arithmetic, dense, Result::kF32, true));
      if (arithmetic == Arithmetic::kBinary) continue;
      add(arithmetic, {64, 64, 56, 3, 1}, Result::kF32);
      add(arithmetic, {128, 128, 28, 3, 1}, Result::kF32);
      add(arithmetic, {256, 256, 14, 3, 1}, Result::kF32);
      add(arithmetic, {512, 512, 7, 3, 1}, Result::kF32);
    }
    add_others(*k, all);
  }
  for (const Case& c : all) {
    if (argc < 3 || c.name.find(argv[2]) != std::string::npos) cases.push_back(c);
  }
  double roofs[4] = {0, 0, 0, 0};
  for (int round = 0; round < 15; ++round) {
#if BMX_X86_64
    if (find_kernels("avx512") != nullptr) {
      roofs[0] = std::max(roofs[0], roof::binary(200000));
      roofs[1] = std::max(roofs[1], roof::f32(200000));
      roofs[2] = std::max(roofs[2], roof::u8(200000));
    }
#endif
    for (Case& c : cases) {
      const auto first = roof::Clock::now();
      do {
        const auto start = roof::Clock::now();
        c.run();
        c.best = std::min(c.best, roof::seconds_since(start));
      } while (roof::seconds_since(first) < 5e-3);
    }
  }
  if (roofs[0] > 0) {
    std::printf("roofs of AVX-512, GMAC/s: binary %.0f, f32 %.1f, u8 %.0f\n", roofs[0] / 1e9, roofs[1] / 1e9,
                roofs[2] / 1e9);
  }
  for (const Case& c : cases) {
    std::printf("%-8s %-64s %9.1f us", c.isa, c.name.c_str(), c.best * 1e6);
    if (c.macs > 0) std::printf(" %8.1f GMAC/s", c.macs / c.best / 1e9);
    if (roofs[c.roof] > 0 && std::strcmp(c.isa, "avx512") == 0) {
      std::printf(" %5.1f %%", 100 * c.macs / c.best / roofs[c.roof]);
    }
    std::printf("\n");
  }
}
