// Files that are not what docs/format.md allows are refused with a reason, and nothing in a file can make the engine
// touch memory that is not its own (these tests run under sanitizers too).
#include <unistd.h>
#include <algorithm>
#include <cmath>
#include <cstdio>

#include <fstream>
#include <stdexcept>

#include "engine/crc32.h"
#include "engine_run.h"
#include "program_builder.h"
#include "refusals.h"
#include "sample_network.h"
#include "test.h"

namespace {

using namespace test;
using bmx::engine::Model;
using bmx::engine::Session;

// What a file that loads computes does not matter here, only that it stays in its memory. Arenas are small.
void run_if_it_loads(const std::vector<uint8_t>& file, int64_t largest) {
  std::shared_ptr<const Model> model;
  try {
    model = Model::copy(file.data(), file.size());
  } catch (const std::runtime_error& e) {
    return;
  }
  int64_t numbers = model->program().arena;
  for (const auto& array : model->program().inputs) numbers += array.size;
  for (const auto& array : model->program().outputs) numbers += array.size;
  if (numbers > largest) return;
  Session session(model, 1);
  Random random(1);
  run(&session, images(*model, 1, &random), 1);
}

template <class T>
std::vector<uint8_t> with(std::vector<uint8_t> file, size_t offset, T value) {
  std::memcpy(file.data() + offset, &value, sizeof(value));
  fix_checksum(&file);
  return file;
}

TEST(engine_checksum_is_that_of_zlib) {
  CHECK(bmx::engine::crc32(reinterpret_cast<const uint8_t*>("123456789"), 9) == 0xCBF43926, "the check value");
  Random random(3);
  std::vector<uint8_t> bytes(300);
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random.bits());
  for (size_t size = 0; size < bytes.size(); ++size) {
    CHECK(bmx::engine::crc32(bytes.data(), size) == slow_crc32(bytes.data(), size), std::to_string(size));
  }
}

TEST(engine_sample_network_runs_the_same_in_every_way) {
  const std::vector<uint8_t> file = sample_network().file();
  const auto model = Model::copy(file.data(), file.size());
  CHECK(std::string(model->program().name) == "a network", model->program().name);
  Random random(2);
  run_everywhere(file, images(*model, 7, &random), 7);
}

TEST(engine_refuses_what_is_no_file_of_its_own) {
  const std::vector<uint8_t> file = sample_network().file();
  check_refused({}, "not a .bmx file");
  check_refused({1, 2, 3}, "not a .bmx file");
  check_refused(with<uint8_t>(file, 4, '\n'), "not a .bmx file");
  check_refused(std::vector<uint8_t>(file.begin(), file.begin() + 100), "truncated");
  check_refused(std::vector<uint8_t>(file.begin(), file.end() - 64), "truncated: it has");
  check_refused(with<uint32_t>(file, 8, 2), "version 2 of the format; this library reads version 1");
  check_refused(with<uint32_t>(file, 12, 0x04030201), "big-endian");
  check_refused(with<uint32_t>(file, 12, 7), "byte order");
  std::vector<uint8_t> damaged = file;
  damaged[file.size() - 3] ^= 1;
  check_refused(damaged, "checksum");
  damaged = file;
  damaged.resize(file.size() + 64);
  check_refused(damaged, "instead of");
}

TEST(engine_refuses_every_truncation) {
  const std::vector<uint8_t> file = sample_network(8).file();
  for (size_t size = 0; size < file.size(); ++size) {
    std::vector<uint8_t> part(file.begin(), file.begin() + static_cast<int64_t>(size));
    CHECK(!refusal(part).empty(), std::to_string(size));
    if (size < 32) continue;
    const uint64_t claimed = size;  // and one that says so
    std::memcpy(part.data() + 16, &claimed, 8);
    fix_checksum(&part);
    CHECK(!refusal(part).empty(), std::to_string(size));
    size += size > 2000 ? 6 : 0;
  }
}

// Everything before the data, where each bit means something.
TEST(engine_survives_flipped_bits) {
  const std::vector<uint8_t> file = sample_network(8).file();
  uint64_t data;
  std::memcpy(&data, file.data() + 104, 8);
  for (size_t bit = 0; bit < 8 * data; ++bit) {
    std::vector<uint8_t> flipped = file;
    flipped[bit / 8] ^= static_cast<uint8_t>(1 << bit % 8);
    CHECK(!refusal(flipped).empty() || (bit >= 24 * 8 && bit < 28 * 8),
          "the checksum misses bit " + std::to_string(bit));
    fix_checksum(&flipped);
    run_if_it_loads(flipped, 1 << 20);
  }
}

