// Runs files in the engine, for tests: images of any number of inputs, in every way that must give the same numbers.
#pragma once

#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "engine/model.h"
#include "engine/session.h"
#include "test.h"

namespace test {

using Arrays = std::vector<std::vector<float>>;

inline Arrays run(bmx::engine::Session* session, const Arrays& inputs, int64_t batch) {
  Arrays outputs;
  std::vector<const float*> in;
  std::vector<float*> out;
  for (const auto& array : session->model().program().outputs) outputs.emplace_back(array.size * batch, -12345.0f);
  for (const auto& values : inputs) in.push_back(values.data());
  for (auto& values : outputs) out.push_back(values.data());
  session->run(batch, {in.data(), out.data()});
  return outputs;
}

inline bool same(const Arrays& a, const Arrays& b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i) {
    if (a[i].size() != b[i].size() || std::memcmp(a[i].data(), b[i].data(), 4 * a[i].size()) != 0) return false;
  }
  return true;
}

// Random images for a model.
inline Arrays images(const bmx::engine::Model& model, int64_t batch, Random* random) {
  Arrays inputs;
  for (const auto& array : model.program().inputs) inputs.push_back(random->values(array.size * batch));
  return inputs;
}

// The outputs for a batch, which must be the same whatever was in the arena, however many threads share the work, and
// one image at a time.
inline Arrays run_everywhere(const std::vector<uint8_t>& file, const Arrays& inputs, int64_t batch) {
  const auto model = bmx::engine::Model::copy(file.data(), file.size());
  bmx::engine::Session first(model, 1);
  const Arrays expected = run(&first, inputs, batch);
  for (const char* poison : {"", "255"}) {
    setenv("BMX_POISON", poison, 1);
    for (int threads : {1, 2, 3}) {
      bmx::engine::Session session(model, threads);
      const std::string how = std::to_string(threads) + " threads, poison " + poison;
      CHECK(same(run(&session, inputs, batch), expected), how);
      session.profile(true);
      CHECK(same(run(&session, inputs, batch), expected), how + ", measured");
      for (int64_t image = 0; image < batch; ++image) {
        Arrays one;
        for (const auto& values : inputs) {
          const size_t size = values.size() / batch;
          one.emplace_back(values.begin() + image * size, values.begin() + (image + 1) * size);
        }
        const Arrays outputs = run(&session, one, 1);
        for (size_t i = 0; i < outputs.size(); ++i) {
          const float* part = expected[i].data() + image * outputs[i].size();
          CHECK(std::memcmp(outputs[i].data(), part, 4 * outputs[i].size()) == 0, how + ", one image");
        }
      }
    }
  }
  unsetenv("BMX_POISON");
  return expected;
}

}  // namespace test
