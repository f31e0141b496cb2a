// How long two processors take to hand a cache line to each other and back: some 50 ns behind one last-level cache,
// several times as long otherwise. What threads that share an image gain depends on it. On virtual machines it can
// change from one minute to the next.
//
//   bmx_cores          processors 0 and 1
//   bmx_cores 0 8
#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

namespace {

constexpr int kRounds = 50, kTrips = 2000;

alignas(64) std::atomic<int> ball{0};

bool pin(int processor) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(processor, &set);
  return pthread_setaffinity_np(pthread_self(), sizeof(set), &set) == 0;
}

void wait_for(int value) {
  for (int looks = 0; ball.load() != value; ++looks) {
    if (looks > 100000) std::this_thread::yield();
  }
}

}  // namespace

int main(int count, char** arguments) {
  const int here = count > 2 ? std::atoi(arguments[1]) : 0, there = count > 2 ? std::atoi(arguments[2]) : 1;
  std::thread other([there] {
    if (!pin(there)) std::exit((std::fprintf(stderr, "there is no processor %d\n", there), 1));
    for (int trip = 0; trip < kRounds * kTrips; ++trip) {
      wait_for(2 * trip + 1);
      ball.store(2 * trip + 2);
    }
  });
  if (!pin(here)) std::exit((std::fprintf(stderr, "there is no processor %d\n", here), 1));
  std::vector<double> nanoseconds;
  for (int round = 0; round < kRounds; ++round) {
    const auto start = std::chrono::steady_clock::now();
    for (int trip = round * kTrips; trip < (round + 1) * kTrips; ++trip) {
      ball.store(2 * trip + 1);
      wait_for(2 * trip + 2);
    }
    const std::chrono::duration<double, std::nano> time = std::chrono::steady_clock::now() - start;
    nanoseconds.push_back(time.count() / kTrips);
  }
  other.join();
  std::nth_element(nanoseconds.begin(), nanoseconds.begin() + kRounds / 2, nanoseconds.end());
  std::printf("processors %d and %d: %.0f ns there and back\n", here, there, nanoseconds[kRounds / 2]);
}