TEST(engine_survives_strange_numbers) {
  const std::vector<uint8_t> file = sample_network(8).file();
  uint64_t data;
  std::memcpy(&data, file.data() + 104, 8);
  Random random(5);
  for (uint32_t number : {0u, 1u, 3u, 8u, 64u, 0x7FFFFFFFu, 0x80000000u, 0xFFFFFFFFu}) {
    for (size_t at = 32; at < data; at += 4) run_if_it_loads(with(file, at, number), 1 << 20);
  }
  for (int i = 0; i < 3000; ++i) {
    std::vector<uint8_t> strange = file;
    for (int64_t n = random.between(1, 4); n > 0; --n) {
      const size_t at = static_cast<size_t>(random.between(8, static_cast<int64_t>(data) / 4 - 1)) * 4;
      const auto value = static_cast<uint32_t>(random.between(0, 80));
      std::memcpy(strange.data() + at, &value, 4);
    }
    fix_checksum(&strange);
    run_if_it_loads(strange, 1 << 20);
  }
}

// --- one rule after the other, in a network of few steps ---

struct Small {
  Builder b;
  uint32_t in, out;

  explicit Small(Type type = F32, int border = 0, int channels = 8) {
    b.input("x", {uint32_t(channels), 4, 4});
    b.output("y", {uint32_t(channels), 4, 4});
    in = b.tensor(type, 4, 4, channels, border, 0, type == U8 ? 1.0f : 0.0f);
    out = b.tensor(F32, 4, 4, channels);
  }
  Builder& begin() {
    const std::vector<float> zeros(8, 0.0f);
    const Type type = static_cast<Type>(b.tensors[in].type);
    b.step(LOAD).u(0).u(0).u(type == F32 ? STORE_F32 : (type == BIT ? STORE_BITS : STORE_U8)).u(in);
    if (type == BIT) b.u(b.data(zeros)).u(b.data(zeros));
    if (type == U8) b.f(1);
    return b;
  }
  std::vector<uint8_t> end() {
    b.step(STORE).u(out).u(0);
    return b.file();
  }
};

TEST(engine_refuses_tensors_outside_of_the_arena) {
  const auto check = [](const std::function<void(TensorRecord&)>& bend, const std::string& reason) {
    Small s(F32, 1);
    s.begin().step(MAP).u(s.in).u(0).u(STORE_F32).u(s.out);
    bend(s.b.tensors[s.in]);
    check_refused(s.end(), reason);
  };
  check([](TensorRecord&) {}, "");
  check([](TensorRecord& t) { t.offset = 0; }, "tensor 't0': it is not within the arena");
  check([](TensorRecord& t) { t.offset += 100000; }, "not within the arena");
  check([](TensorRecord& t) { t.offset = ~uint64_t{3}; }, "not within the arena");
  check([](TensorRecord& t) { t.row_stride = uint64_t{1} << 63; }, "not within the arena");
  check([](TensorRecord& t) { t.height = 1 << 20; }, "not within the arena");
  check([](TensorRecord& t) { t.below = 1 << 20; }, "not within the arena");
  check([](TensorRecord& t) { t.channels = 1 << 24; }, "not within the arena");
  check([](TensorRecord& t) { t.channels = (1 << 24) + 1; }, "or less");
  check([](TensorRecord& t) { t.width = 0; }, "1 or more");
  check([](TensorRecord& t) { t.left = -1; }, "0 or more");
  check([](TensorRecord& t) { t.offset += 2; }, "multiples of 4");
  check([](TensorRecord& t) { t.pixel_stride = 4; }, "its pixels overlap");
  check([](TensorRecord& t) { t.row_stride = 4 * t.pixel_stride; }, "its rows overlap");
  check([](TensorRecord& t) { t.row_stride = (t.width + 1) * t.pixel_stride; }, "");
  check([](TensorRecord& t) { t.row_stride = (t.width + 1) * t.pixel_stride + 4; }, "its rows' borders overlap");
  check([](TensorRecord& t) { t.type = 3; }, "type 3");
  check([](TensorRecord& t) { t.border = 1; }, "its border holds 1");
  check([](TensorRecord& t) { t.zero_point = 1; }, "zero point");
  check([](TensorRecord& t) { t.name = 100000; }, "a name lies at");
  check([](TensorRecord& t) { t.name += 1; }, "where none begins");
  check([](TensorRecord& t) { t.scale = 1; }, "its scale is 1");
  check([](TensorRecord& t) { t.zero = uint64_t{1} << 56; }, "its record has numbers that must be 0");
}

