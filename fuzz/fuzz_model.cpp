// A libFuzzer target: whatever a .bmx file says, reading it ends with a model or a refusal, and running that model
// stays in its memory; so does running its steps in the shares that threads have, which gives the same bits, but for
// those of NaN. Sizes and checksums are put right here, so that the fuzzer gets behind them. `make fuzz` runs it.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <random>
#include <stdexcept>
#include <vector>

#include "engine/crc32.h"
#include "engine/model.h"
#include "engine/session.h"

namespace {

using bmx::engine::Arena;
using bmx::engine::Array;
using bmx::engine::Model;
using bmx::engine::Program;
using bmx::engine::Session;

constexpr int64_t kLargest = 1 << 20;   // numbers of arrays, bytes of arenas
constexpr int64_t kMostMacs = 1 << 24;  // that take no second even under sanitizers
constexpr int kThreads = 3;             // whose shares these are: they run one after the other
constexpr size_t kSizeAt = 16, kCrcAt = 24, kChecked = 32;

int64_t numbers(const std::vector<Array>& arrays) {
  int64_t sum = 0;
  for (const Array& array : arrays) sum += std::min(array.size, kLargest + 1);
  return sum;
}

bool small(const Program& program) {
  int64_t macs = 0;
  for (const auto& step : program.steps) macs += std::min(step.macs, kMostMacs + 1);
  return macs <= kMostMacs && program.arena <= kLargest &&
         std::max(numbers(program.inputs), numbers(program.outputs)) <= kLargest;
}

// Which of several NaN comes out of a product is up to the compiler.
bool same(float a, float b) { return std::memcmp(&a, &b, sizeof(float)) == 0 || (std::isnan(a) && std::isnan(b)); }

void run(const std::shared_ptr<const Model>& model) {
  const Program& program = model->program();
  // Each array has its own memory, so that AddressSanitizer sees where it ends.
  std::vector<std::vector<float>> inputs, outputs;
  std::vector<const float*> in;
  std::vector<float*> out;
  for (const Array& array : program.inputs) inputs.emplace_back(array.size, 0.0f);
  for (const Array& array : program.outputs) outputs.emplace_back(array.size);
  for (const auto& values : inputs) in.push_back(values.data());
  for (auto& values : outputs) out.push_back(values.data());
  const bmx::engine::Images images{in.data(), out.data()};
  Session(model, 1).run(1, images);
  const std::vector<std::vector<float>> expected = outputs;
  const Arena arena(program, -1);
  bmx::Buffer<uint8_t> scratch(static_cast<size_t>(arena.scratch()));
  for (size_t i = 0; i < program.steps.size(); ++i) {
    for (const auto& share : shares_of(program, program.steps[i], kThreads)) {
      arena.step(i).run(share, images, 0, scratch.get());
    }
  }
  for (size_t i = 0; i < outputs.size(); ++i) {
    if (!std::equal(outputs[i].begin(), outputs[i].end(), expected[i].begin(), same)) std::abort();
  }
}

uint64_t data_offset(const uint8_t* file, size_t size) {
  constexpr size_t kDataOffsetAt = 104;
  uint64_t offset = 0;
  if (size >= kDataOffsetAt + sizeof(offset)) std::memcpy(&offset, file + kDataOffsetAt, sizeof(offset));
  return std::min<uint64_t>(offset, size);
}

}  // namespace

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

// Every second time one of the file's numbers becomes another one of them, or its neighbour: what is behind it stays in
// its place, so that much of the file goes on making sense.
extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size, unsigned int seed) {
  std::minstd_rand random(seed);
  const uint64_t words = data_offset(data, size) / sizeof(uint32_t);
  if (words <= kChecked / sizeof(uint32_t) || random() % 2 == 0) return LLVMFuzzerMutate(data, size, max_size);
  const auto any = [&] { return data + (8 + random() % (words - 8)) * sizeof(uint32_t); };
  uint32_t value;
  std::memcpy(&value, any(), sizeof(value));
  uint8_t* const place = any();
  switch (random() % 4) {
    case 0:
      std::memcpy(&value, place, sizeof(value)), ++value;
      break;
    case 1:
      std::memcpy(&value, place, sizeof(value)), --value;
      break;
    case 2:
      value = static_cast<uint32_t>(random()) >> random() % 32;
      break;
    default:
      break;
  }
  std::memcpy(place, &value, sizeof(value));
  return size;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::vector<uint8_t> file(data, data + size);
  if (size > kChecked) {
    const uint64_t whole = size;
    std::memcpy(file.data() + kSizeAt, &whole, sizeof(whole));
    const uint32_t crc = bmx::engine::crc32(file.data() + kChecked, size - kChecked);
    std::memcpy(file.data() + kCrcAt, &crc, sizeof(crc));
  }
  std::shared_ptr<const Model> model;
  try {
    model = Model::copy(file.data(), file.size());
  } catch (const std::runtime_error&) {
    return 0;
  }
  if (small(model->program())) run(model);
  return 0;
}
