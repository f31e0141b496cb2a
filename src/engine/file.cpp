// The header and the tables of a file; its steps are read by step_reader.cpp.
#include "engine/file.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <set>

#include "engine/checked.h"
#include "engine/crc32.h"
#include "engine/step_reader.h"

namespace bmx::engine {
namespace {

constexpr uint8_t kMagic[8] = {0x89, 'B', 'M', 'X', '\r', '\n', 0x1A, '\n'};
constexpr uint32_t kVersion = 1, kByteOrder = 0x01020304, kOtherByteOrder = 0x04030201;
constexpr size_t kChecked = 32;  // the checksum covers the bytes from here on
constexpr int64_t kAlignment = 64;
constexpr int64_t kLargestArena = int64_t{sizeof(void*) > 4 ? 16 : 1} << 30;
constexpr int64_t kLargestArray = 0x7FFFFFFF;  // numbers of an input or output

constexpr const char* kNotZero = "its record has numbers that must be 0";

struct Header {
  uint8_t magic[8];
  uint32_t version, byte_order;
  uint64_t size;
  uint32_t crc, zero0;
  uint64_t arena;
  uint32_t inputs, outputs;
  uint64_t arrays_offset;
  uint64_t tensors_offset;
  uint32_t tensors, zero1;
  uint64_t code_offset;
  uint32_t code_size, steps;
  uint64_t strings_offset, strings_size;
  uint64_t data_offset, data_size;
  uint32_t name, zero2;
};
static_assert(sizeof(Header) == 128);

struct ArrayRecord {
  uint32_t name, dims, shape[4];
  uint8_t zero[16];
};
static_assert(sizeof(ArrayRecord) == 40);

struct TensorRecord {
  uint32_t name, type;
  int32_t height, width, channels, above, left, below, right;
  uint32_t border;
  uint64_t offset, row_stride, pixel_stride;
  float scale;
  uint32_t zero_point;
  uint8_t zero[8];
};
static_assert(sizeof(TensorRecord) == 80);

template <class T>
T read(const uint8_t* from) {
  T value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}

std::string text(uint64_t number) { return std::to_string(number); }

Header read_header(const uint8_t* bytes, size_t size) {
  const uint16_t one = 1;
  if (read<uint8_t>(reinterpret_cast<const uint8_t*>(&one)) != 1) {
    throw Refusal("this machine is big-endian; bmx runs on little-endian ones");
  }
  if (size < sizeof(kMagic) || std::memcmp(bytes, kMagic, sizeof(kMagic)) != 0) throw Refusal("not a .bmx file");
  if (size < sizeof(Header)) throw Refusal("truncated: it ends within its header");
  const auto h = read<Header>(bytes);
  if (h.byte_order == kOtherByteOrder) throw Refusal("its numbers are big-endian; .bmx files are little-endian");
  if (h.byte_order != kByteOrder) throw Refusal("damaged: its byte order mark is wrong");
  if (h.version != kVersion) {
    throw Refusal("version " + text(h.version) + " of the format; this library reads version " + text(kVersion) +
                  ": compile the network again, or use the bmx that made the file");
  }
  if (h.size != size) {
    throw Refusal((size < h.size ? "truncated: it has " : "damaged: it has ") + text(size) + " bytes instead of " +
                  text(h.size));
  }
  if (h.crc != crc32(bytes + kChecked, size - kChecked)) throw Refusal("damaged: its checksum is wrong");
  if (h.zero0 != 0 || h.zero1 != 0 || h.zero2 != 0) throw Refusal("damaged: its header has numbers that must be 0");
  return h;
}

// The parts follow each other, with zeros up to the alignment between them, and the last part ends the file.
void check_parts(const Header& h, const uint8_t* bytes, size_t size) {
  struct Part {
    const char* name;
    uint64_t offset;
    int64_t size;
  };
  const Part parts[] = {
      {"inputs and outputs", h.arrays_offset, plus(h.inputs, h.outputs) * int64_t{sizeof(ArrayRecord)}},
      {"tensors", h.tensors_offset, h.tensors * int64_t{sizeof(TensorRecord)}},
      {"code", h.code_offset, h.code_size},
      {"strings", h.strings_offset, static_cast<int64_t>(std::min<uint64_t>(h.strings_size, kHuge))},
      {"data", h.data_offset, static_cast<int64_t>(std::min<uint64_t>(h.data_size, kHuge))},
  };
  int64_t at = sizeof(Header);
  for (const Part& part : parts) {
    const int64_t end = at;
    at = round_up(at, kAlignment);
    if (part.offset != static_cast<uint64_t>(at)) {
      throw Refusal("its part '" + std::string(part.name) + "' begins at " + text(part.offset) + " instead of " +
                    text(at));
    }
    if (!all_zero(bytes + end, std::min<int64_t>(at, size) - end)) {
      throw Refusal("the bytes before its part '" + std::string(part.name) + "' are not 0");
    }
    at = plus(at, part.size);
    if (at > static_cast<int64_t>(size)) throw Refusal("its part '" + std::string(part.name) + "' is too large");
  }
  if (at != static_cast<int64_t>(size) || h.data_size % kAlignment != 0) {
    throw Refusal("its data must end with the file, at a multiple of " + text(kAlignment));
  }
  if (h.arena % kAlignment != 0 || h.arena > uint64_t{kLargestArena}) {
    throw Refusal("its arena has " + text(h.arena) + " bytes; it must be a multiple of " + text(kAlignment) +
                  " up to " + text(kLargestArena));
  }
}

Array read_array(const uint8_t* from, const char* what, const Strings& strings) {
  const auto r = read<ArrayRecord>(from);
  Array array;
  array.name = strings.at(r.name);
  const std::string name = what + (" '" + std::string(array.name)) + "': ";
  if (r.dims > 4) throw Refusal(name + text(r.dims) + " dimensions; it must have 0 to 4");
  array.dims = static_cast<int>(r.dims);
  array.size = 1;
  for (uint32_t i = 0; i < 4; ++i) {
    if ((r.shape[i] == 0) != (i >= r.dims)) throw Refusal(name + "its size " + text(i) + " is " + text(r.shape[i]));
    array.shape[i] = r.shape[i];
    if (i < r.dims) array.size = times(array.size, r.shape[i]);
  }
  if (array.size > kLargestArray) throw Refusal(name + "it has more than " + text(kLargestArray) + " numbers");
  if (!all_zero(r.zero, sizeof(r.zero))) throw Refusal(name + kNotZero);
  return array;
}

std::vector<Array> read_arrays(const uint8_t* from, uint32_t count, const char* what, const Strings& strings) {
  std::vector<Array> arrays;
  std::set<std::string> names;
  for (uint32_t i = 0; i < count; ++i) {
    arrays.push_back(read_array(from + i * sizeof(ArrayRecord), what, strings));
    if (!names.insert(arrays.back().name).second) {
      throw Refusal("two " + std::string(what) + "s have the name '" + arrays.back().name + "'");
    }
  }
  return arrays;
}

// A tensor lies within the arena with its border, and its image pixels overlap neither each other nor the border.
void check_place(const Tensor& t, uint64_t offset, uint64_t row_stride, uint64_t pixel_stride, int64_t arena) {
  const int alignment = t.type == nhwc::Type::kF32 ? 4 : (t.type == nhwc::Type::kBit ? 8 : 1);
  if (offset % alignment != 0 || row_stride % alignment != 0 || pixel_stride % alignment != 0) {
    throw Refusal("its offset and strides must be multiples of " + text(alignment));
  }
  const auto limit = static_cast<uint64_t>(arena);
  if (offset > limit || row_stride > limit || pixel_stride > limit) throw Refusal("it is not within the arena");
  const auto row = static_cast<int64_t>(row_stride), pixel = static_cast<int64_t>(pixel_stride);
  const int64_t before = plus(times(t.above, row), times(t.left, pixel));
  const int64_t rows_after = plus(t.height, t.below) - 1, columns_after = plus(t.width, t.right) - 1;
  const int64_t end =
      plus(static_cast<int64_t>(offset), times(rows_after, row), times(columns_after, pixel), t.pixel_bytes());
  if (before > static_cast<int64_t>(offset) || end > arena) throw Refusal("it is not within the arena");
  if (pixel < t.pixel_bytes()) throw Refusal("its pixels overlap");
  const bool one_row = t.above + rows_after == 0;
  const int64_t beside = one_row ? 0 : std::max(t.left, t.right);  // border of the next or the previous row
  const int64_t row_bytes = plus(times(plus(t.width, beside) - 1, pixel), t.pixel_bytes());
  if (row < row_bytes || row < times(t.width, pixel)) throw Refusal("its rows overlap");
  // Two rows may share border columns: both fill them with the same bytes.
  const bool shared = t.left + t.right > 0 && row < times(plus(t.left, t.width, t.right), pixel);
  if (!one_row && shared && row % pixel != 0) throw Refusal("its rows' borders overlap");
}

Tensor read_tensor(const uint8_t* from, int64_t arena, const Strings& strings) {
  const auto r = read<TensorRecord>(from);
  Tensor t;
  t.name = strings.at(r.name);
  try {
    if (r.type > 2) throw Refusal("type " + text(r.type) + "; it must be 0, 1 or 2");
    t.type = static_cast<nhwc::Type>(r.type);
    if (std::min({r.height, r.width, r.channels}) < 1) throw Refusal("its sizes must be 1 or more");
    if (std::min({r.above, r.left, r.below, r.right}) < 0) throw Refusal("its border must be 0 or more");
    if (std::max({r.height, r.width, r.channels, r.above, r.left, r.below, r.right}) > kLargestSize) {
      throw Refusal("its sizes must be " + text(kLargestSize) + " or less");
    }
    t.height = r.height, t.width = r.width, t.channels = r.channels;
    t.above = r.above, t.left = r.left, t.below = r.below, t.right = r.right;
    const uint32_t highest = t.type == nhwc::Type::kU8 ? 255 : (t.type == nhwc::Type::kBit ? 1 : 0);
    if (r.border > highest) throw Refusal("its border holds " + text(r.border) + ", which its type cannot hold");
    t.border = r.border;
    check_place(t, r.offset, r.row_stride, r.pixel_stride, arena);
    t.offset = static_cast<int64_t>(r.offset);
    t.row_stride = static_cast<int64_t>(r.row_stride), t.pixel_stride = static_cast<int64_t>(r.pixel_stride);
    if (t.type == nhwc::Type::kU8 ? !(r.scale > 0 && std::isfinite(r.scale)) : r.scale != 0) {
      throw Refusal("its scale is " + real(r.scale) + "; it must be positive and finite for u8, and 0 for other types");
    }
    if (r.zero_point > (t.type == nhwc::Type::kU8 ? 255u : 0u)) {
      throw Refusal("its zero point is " + text(r.zero_point));
    }
    if (!all_zero(r.zero, sizeof(r.zero))) throw Refusal(kNotZero);
    t.scale = r.scale;
    t.zero_point = static_cast<int32_t>(r.zero_point);
  } catch (const Refusal& refusal) {
    throw Refusal("tensor '" + std::string(t.name) + "': " + refusal.what());
  }
  return t;
}

}  // namespace

std::string real(float number) {
  std::array<char, 32> digits{};
  std::snprintf(digits.data(), digits.size(), "%.9g", static_cast<double>(number));
  return digits.data();
}

Program read_program(const uint8_t* bytes, size_t size) {
  const Header h = read_header(bytes, size);
  check_parts(h, bytes, size);
  const Strings strings(bytes + h.strings_offset, h.strings_size);
  Program program;
  program.name = strings.at(h.name);
  program.arena = static_cast<int64_t>(h.arena);
  if (h.outputs == 0) throw Refusal("it has no outputs");
  const uint8_t* arrays = bytes + h.arrays_offset;
  program.inputs = read_arrays(arrays, h.inputs, "input", strings);
  program.outputs = read_arrays(arrays + h.inputs * sizeof(ArrayRecord), h.outputs, "output", strings);
  for (uint32_t i = 0; i < h.tensors; ++i) {
    const uint8_t* from = bytes + h.tensors_offset + i * sizeof(TensorRecord);
    program.tensors.push_back(read_tensor(from, program.arena, strings));
  }
  read_steps({bytes + h.code_offset, h.code_size}, h.steps, strings,
             {bytes + h.data_offset, static_cast<size_t>(h.data_size)}, &program);
  return program;
}

}  // namespace bmx::engine