TEST(engine_refuses_steps_that_do_not_fit_their_tensors) {
  const auto check = [](const std::function<void(Small&)>& steps, const std::string& reason, Type type = F32,
                        int border = 0) {
    Small s(type, border);
    s.begin();
    steps(s);
    check_refused(s.end(), reason);
  };
  const std::vector<float> zeros(32, 0.0f);
  check([](Small& s) { s.b.step(MAP, "m").u(99).u(0).u(STORE_F32).u(s.out); }, "step 1 'm' (MAP): its input is not in");
  check([](Small& s) { s.b.step(MAP).u(s.in).u(0).u(0); }, "its stores are 0");
  check([](Small& s) { s.b.step(MAP).u(s.in).u(0).u(STORE_U8).u(s.out).f(1); }, "is f32; it must be u8");
  check([](Small& s) { s.b.step(MAP).u(s.in).u(0).u(STORE_F32).u(s.in); }, "overlaps tensor 't0'");
  check([](Small& s) { s.b.step(MAP).u(s.in).u(0).u(STORE_F32); }, "ends before its fields");
  check([](Small& s) { s.b.step(MAP).u(s.in).u(0).u(STORE_F32).u(s.out).u(0); }, "longer than its fields");
  check([](Small& s) { s.b.step(MAP).u(s.in).u(1).u(1000).u(STORE_F32).u(s.out); }, "an operation is 1000");
  check([](Small& s) { s.b.step(MAP).u(s.in).u(1).u(FUNCTION).u(1000).u(STORE_F32).u(s.out); }, "a function is 1000");
  check([](Small& s) { s.b.step(MAP).u(s.in).u(1).u(PRELU).u(1000).u(STORE_F32).u(s.out); }, "not within the");
  check([](Small& s) { s.b.step(MAP).u(s.in).u(1).u(PRELU).u(kAbsent).u(STORE_F32).u(s.out); }, "it has no slope");
  check([](Small& s) { s.b.step(MAP).u(s.in).u(0).u(STORE_F32).u(s.b.slice(s.out, 0, 4)); }, "the result is 4 x 4 x 8");
  check([](Small& s) { s.b.step(MAP).u(s.in).u(1).u(ADD).u(s.b.slice(s.in, 0, 2)).u(STORE_F32).u(s.out); },
        "does not fit the result, 4 x 4 x 8");
  check([](Small& s) { s.b.step(MAP).u(s.in).u(0).u(STORE_COUNT_BITS).u(s.out); }, "only a binary convolution");
  check([](Small& s) { s.b.step(static_cast<Kind>(11)).u(s.in); }, "kind 11");
  check([](Small& s) { s.b.step(LOAD).u(1).u(0).u(STORE_F32).u(s.out); }, "there is no input 1");
  check([](Small& s) { s.b.step(STORE).u(s.out).u(1); }, "there is no output 1");
  const auto map = [](std::vector<uint32_t> fields) {
    return [=](Small& s) {
      s.b.step(MAP).u(s.in);
      for (uint32_t field : fields) s.b.u(field);
      s.b.u(STORE_F32).u(s.out);
    };
  };
  const float nan = std::nanf(""), infinity = HUGE_VALF;
  check(map({1, CLIP, bits_of(-1.0f), bits_of(-1.0f)}), "");
  check(map({1, CLIP, bits_of(-infinity), bits_of(infinity)}), "");
  check(map({1, CLIP, bits_of(1.0f), bits_of(0.5f)}), "it clips from 1 to 0.5");
  check(map({1, CLIP, bits_of(nan), bits_of(1.0f)}), "it clips from nan to 1");
  check(map({1, CLIP, bits_of(1.0f), bits_of(nan)}), "it clips from 1 to nan");
  const auto bytes = [](float inverse_scale) {
    return [=](Small& s) {
      s.b.step(MAP).u(s.in).u(0).u(STORE_U8).u(s.b.tensor(U8, 4, 4, 8, 0, 0, 1.0f)).f(inverse_scale);
    };
  };
  check(bytes(1e-30f), "");
  for (float x : {0.0f, -1.0f, nan, infinity}) check(bytes(x), "its inverse scale is");
  check([](Small& s) { s.b.step(STORE).u(s.out).u(0); }, "output 'y' is stored by 2 steps");
  check([](Small& s) { s.b.step(STORE).u(s.b.slice(s.out, 0, 4)).u(0); }, "the result is 4 x 4 x 8");
  check([](Small& s) { s.b.step(SOFTMAX).u(s.in).u(s.b.slice(s.out, 0, 4)); }, "the result is 4 x 4 x 8");
  const auto copy = [](uint32_t count, uint32_t size, uint32_t stride) {
    return [=](Small& s) {
      s.b.step(COPY).u(s.in).u(s.out).u(count);
      for (uint32_t i = 0; i < count; ++i) s.b.u(size).u(stride).u(4);
    };
  };
  check(copy(1, 128, 4), "");
  check(copy(1, 129, 4), "it reaches byte 512");
  check(copy(1, 2, 0xFFFFFFFC), "it reaches byte");
  check(copy(1, 2, 2), "multiples of 4");
  check(copy(1, 0, 4), "a size is 0");
  check(copy(7, 1, 4), "number of sizes is 7");
  check(copy(2, 12, 4), "more numbers");
}

