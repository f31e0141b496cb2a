// Data that is not what docs/format.md allows is refused: weights, and numbers of channels.
#include <cmath>

#include <functional>

#include "program_builder.h"
#include "refusals.h"
#include "sample_network.h"
#include "test.h"

namespace {

using namespace test;

// A file with a convolution of 1 x 2 taps, whose weights are the last of its data.
struct Convolution {
  uint32_t arithmetic;
  int groups, filters, channels;
  bool run;

  Type type() const { return arithmetic == 0 ? BIT : (arithmetic == 1 || arithmetic == 3 ? F32 : U8); }
  bool signs() const { return arithmetic == 0 || arithmetic > 2; }
  static Window window() {
    Window w;
    w.kernel_w = 2;
    return w;
  }
  template <class F>
  std::vector<uint8_t> weights(F weight) const {
    return pack_weights(arithmetic, groups, filters, channels / groups, window(), run, weight);
  }
  std::vector<uint8_t> file(const std::vector<uint8_t>& weights, const std::vector<int32_t>& start,
                            float all = 0) const {
    Builder b;
    const auto f = static_cast<uint32_t>(filters);
    b.input("x", {static_cast<uint32_t>(channels), 1, 2});
    b.output("y", {f});
    const uint32_t in = b.tensor(type(), 1, 2, channels, 0, 0, type() == U8 ? 1.0f : 0.0f, type() == U8 ? 7 : 0);
    const uint32_t out = b.tensor(F32, 1, 1, filters);
    b.step(CONV).u(arithmetic).u(in).window(window()).u(groups).u(f).u(run);
    const uint32_t of_start = type() == U8 ? b.data(start, 1) : kAbsent;
    b.u(b.data(weights, 1)).u(of_start).f(all).f(0).u(0).u(STORE_F32).u(out);
    b.step(STORE).u(out).u(0);
    return b.file();
  }
};

const Convolution kConvolutions[] = {
    {0, 1, 9, 70, false}, {0, 1, 8, 64, true},  {0, 2, 16, 128, false}, {1, 1, 17, 3, true},  {1, 2, 16, 6, false},
    {2, 1, 17, 3, true},  {2, 1, 16, 6, false}, {2, 2, 16, 4, false},   {2, 1, 3, 2, true},   {3, 1, 17, 3, true},
    {3, 2, 16, 6, false}, {4, 1, 17, 3, true},  {4, 1, 16, 6, false},   {4, 2, 16, 8, false},
};

// Each bit of the weights, and nothing else, may be anything if it is of a filter and of a channel.
TEST(engine_refuses_weights_with_bits_that_must_be_0) {
  for (const Convolution& c : kConvolutions) {
    const auto one = [](int, int, int, int) { return -1.0f; };
    const auto bit = [](int, int, int, int) { return 1.0f; };
    const std::vector<uint8_t> used = c.weights(one);
    std::vector<uint8_t> zeros(used.size(), 0), may_be_1 = c.signs() ? c.weights(bit) : used;
    if (c.arithmetic == 1) {  // all bits of floats that are not 0
      for (size_t i = 0; i < used.size(); ++i) may_be_1[i] = (used[i / 4 * 4 + 3] != 0) ? 0xFF : 0;
    }
    const int zero = c.signs() ? -1 : 0;
    const auto start = start_of(7, c.groups, c.filters, c.channels / c.groups, Convolution::window(),
                                [&](int, int, int, int) { return zero; });
    check_refused(c.file(zeros, start), "");
    for (size_t i = 0; i < 8 * used.size(); i += used.size() > 600 ? 5 : 1) {
      std::vector<uint8_t> weights = zeros;
      weights[i / 8] ^= static_cast<uint8_t>(1 << i % 8);
      const bool refused = refusal(c.file(weights, start)).find("weights: bits that must be 0") != std::string::npos;
      const bool used_bit = (may_be_1[i / 8] >> i % 8 & 1) != 0;
      CHECK(refused != used_bit, std::to_string(c.arithmetic) + ": bit " + std::to_string(i));
    }
  }
}

TEST(engine_refuses_starts_that_do_not_belong_to_the_weights) {
  for (const Convolution& c : kConvolutions) {
    const auto weight = [&](int f, int ch, int ky, int kx) {
      return c.signs() ? any_sign(f, ch, ky, kx) : any_weight(f, ch, ky, kx);
    };
    const auto start = start_of(7, c.groups, c.filters, c.channels / c.groups, Convolution::window(), weight);
    check_refused(c.file(c.weights(weight), start), "");
    for (size_t i = 0; i < start.size() && c.type() == U8; ++i) {
      auto other = start;
      ++other[i];
      check_refused(c.file(c.weights(weight), other), "its start does not match its weights");
    }
  }
}

TEST(engine_refuses_starts_of_what_is_not_bytes) {
  Builder b;
  b.input("x", {8, 1, 1});
  b.output("y", {8});
  const uint32_t in = b.tensor(F32, 1, 1, 8), out = b.tensor(F32, 1, 1, 8);
  b.step(CONV).u(1).u(in).window(Window()).u(1).u(8).u(0).u(b.data(std::vector<float>(8 * 16, 0.0f)));
  b.u(b.data(std::vector<int32_t>(32, 0))).f(0).f(0).u(0).u(STORE_F32).u(out);
  b.step(STORE).u(out).u(0);
  check_refused(b.file(), "it has a start; only convolutions of bytes have one");
}

TEST(engine_refuses_sums_that_32_bits_do_not_hold) {
  // 255 times the absolute weights of a filter: 8421504 is the largest sum below 2^31.
  const int channels = (8421504 + 2 * 127 - 1) / (2 * 127);
  for (int last : {2 * 127 * channels - 8421504, 2 * 127 * channels - 8421504 - 1}) {
    const Convolution c{2, 1, 1, channels, true};
    const auto weight = [&](int, int ch, int, int kx) {
      return ch == channels - 1 && kx == 1 ? -(127 - last) : ((ch + kx) % 3 == 0 ? 127 : -127);
    };
    const auto start = start_of(7, 1, 1, channels, Convolution::window(), weight);
    const bool fits = last == 2 * 127 * channels - 8421504;
    check_refused(c.file(c.weights(weight), start), fits ? "" : "its sums may not fit 32 bits");
  }
}

TEST(engine_refuses_more_signs_than_32_bits_hold) {
  for (int channels : {8421504 / 2, 8421504 / 2 + 1}) {
    const Convolution c{4, 1, 1, channels, true};
    const std::vector<uint8_t> minus_ones((2 * channels + 3) / 4 * 8, 0);
    std::vector<int32_t> start(32, 0);
    start[0] = 7 * 2 * channels;
    check_refused(c.file(minus_ones, start), 2 * channels == 8421504 ? "" : "its sums may not fit 32 bits");
  }
}

TEST(engine_refuses_all_and_step_that_mean_nothing) {
  for (const Convolution& c : kConvolutions) {
    const auto weight = [&](int f, int ch, int ky, int kx) { return any_sign(f, ch, ky, kx); };
    const auto start = start_of(7, c.groups, c.filters, c.channels / c.groups, Convolution::window(), weight);
    for (float all : {1.0f, std::nanf(""), HUGE_VALF}) {
      const bool binary = c.arithmetic == 0;
      check_refused(c.file(c.weights(weight), start, all), !binary       ? "only binary convolutions have all and step"
                                                           : all == 1.0f ? ""
                                                                         : "all and step must be finite");
    }
  }
}

// Numbers and bits of channels: 5 there are, the rest is 0.
TEST(engine_refuses_numbers_beyond_the_channels) {
  const auto check = [](Type type, const std::function<void(Builder&, uint32_t, uint32_t, uint32_t)>& step, bool last,
                        size_t bytes, size_t used, const std::string& what) {
    for (size_t bit = 0; bit < 8 * bytes; ++bit) {
      Builder b;
      b.input("x", {5, 1, 1});
      b.output("y", {5});
      const uint32_t in = b.tensor(type, 1, 1, 5), out = b.tensor(last ? BIT : F32, 1, 1, 5),
                     y = b.tensor(F32, 1, 1, 5);
      std::vector<uint8_t> values(bytes, 0);
      values[bit / 8] = static_cast<uint8_t>(1 << bit % 8);
      step(b, in, out, b.data(values, 1));
      b.step(STORE).u(y).u(0);
      check_refused(b.file(), bit < used ? "" : what + ": bits that must be 0 are not");
    }
  };
  const std::vector<float> zeros(32, 0.0f);
  const auto operation = [&](Op op, size_t arrays, size_t which) {
    return [=](Builder& b, uint32_t in, uint32_t out, uint32_t data) {
      const uint32_t others = b.data(zeros);
      b.step(MAP).u(in).u(1).u(op);
      for (size_t i = 0; i < arrays; ++i) b.u(i == which ? data : others);
      b.u(STORE_F32).u(out);
    };
  };
  check(F32, operation(AFFINE, 2, 0), false, 128, 160, "scale");
  check(F32, operation(AFFINE, 2, 1), false, 128, 160, "bias");
  check(F32, operation(PRELU, 1, 0), false, 128, 160, "slope");
  check(F32, operation(NORM, 3, 0), false, 128, 160, "mean");
  check(F32, operation(NORM, 3, 1), false, 128, 160, "scale");
  check(F32, operation(NORM, 3, 2), false, 128, 160, "bias");
  const auto threshold = [&](Builder& b, uint32_t in, uint32_t out, uint32_t data) {
    b.step(MAP).u(in).u(0).u(STORE_BITS).u(out).u(data).u(b.data(zeros));
  };
  check(F32, threshold, true, 128, 160, "threshold");
  const auto flips = [](Builder& b, uint32_t in, uint32_t out, uint32_t data) {
    b.step(POOL_BITS).u(in).u(out).window(Window()).u(data);
  };
  check(BIT, flips, true, 8, 5, "flips");
  const auto counts = [&](bool of_flips) {
    return [=](Builder& b, uint32_t in, uint32_t out, uint32_t data) {
      const uint32_t weights = b.data(std::vector<uint8_t>(64, 0), 64), others = b.data(zeros);
      b.step(CONV).u(0).u(in).window(Window()).u(1).u(5).u(1).u(weights).u(kAbsent).f(0).f(0).u(0);
      b.u(STORE_COUNT_BITS).u(out).u(of_flips ? others : data).u(of_flips ? data : others);
    };
  };
  check(BIT, counts(false), true, 128, 160, "threshold");
  check(BIT, counts(true), true, 64, 5, "flip");
  const auto depthwise = [](Builder& b, uint32_t in, uint32_t out, uint32_t data) {
    b.step(DEPTHWISE).u(in).window(Window()).u(data).u(0).u(STORE_F32).u(out);
  };
  check(F32, depthwise, false, 128, 160, "weights");
}

TEST(engine_refuses_signs_with_other_bits) {
  for (uint32_t bit = 0; bit < 32; ++bit) {
    for (uint32_t channel : {0u, 4u, 5u}) {
      Builder b;
      b.input("x", {5, 1, 1});
      b.output("y", {5});
      const uint32_t in = b.tensor(F32, 1, 1, 5), out = b.tensor(BIT, 1, 1, 5);
      std::vector<uint32_t> signs(32, 0);
      signs[channel] = 1u << bit;
      b.step(MAP).u(in).u(0).u(STORE_BITS).u(out).u(b.data(std::vector<float>(32, 0.0f))).u(b.data(signs));
      b.step(STORE).u(in).u(0);
      check_refused(b.file(), bit == 31 && channel < 5 ? "" : "sign: bits that must be 0 are not");
    }
  }
}

}  // namespace
