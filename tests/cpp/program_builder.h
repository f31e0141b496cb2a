// Writes .bmx files, for tests, as docs/format.md has them and as plainly as can be.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

namespace test {

enum Kind : uint32_t { LOAD = 1, STORE, FILL, CONV, DEPTHWISE, POOL, POOL_BITS, MAP, SOFTMAX, COPY };
enum Type : uint32_t { F32 = 0, BIT = 1, U8 = 2 };
enum Op : uint32_t { AFFINE = 1, ADD, MULTIPLY, PRELU, CLIP, FUNCTION, NORM };
enum Stores : uint32_t { STORE_F32 = 1, STORE_BITS = 2, STORE_U8 = 4, STORE_COUNT_BITS = 8 };
constexpr uint32_t kAbsent = 0xFFFFFFFF;

inline uint32_t bits_of(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  return bits;
}

// Numbers of any size, little-endian, one after the other.
class Writer {
 public:
  template <class T>
  Writer& put(T value) {
    const auto* bytes = reinterpret_cast<const uint8_t*>(&value);
    bytes_.insert(bytes_.end(), bytes, bytes + sizeof(T));
    return *this;
  }
  Writer& pad(size_t multiple) {
    while (bytes_.size() % multiple != 0) bytes_.push_back(0);
    return *this;
  }
  Writer& append(const std::vector<uint8_t>& more) {
    bytes_.insert(bytes_.end(), more.begin(), more.end());
    return *this;
  }
  size_t size() const { return bytes_.size(); }
  std::vector<uint8_t>& bytes() { return bytes_; }

 private:
  std::vector<uint8_t> bytes_;
};

// The checksum, a byte at a time.
inline uint32_t slow_crc32(const uint8_t* data, size_t size) {
  static const std::vector<uint32_t> table = [] {
    std::vector<uint32_t> t(256);
    for (uint32_t i = 0; i < 256; ++i) {
      t[i] = i;
      for (int bit = 0; bit < 8; ++bit) t[i] = t[i] & 1 ? (t[i] >> 1) ^ 0xEDB88320 : t[i] >> 1;
    }
    return t;
  }();
  uint32_t crc = 0xFFFFFFFF;
  for (size_t i = 0; i < size; ++i) crc = (crc >> 8) ^ table[(crc ^ data[i]) & 255];
  return ~crc;
}

inline void fix_checksum(std::vector<uint8_t>* file) {
  if (file->size() < 32) return;
  const uint32_t crc = slow_crc32(file->data() + 32, file->size() - 32);
  std::memcpy(file->data() + 24, &crc, 4);
}

struct TensorRecord {
  uint32_t name, type;
  int32_t height, width, channels, above, left, below, right;
  uint32_t border;
  uint64_t offset, row_stride, pixel_stride;
  float scale;
  uint32_t zero_point;
  uint64_t zero;
};

struct Window {
  uint32_t kernel_h = 1, kernel_w = 1, stride_y = 1, stride_x = 1, dilate_y = 1, dilate_x = 1;
  int32_t pad_y = 0, pad_x = 0;
};

class Builder {
 public:
  Builder() { strings_.put('\0'); }

  uint32_t string(const std::string& text) {
    const auto offset = static_cast<uint32_t>(strings_.size());
    for (char c : text) strings_.put(c);
    strings_.put('\0');
    return offset;
  }

  void input(const std::string& name, const std::vector<uint32_t>& shape) { inputs_.push_back(array(name, shape)); }
  void output(const std::string& name, const std::vector<uint32_t>& shape) { outputs_.push_back(array(name, shape)); }

  // A tensor behind all others in the arena, with a border of `border` pixels on all sides.
  uint32_t tensor(Type type, int height, int width, int channels, int border = 0, uint32_t holds = 0, float scale = 0,
                  uint32_t zero_point = 0) {
    const int64_t pixel = type == F32 ? 4 * channels : (type == BIT ? (channels + 63) / 64 * 8 : channels);
    const int64_t row = (width + 2 * border) * pixel / alignment(type) * alignment(type);
    TensorRecord t{};
    t.name = string("t" + std::to_string(tensors.size()));
    t.type = type;
    t.height = height, t.width = width, t.channels = channels;
    t.above = t.left = t.below = t.right = border;
    t.border = holds;
    t.offset = arena + border * row + border * pixel;
    t.row_stride = row, t.pixel_stride = pixel;
    t.scale = scale, t.zero_point = zero_point;
    arena += (row * (height + 2 * border) + 63) / 64 * 64;
    tensors.push_back(t);
    return static_cast<uint32_t>(tensors.size() - 1);
  }

