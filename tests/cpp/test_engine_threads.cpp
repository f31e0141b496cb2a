// One model in many threads, each with a session of its own, and many threads in one session. `make sanitize` runs the
// tests named concurrent_ under ThreadSanitizer.
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <stdexcept>
#include <thread>

#include "engine/stages.h"
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

// One part after the other, in any order in which each comes behind those that it waits for or needs.
std::vector<std::pair<int, int>> any_order(const bmx::engine::Crew::Job& job, Random* random) {
  std::vector<std::pair<int, int>> order, left;
  std::vector<std::vector<bool>> done;
  for (int stage = 0; stage < static_cast<int>(job.size()); ++stage) {
    done.emplace_back(job[stage].parts, false);
    for (int part = 0; part < job[stage].parts; ++part) left.emplace_back(stage, part);
  }
  const auto all_done = [&](int stage, int first, int last) {
    return std::all_of(done[stage].begin() + first, done[stage].begin() + last, [](bool is) { return is; });
  };
  const auto ready = [&](std::pair<int, int> p) {
    const bmx::engine::Crew::Stage& stage = job[p.first];
    int waiting = p.first;
    while (waiting > 0 && !job[waiting].wait) --waiting;
    for (int before = 0; before < waiting; ++before) {
      if (!all_done(before, 0, job[before].parts)) return false;
    }
    return std::all_of(stage.needs[p.second].begin(), stage.needs[p.second].end(),
                       [&](const auto& need) { return all_done(need.stage, need.first, need.last); });
  };
  while (!left.empty()) {
    const auto at = left.begin() + random->between(0, static_cast<int64_t>(left.size()) - 1);
    if (!ready(*at)) continue;
    done[at->first][at->second] = true;
    order.push_back(*at);
    left.erase(at);
  }
  return order;
}

TEST(parts_of_steps_need_all_that_they_must_come_behind) {
  Random random(11);
  for (const int channels : {5, 70, 128}) {
    const std::vector<uint8_t> file = sample_network(channels).file();
    const auto model = Model::copy(file.data(), file.size());
    const bmx::engine::Program& program = model->program();
    const Arrays inputs = images(*model, 1, &random);
    Session alone(model, 1);
    const Arrays expected = run(&alone, inputs, 1);
    for (const int threads : {2, 3, 16}) {
      std::vector<std::vector<bmx::engine::Share>> shares;
      for (const auto& step : program.steps) shares.push_back(shares_of(program, step, threads));
      const bmx::engine::Crew::Job job = stages(program, shares);
      for (int repeat = 0; repeat < 20; ++repeat) {
        bmx::engine::Arena arena(program, 0xA5);
        bmx::Buffer<uint8_t> scratch(static_cast<size_t>(arena.scratch()));
        arena.prepare();
        Arrays outputs;
        for (const auto& output : expected) outputs.emplace_back(output.size(), -12345.0f);
        const float* in[] = {inputs[0].data(), inputs[1].data()};
        float* out[] = {outputs[0].data(), outputs[1].data()};
        for (const auto& [stage, part] : any_order(job, &random))
          arena.step(stage).run(shares[stage][part], {in, out}, 0, scratch.get());
        CHECK(same(outputs, expected), std::to_string(threads) + " threads, channels " + std::to_string(channels));
      }
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