TEST(engine_refuses_scales_of_bytes_that_are_none) {
  for (float scale : {0.0f, -1.0f, std::nanf(""), HUGE_VALF}) {
    Small s(U8);
    s.b.tensors[s.in].scale = scale;
    s.begin().step(MAP).u(s.in).u(0).u(STORE_F32).u(s.out);
    check_refused(s.end(), "tensor 't0': its scale is");
  }
}

// 2 x 3 pixels of 4 floats, 32 bytes apart, in rows 128 bytes apart, that is channels 0 to 3 of 8 in columns 0 to 2
// of 4.
TensorRecord at(uint64_t offset, uint64_t row_stride = 128, uint64_t pixel_stride = 32, int height = 2) {
  TensorRecord t{};
  t.height = height, t.width = 3, t.channels = 4;
  t.offset = offset, t.row_stride = row_stride, t.pixel_stride = pixel_stride;
  return t;
}

Builder with_tensors(const std::vector<TensorRecord>& tensors) {
  Builder b;
  b.arena = 4096;
  b.tensors = tensors;
  const std::vector<uint32_t> shape = {4, static_cast<uint32_t>(tensors[0].height), 3};
  b.input("x", shape);
  b.output("y", shape);
  b.step(LOAD).u(0).u(0).u(STORE_F32).u(0);
  b.step(STORE).u(0).u(0);
  return b;
}

TEST(engine_refuses_what_is_stored_over_what_is_read) {
  struct Case {
    const char* what;
    TensorRecord one, other;
    bool overlap;
  };
  const uint64_t end = 128 + 2 * 32 + 16;
  const Case cases[] = {
      {"the same place", at(256), at(256), true},
      {"the channels beside", at(256), at(256 + 16), false},
      {"a channel and those beside", at(256), at(256 + 12), true},
      {"the channels beside and the next pixel", at(256), at(256 + 20), true},
      {"the channels beside of the next pixel", at(256), at(256 + 48), false},
      {"the channels beside of rows on no grid", at(256, 144), at(256 + 16, 144), true},
      {"the channels beside of single rows on no grid", at(256, 144, 32, 1), at(256 + 16, 144, 32, 1), false},
      {"the column beside", at(256), at(256 + 80, 128, 16), false},
      {"the column beside and the next row", at(256), at(256 + 84, 128, 16), true},
      {"a column and the one beside", at(256), at(256 + 76, 128, 16), true},
      {"the bytes behind", at(256), at(256 + end, 96, 16), false},
      {"the last byte and those behind", at(256), at(256 + end - 4, 96, 16), true},
  };
  for (const Case& c : cases) {
    for (bool swapped : {false, true}) {
      Builder b = with_tensors(swapped ? std::vector{c.other, c.one} : std::vector{c.one, c.other});
      b.step(MAP).u(0).u(0).u(STORE_F32).u(1);
      const std::string message = refusal(b.file());
      CHECK(message.empty() != c.overlap, c.what + (": " + message));
      CHECK(message.empty() || message.find("which it stores, overlaps tensor") != std::string::npos, message);
    }
  }
}