  // Channels first <= c < first + channels of the pixels of another tensor.
  uint32_t slice(uint32_t of, int first, int channels) {
    TensorRecord t = tensors[of];
    t.offset += t.type == F32 ? 4 * first : (t.type == BIT ? first / 64 * 8 : first);
    t.channels = channels;
    tensors.push_back(t);
    return static_cast<uint32_t>(tensors.size() - 1);
  }

  // An array in the data; `multiple` numbers are the least it has, and zeros fill it up.
  template <class T>
  uint32_t data(std::vector<T> values, size_t multiple = 32) {
    while (values.size() % multiple != 0) values.push_back(T{});
    const auto place = static_cast<uint32_t>(data_.size() / 64);
    for (const T& value : values) data_.put(value);
    data_.pad(64);
    return place;
  }

  // A step is begun, takes fields, and ends where the next begins.
  Builder& step(Kind kind, const std::string& name = "") {
    end_step();
    step_at_ = code_.size();
    code_.put<uint32_t>(kind).put<uint32_t>(0).put(string(name.empty() ? "s" + std::to_string(steps_) : name));
    ++steps_;
    return *this;
  }
  Builder& u(uint32_t value) {
    code_.put(value);
    return *this;
  }
  Builder& f(float value) { return u(bits_of(value)); }
  Builder& window(const Window& w) {
    code_.put(w);
    return *this;
  }

  std::vector<uint8_t> file() {
    end_step();
    Writer body, tables;
    for (const auto& record : inputs_) tables.append(record);
    for (const auto& record : outputs_) tables.append(record);
    Writer records;
    for (const TensorRecord& t : tensors) records.put(t);
    const uint32_t name = string("a network");
    std::vector<uint64_t> offsets;
    Writer* parts[] = {&tables, &records, &code_, &strings_, &data_};
    for (Writer* part : parts) {
      offsets.push_back(128 + body.size());
      body.append(part->bytes()).pad(64);
    }
    Writer out;
    for (uint8_t byte : {0x89, 0x42, 0x4D, 0x58, 0x0D, 0x0A, 0x1A, 0x0A}) out.put(byte);
    out.put<uint32_t>(1).put<uint32_t>(0x01020304).put<uint64_t>(128 + body.size()).put<uint64_t>(0);
    out.put<uint64_t>(arena).put<uint32_t>(inputs_.size()).put<uint32_t>(outputs_.size()).put<uint64_t>(offsets[0]);
    out.put<uint64_t>(offsets[1]).put<uint32_t>(tensors.size()).put<uint32_t>(0);
    out.put<uint64_t>(offsets[2]).put<uint32_t>(code_.size()).put<uint32_t>(steps_);
    out.put<uint64_t>(offsets[3]).put<uint64_t>(strings_.size());
    out.put<uint64_t>(offsets[4]).put<uint64_t>(data_.size());
    out.put<uint32_t>(name).put<uint32_t>(0);
    out.append(body.bytes());
    fix_checksum(&out.bytes());
    return out.bytes();
  }

  // For tests that bend the rules.
  std::vector<TensorRecord> tensors;
  uint64_t arena = 0;

 private:
  static int64_t alignment(Type type) { return type == F32 ? 4 : (type == BIT ? 8 : 1); }

  std::vector<uint8_t> array(const std::string& name, const std::vector<uint32_t>& shape) {
    Writer record;
    record.put(string(name)).put<uint32_t>(shape.size());
    for (size_t i = 0; i < 4; ++i) record.put<uint32_t>(i < shape.size() ? shape[i] : 0);
    return record.put<uint64_t>(0).put<uint64_t>(0).bytes();
  }

