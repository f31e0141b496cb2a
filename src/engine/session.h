// Runs a model: its own memory for tensors, so that each of many threads can have a session of one model.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "engine/barrier.h"
#include "engine/bound_step.h"
#include "engine/model.h"

namespace bmx::engine {

// Memory for the tensors of one image, and the steps bound to it.
class Arena {
 public:
  // Zeros, or `poison` (a byte) before each image.
  Arena(const Program& program, int poison);
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  void prepare();
  const BoundStep& step(size_t i) const { return steps_[i]; }

 private:
  struct Free {
    void operator()(void* memory) const;
  };
  const int64_t size_;
  const int poison_;
  const std::unique_ptr<uint8_t, Free> memory_;
  std::unique_ptr<BoundStep[]> steps_;  // that hold pointers to themselves
};

class Session {
 public:
  // `threads` >= 1. Throws std::runtime_error, std::bad_alloc. The environment variable BMX_POISON, a number from 0 to
  // 255, has arenas filled with that byte before each image: results must not depend on it.
  Session(std::shared_ptr<const Model> model, int threads);

  // Runs `batch` images. Throws std::runtime_error if another thread is in this function.
  void run(int64_t batch, const Images& images);

  // What run() has each of its threads do, for callers with threads of their own: prepare, and then take_part in all
  // `threads` threads at once. As many images as go evenly into the session's threads are taken whole, each by one
  // thread; of the others, and where steps are measured, all threads share each step.
  void prepare(int64_t batch);
  void take_part(int64_t batch, const Images& images, int thread, int threads);

  // Measures each step from now on, or no longer.
  void profile(bool on);
  const std::vector<double>& seconds() const { return seconds_; }  // of each step, since profile(true)

  const Model& model() const { return *model_; }
  int threads() const { return threads_; }
  int64_t bytes() const;

 private:
  void run_alone(const Images& images, int64_t image, int arena);
  int64_t alone(int64_t batch) const;
  void run_together(int64_t batch, const Images& images);
  void wait(int threads);
  void run_part(const Images& images, int64_t image, int thread, int threads);

  const std::shared_ptr<const Model> model_;
  const int threads_;
  const int poison_;
  std::vector<std::unique_ptr<Arena>> arenas_;  // one for each thread that ever ran images alone
  std::vector<Share> whole_;                    // of each step
  std::vector<Share> shares_;                   // of each step, of each thread
  std::vector<double> seconds_;
  bool measure_ = false;
  std::atomic<bool> busy_{false};
  Barrier barrier_;
};

}  // namespace bmx::engine
