// One model in many threads, each with a session of its own. `make sanitize` runs these tests under ThreadSanitizer,
// which does not know OpenMP: here sessions have one thread, or threads of these tests.
#include <algorithm>
#include <atomic>
#include <stdexcept>
#include <thread>

#include "engine_run.h"
#include "sample_network.h"
#include "test.h"

namespace {

using namespace test;
using bmx::engine::Model;
using bmx::engine::Session;

TEST(concurrent_sessions_share_a_model) {
  const std::vector<uint8_t> file = sample_network().file();
  auto model = Model::copy(file.data(), file.size());
  constexpr int kThreads = 4, kRuns = 20;
  Random random(7);
  std::vector<Arrays> inputs, expected;
  for (int i = 0; i < kThreads; ++i) {
    inputs.push_back(images(*model, 2, &random));
    Session session(model, 1);
    expected.push_back(run(&session, inputs[i], 2));
  }
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i, own = model] {
      for (int n = 0; n < kRuns; ++n) {
        Session session(own, 1);
        for (int repeat = 0; repeat < 3; ++repeat) wrong += !same(run(&session, inputs[i], 2), expected[i]);
      }
    });
  }
  model.reset();  // sessions keep it
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0, std::to_string(wrong) + " runs");
}

// The steps between two barriers must not touch each other's tensors. (With other numbers of channels kernels read, but
// do not use, numbers of the next pixel, which ThreadSanitizer cannot know.)
TEST(concurrent_threads_share_the_steps_of_an_image) {
  const std::vector<uint8_t> file = sample_network(128).file();
  const auto model = Model::copy(file.data(), file.size());
  Random random(8);
  for (const int64_t batch : {1, 3, 4}) {
    const Arrays inputs = images(*model, batch, &random);
    Session alone(model, 1), together(model, 3);
    const Arrays expected = run(&alone, inputs, batch);
    Arrays outputs = expected;
    for (auto& values : outputs) std::fill(values.begin(), values.end(), 0.0f);
    const float* in[] = {inputs[0].data(), inputs[1].data()};
    float* out[] = {outputs[0].data(), outputs[1].data()};
    together.prepare(batch);
    std::vector<std::thread> threads;
    for (int i = 0; i < 3; ++i) threads.emplace_back([&, i] { together.take_part(batch, {in, out}, i, 3); });
    for (std::thread& thread : threads) thread.join();
    CHECK(same(outputs, expected), "batch " + std::to_string(batch));
  }
}

TEST(concurrent_loads_of_models) {
  const std::vector<uint8_t> file = sample_network(8).file();
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int n = 0; n < 20; ++n) Model::copy(file.data(), file.size());
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(concurrent_runs_of_one_session_are_refused) {
  const std::vector<uint8_t> file = sample_network().file();
  const auto model = Model::copy(file.data(), file.size());
  Session session(model, 1);
  Random random(7);
  const Arrays inputs = images(*model, 1, &random), expected = run(&session, inputs, 1);
  std::atomic<int> refused{0}, wrong{0};
  const auto work = [&] {
    for (int n = 0; n < 200; ++n) {
      try {
        wrong += !same(run(&session, inputs, 1), expected);
      } catch (const std::runtime_error&) {
        ++refused;
      }
    }
  };
  std::thread other(work);
  work();
  other.join();
  CHECK(wrong == 0, std::to_string(wrong) + " runs, " + std::to_string(refused) + " refused");
}

}  // namespace