TEST(engine_lets_only_operands_lie_where_a_step_stores) {
  const auto check = [](const TensorRecord& operand, const std::string& reason) {
    Builder b = with_tensors({at(256), at(1024), operand});
    b.step(MAP).u(0).u(1).u(ADD).u(2).u(STORE_F32).u(1);
    check_refused(b.file(), reason);
  };
  check(at(1024), "");
  check(at(256), "");
  check(at(1024 + 4), "which it stores, overlaps");
  check(at(1024, 96), "which it stores, overlaps");
  check(at(1024, 128, 16), "which it stores, overlaps");
  TensorRecord few = at(1024);
  few.channels = 1;
  check(few, "which it stores, overlaps");
  Builder b = with_tensors({at(256), at(1024), at(1024)});  // two stores, in one place
  b.tensors[2].type = U8, b.tensors[2].scale = 1;
  b.step(MAP).u(0).u(0).u(STORE_F32 | STORE_U8).u(1).u(2).f(1);
  check_refused(b.file(), "which it stores, overlaps");
}

TEST(engine_refuses_windows_outside_of_the_border) {
  struct Case {
    Window w;
    const char* reason;
  };
  Window right, before, below, dilated, far, zero;
  right.kernel_h = right.kernel_w = 3, right.pad_y = right.pad_x = 1;
  before = below = dilated = far = zero = right;
  before.pad_y = 2, below.pad_y = 0, dilated.dilate_x = 2, far.stride_x = 2, zero.kernel_w = 0;
  for (const Case& c :
       {Case{right, ""}, Case{before, "rows -2 to 3 of tensor 't0', which has -1 to 4"}, Case{below, "rows 0 to 5"},
        Case{dilated, "columns -1 to 6"}, Case{far, "columns -1 to 7"}, Case{zero, "kernel width is 0"}}) {
    Small s(F32, 1);
    const std::vector<float> weights(16 * 8 * 9, 0.0f);
    s.begin().step(CONV).u(1).u(s.in).window(c.w).u(1).u(8).u(0).u(s.b.data(weights)).u(kAbsent).f(0).f(0);
    s.b.u(0).u(STORE_F32).u(s.out);
    check_refused(s.end(), c.reason);
    Small d(F32, 1);
    d.begin().step(DEPTHWISE).u(d.in).window(c.w).u(d.b.data(weights)).u(0).u(STORE_F32).u(d.out);
    check_refused(d.end(), c.reason);
  }
}

TEST(engine_refuses_convolutions_without_their_weights) {
  const auto check = [](Type type, uint32_t groups, uint32_t filters, uint32_t run, size_t weights, size_t starts,
                        const std::string& reason, uint32_t dilate = 1, bool signs = false) {
    Small s(type, 0, filters == 8 ? 8 : 16);
    Window w;
    w.dilate_x = dilate;
    s.begin().step(CONV).u((type == BIT ? 0 : (type == F32 ? 1 : 2)) + (signs ? 2 : 0)).u(s.in).window(w);
    s.b.u(groups).u(filters).u(run);
    // The last data of the file, so that nothing follows them.
    const uint32_t start = starts == 0 ? kAbsent : s.b.data(std::vector<int32_t>(starts, 0), 1);
    s.b.u(s.b.data(std::vector<uint8_t>(weights, 0), 64)).u(start).f(0).f(0).u(0).u(STORE_F32).u(s.out);
    check_refused(s.end(), reason);
  };
  check(F32, 1, 8, 0, 8 * 16 * 4, 0, "");
  check(F32, 1, 8, 0, 8 * 16 * 4 - 64, 0, "weights: 512 bytes");
  check(BIT, 1, 8, 1, 64, 0, "");
  check(U8, 1, 8, 1, 128, 32, "");
  check(U8, 1, 8, 1, 64, 32, "weights: 128 bytes");
  check(U8, 1, 8, 1, 128, 0, "it has no start");
  check(F32, 2, 8, 0, 4 * 16 * 4 * 2, 0, "a multiple of 8 filters");
  check(F32, 3, 24, 0, 5 * 16 * 4 * 3, 0, "16 channels and 24 filters in 3 groups");
  check(BIT, 2, 16, 0, 128, 0, "binary groups of 8 channels");
  check(F32, 2, 16, 1, 8 * 16 * 4 * 2, 0, "not runs");
  check(F32, 1, 8, 1, 8 * 16 * 4, 0, "not runs", 2);
  check(F32, 1, 8, 0, 8 * 2, 0, "", 1, true);
  check(F32, 1, 16, 0, 0, 0, "weights: 32 bytes", 1, true);
  check(U8, 1, 8, 1, 2 * 8, 32, "", 1, true);
  check(U8, 2, 16, 0, 0, 64, "weights: 32 bytes", 1, true);
  check(U8, 1, 8, 1, 2 * 8, 0, "it has no start", 1, true);
  check(BIT, 1, 8, 1, 64, 0, "it must be u8", 1, true);
  check(F32, 0, 8, 0, 512, 0, "groups is 0");
  check(F32, 1, 0x40000000, 0, 512, 0, "filters is 1073741824");
}

