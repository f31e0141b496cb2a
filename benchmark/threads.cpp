// What a second thread gains a compiled network, told apart by how far the two processors are from each other at that
// moment (benchmark/cores.cpp): the call of the C++ engine alone, and the same job with nothing to do in any part,
// which is what waking the other thread and waiting for it cost.
//
//   bmx_threads lenet.bmx        five seconds, on processors 0 and 1
//   bmx_threads lenet.bmx 20
#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <thread>
#include <vector>

#include "engine/session.h"
#include "engine/stages.h"

namespace {

using namespace bmx::engine;

constexpr int kTrips = 150;     // of a cache line, whose shortest time tells the distance
constexpr double kFar = 120;    // nanoseconds there and back, and more
constexpr double kTurn = 1500;  // microseconds of calls, of which the median counts
constexpr double kMicrosecond = 1e6;

double now() {
  return kMicrosecond * std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void pin(int processor) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(processor, &set);
  pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
}

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

// Nanoseconds that a cache line takes to processor 1 and back.
double distance() {
  std::atomic<int> ball{0};
  std::thread other([&ball] {
    pin(1);
    for (int trip = 0; trip < kTrips; ++trip) {
      while (ball.load() != 2 * trip + 1) {
      }
      ball.store(2 * trip + 2);
    }
  });
  double best = kMicrosecond;
  for (int trip = 0; trip < kTrips; ++trip) {
    const double start = now();
    ball.store(2 * trip + 1);
    while (ball.load() != 2 * trip + 2) {
    }
    best = std::min(best, 1e3 * (now() - start));
  }
  other.join();
  return best;
}

template <class F>
double turn(F call) {
  for (int i = 0; i < 3; ++i) call();
  std::vector<double> times;
  for (const double end = now() + kTurn; now() < end || times.size() < 5;) {
    const double start = now();
    call();
    times.push_back(now() - start);
  }
  return median(times);
}

void measure(const char* path, double seconds) {
  const auto model = Model::load(path);
  const Program& program = model->program();
  std::vector<std::vector<float>> inputs, outputs;
  std::vector<const float*> in;
  std::vector<float*> out;
  for (const Array& array : program.inputs) {
    inputs.emplace_back(array.size);
    for (size_t i = 0; i < inputs.back().size(); ++i) inputs.back()[i] = static_cast<float>(i * 37 % 101) / 50 - 1;
    in.push_back(inputs.back().data());
  }
  for (const Array& array : program.outputs) {
    outputs.emplace_back(array.size);
    out.push_back(outputs.back().data());
  }
  const Images images{in.data(), out.data()};
  std::vector<std::vector<Share>> shares;
  for (const Step& step : program.steps) shares.push_back(shares_of(program, step, 2));

  struct {
    const char* name;
    std::vector<double> one, two, idle;
  } states[] = {{"near", {}, {}, {}}, {"far", {}, {}, {}}};
  const auto measure_for = [&](double part, auto take) {  // calls of one distance, before and after
    for (const double end = now() + kMicrosecond * seconds * part; now() < end;) {
      const bool far = distance() > kFar;
      const auto found = take();
      if ((distance() > kFar) == far) found(states[far]);
    }
  };
  {
    Session one(model, 1), two(model, 2);
    pin(1);  // where the other thread is started and stays
    two.run(1, images);
    pin(0);
    measure_for(0.8, [&] {
      const double alone = turn([&] { one.run(1, images); }), together = turn([&] { two.run(1, images); });
      return [=](auto& state) { state.one.push_back(alone), state.two.push_back(together); };
    });
  }
  pin(1);
  Crew idle(2, {stages(program, shares)}, [](int, int, int, int) {});
  pin(0);
  measure_for(0.2, [&] {
    const double nothing = turn([&] { idle.run(0); });
    return [=](auto& state) { state.idle.push_back(nothing); };
  });
  for (const auto& state : states) {
    if (state.one.empty()) continue;
    const double alone = median(state.one), together = median(state.two);
    std::printf(
        "%-4s  one thread %9.2f us, two %9.2f us: %.2f times as fast; two with nothing to do %.2f us (%zu turns)\n",
        state.name, alone, together, alone / together, median(state.idle), state.one.size());
  }
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 2) return std::fprintf(stderr, "bmx_threads FILE.bmx [SECONDS]\n"), 2;
  try {
    measure(arguments[1], count > 2 ? std::atof(arguments[2]) : 5);
  } catch (const std::exception& error) {
    return std::fprintf(stderr, "%s\n", error.what()), 1;
  }
}
