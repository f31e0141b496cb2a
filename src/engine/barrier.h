// Where threads that share the steps of an image wait for each other: some dozen times a millisecond.
//
// OpenMP's own barriers either sleep, which costs more than a step, or spin for milliseconds even where the thread that
// they wait for needs this very processor. This one spins for some microseconds and then lets others run.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>

namespace bmx::engine {

class Barrier {
 public:
  // Returns when all `threads` threads have called it.
  void wait(int threads) {
    const uint32_t phase = phase_.load(std::memory_order_relaxed);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == threads) {
      arrived_.store(0, std::memory_order_relaxed);
      phase_.store(phase + 1, std::memory_order_release);
      return;
    }
    for (int spins = 0; phase_.load(std::memory_order_acquire) == phase; ++spins) {
      if (spins < kSpins) {
        pause();
      } else {
        std::this_thread::yield();
      }
    }
  }

 private:
  static constexpr int kSpins = 2000;

  static void pause() {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__) || defined(__arm__)
    asm volatile("yield");
#endif
  }

  alignas(64) std::atomic<int> arrived_{0};  // apart: those who wait read only the other
  alignas(64) std::atomic<uint32_t> phase_{0};
};

}  // namespace bmx::engine