TEST(engine_refuses_names_that_are_not_utf8) {
  const auto check = [](const std::string& name, bool right) {
    Small s;
    s.begin().step(MAP, name).u(s.in).u(0).u(STORE_F32).u(s.out);
    check_refused(s.end(), right ? "" : "its names are not UTF-8");
  };
  for (const char* name : {"a", "\x7F", "\u0080", "\u07FF", "\u0800", "\uD7FF", "\uE000", "\uFFFF", "\U00010000",
                           "\U0010FFFF", "conv\u00E91"}) {
    check(name, true);
  }
  for (const char* name :
       {"\x80", "\xBF", "\xC0\x80", "\xC1\xBF", "\xC2", "\xC2z", "\xC2\xC0", "\xE0\x9F\xBF", "\xE1\x80", "\xED\xA0\x80",
        "\xED\xBF\xBF", "\xF0\x8F\xBF\xBF", "\xF1\x80\x80", "\xF4\x90\x80\x80", "\xF8\x88\x80\x80\x80", "\xFF"}) {
    check(name, false);
  }
}

TEST(engine_refuses_parts_that_are_not_one_after_the_other) {
  const std::vector<uint8_t> file = sample_network(8).file();
  uint64_t strings, size, data;
  std::memcpy(&strings, file.data() + 88, 8);
  std::memcpy(&size, file.data() + 96, 8);
  std::memcpy(&data, file.data() + 104, 8);
  check_refused(with<uint8_t>(file, data - 1, 1), "the bytes before its part 'data' are not 0");
  check_refused(with<uint8_t>(file, strings + size, 1), "the bytes before its part 'data' are not 0");
  check_refused(with<uint64_t>(file, 96, size - 1), "do not begin and end with a 0 byte");
  check_refused(with<uint64_t>(file, 104, data + 64), "its part 'data' begins at");
  check_refused(with<uint8_t>(file, 128 + 24, 1), "input 'image': its record has numbers that must be 0");
  check_refused(with<uint8_t>(file, 128 + 39, 1), "input 'image': its record has numbers that must be 0");
  check_refused(with<uint32_t>(with<uint32_t>(with<uint32_t>(file, 128 + 8, 1), 128 + 12, 1), 128 + 16, 1u << 31),
                "input 'image': it has more than 2147483647 numbers");
}

TEST(engine_maps_files_and_says_which_one_is_bad) {
  const std::string path = "/tmp/bmx_test_engine." + std::to_string(getpid()) + ".bmx";
  const auto message = [&] {
    try {
      Model::load(path);
    } catch (const std::runtime_error& e) {
      return std::string(e.what());
    }
    return std::string();
  };
  const auto write = [&](const std::vector<uint8_t>& bytes) {
    std::ofstream(path, std::ios::binary).write(reinterpret_cast<const char*>(bytes.data()), int64_t(bytes.size()));
  };
  CHECK(message() == path + ": cannot be read: No such file or directory", message());
  write({});
  CHECK(message() == path + ": cannot be read: it is empty", message());
  write({1, 2, 3});
  CHECK(message() == path + ": not a .bmx file", message());
  const std::vector<uint8_t> file = sample_network().file();
  write(file);
  const auto mapped = Model::load(path), copied = Model::copy(file.data(), file.size());
  std::remove(path.c_str());  // the mapping stays
  Session a(mapped, 1), b(copied, 1);
  Random random(9);
  const Arrays x = images(*mapped, 1, &random);
  CHECK(same(run(&a, x, 1), run(&b, x, 1)), "from a file and from memory");
}

}  // namespace