  void end_step() {
    if (steps_ == 0) return;
    const auto size = static_cast<uint32_t>(code_.size() - step_at_);
    std::memcpy(code_.bytes().data() + step_at_ + 4, &size, 4);
  }

  std::vector<std::vector<uint8_t>> inputs_, outputs_;
  Writer strings_, code_, data_;
  size_t step_at_ = 0;
  uint32_t steps_ = 0;
};

// Weights of a convolution in the layout of the file, from weight(filter, channel of the group, ky, kx): -1 and 1
// (binary, and those of floats and bytes that are signs), floats, or bytes.
template <class F>
std::vector<uint8_t> pack_weights(uint32_t arithmetic, int groups, int filters, int channels, const Window& w, bool run,
                                  F weight) {
  Writer out;
  const int block = arithmetic == 0 ? 8 : 16, group_filters = filters / groups;
  const int run_taps = run ? static_cast<int>(w.kernel_w) : 1, runs_x = static_cast<int>(w.kernel_w) / run_taps;
  const int words = (channels + 63) / 64;
  for (int g = 0; g < groups; ++g) {
    for (int first = 0; first < group_filters; first += block) {
      const auto at = [&](int f, int c, int ky, int kx) {
        return first + f < group_filters ? static_cast<float>(weight(g * group_filters + first + f, c, ky, kx)) : 0.0f;
      };
      for (int ky = 0; ky < static_cast<int>(w.kernel_h); ++ky) {
        for (int r = 0; r < runs_x; ++r) {
          // Number e of a run: channel e % channels of tap r * run_taps + e / channels.
          const auto number = [&](int f, int e) {
            return e < run_taps * channels ? at(f, e % channels, ky, r * run_taps + e / channels) : 0.0f;
          };
          if (arithmetic == 0) {
            for (int word = 0; word < run_taps * words; ++word) {
              for (int f = 0; f < block; ++f) {
                uint64_t bits = 0;
                for (int b = 0; b < 64; ++b) {
                  const int c = word % words * 64 + b;
                  if (c < channels && at(f, c, ky, r * run_taps + word / words) > 0) bits |= uint64_t{1} << b;
                }
                out.put(bits);
              }
            }
          } else if (arithmetic == 1) {
            for (int e = 0; e < run_taps * channels; ++e) {
              for (int f = 0; f < block; ++f) out.put(number(f, e));
            }
          } else if (arithmetic == 3) {
            for (int e = 0; e < run_taps * channels; ++e) {
              uint16_t bits = 0;
              for (int f = 0; f < block; ++f) bits |= static_cast<uint16_t>((number(f, e) > 0) << f);
              out.put(bits);
            }
          } else if (arithmetic == 4) {
            for (int e = 0; e < run_taps * channels; e += 4) {
              uint64_t bits = 0;
              for (int i = 0; i < 4 * block; ++i) bits |= uint64_t{number(i / 4, e + i % 4) > 0} << i;
              out.put(bits);
            }
          } else {
            for (int e = 0; e < run_taps * channels; e += 4) {
              for (int f = 0; f < block; ++f) {
                for (int i = 0; i < 4; ++i) out.put(static_cast<int8_t>(number(f, e + i)));
              }
            }
          }
        }
      }
    }
  }
  return out.bytes();
}

// What the accumulators of a convolution of bytes start from.
template <class F>
std::vector<int32_t> start_of(int zero_point, int groups, int filters, int channels, const Window& w, F weight) {
  const int group_filters = filters / groups, padded = (group_filters + 31) / 32 * 32;
  std::vector<int32_t> start(groups * padded, 0);
  for (int f = 0; f < filters; ++f) {
    for (int c = 0; c < channels; ++c) {
      for (int ky = 0; ky < static_cast<int>(w.kernel_h); ++ky) {
        for (int kx = 0; kx < static_cast<int>(w.kernel_w); ++kx) {
          start[f / group_filters * padded + f % group_filters] -= zero_point * static_cast<int>(weight(f, c, ky, kx));
        }
      }
    }
  }
  return start;
}

}  // namespace test
