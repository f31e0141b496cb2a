// One model in many threads, each with a session of its own, and many threads in one session. `make sanitize` runs the
// tests named concurrent_ under ThreadSanitizer.
#include <sys/wait.h>
#include <unistd.h>

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
TEST(concurrent_threads_share_images_and_the_steps_of_an_image) {
  const std::vector<uint8_t> file = sample_network(128).file();
  const auto model = Model::copy(file.data(), file.size());
  Random random(8);
  for (const int threads : {2, 3, 7}) {
    Session alone(model, 1), together(model, threads);
    for (const int64_t batch : {1, 3, 7, 1, 20}) {
      const Arrays inputs = images(*model, batch, &random), expected = run(&alone, inputs, batch);
      const std::string what = std::to_string(threads) + " threads, batch " + std::to_string(batch);
      CHECK(same(run(&together, inputs, batch), expected), what);
      together.profile(true);
      CHECK(same(run(&together, inputs, batch), expected), what + ", measured");
      together.profile(false);
    }
  }
}

TEST(concurrent_sessions_have_threads_of_their_own) {
  const std::vector<uint8_t> file = sample_network(128).file();
  const auto model = Model::copy(file.data(), file.size());
  Random random(9);
  const Arrays inputs = images(*model, 5, &random);
  Session alone(model, 1);
  const Arrays expected = run(&alone, inputs, 5);
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back([&] {
      for (int n = 0; n < 4; ++n) {
        Session session(model, 3);
        for (int repeat = 0; repeat < 3; ++repeat) wrong += !same(run(&session, inputs, 5), expected);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0, std::to_string(wrong) + " runs");
}

#ifdef TEST_FORKS
// A fork has none of the threads of the process that it was made from.
TEST(sessions_run_and_end_in_a_fork) {
  const std::vector<uint8_t> file = sample_network().file();
  const auto model = Model::copy(file.data(), file.size());
  Random random(10);
  const Arrays inputs = images(*model, 5, &random);
  Session session(model, 3);
  auto other = std::make_unique<Session>(model, 3);
  const Arrays expected = run(&session, inputs, 5);
  run(other.get(), inputs, 5);
  const pid_t child = fork();
  if (child == 0) {
    other.reset();
    const bool right = same(run(&session, inputs, 5), expected) && same(run(&session, inputs, 5), expected);
    _exit(right ? 0 : 1);
  }
  int status = -1;
  CHECK(child > 0 && waitpid(child, &status, 0) == child, "fork");
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status " + std::to_string(status));
  CHECK(same(run(&session, inputs, 5), expected), "in the parent");
}
#endif

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
