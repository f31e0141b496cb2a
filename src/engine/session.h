// Runs a model: its own memory for tensors, so that each of many threads can have a session of one model.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "engine/bound_step.h"
#include "engine/crew.h"
#include "engine/model.h"
#include "engine/turns.h"
#include "kernels/buffer.h"

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
  int64_t scratch() const { return scratch_; }  // bytes that its steps need of a thread

 private:
  struct Free {
    void operator()(void* memory) const;
  };
  const int64_t size_;
  const int poison_;
  const std::unique_ptr<uint8_t, Free> memory_;
  std::unique_ptr<BoundStep[]> steps_;  // that hold pointers to themselves
  int64_t scratch_ = 0;
};

class Session {
 public:
  // `threads` >= 1. Throws std::runtime_error, std::bad_alloc. The environment variable BMX_POISON, a number from 0 to
  // 255, has arenas filled with that byte before each image: results must not depend on it.
  Session(std::shared_ptr<const Model> model, int threads);
  ~Session();

  // Runs `batch` images. Throws std::runtime_error if another thread is in this function.
  void run(int64_t batch, const Images& images);

  // Measures each step from now on, or no longer.
  void profile(bool on);
  const std::vector<double>& seconds() const { return seconds_; }  // of each step, since profile(true)

  const Model& model() const { return *model_; }
  int threads() const { return threads_; }
  int64_t bytes() const;  // of arenas and scratch memory; also while another thread is in `run`

 private:
  void take(const Images& images);
  void run_alone(int64_t image, int arena);
  void run_together(int64_t batch);
  void make_arena();
  void measure(int64_t image);
  void start_crew();
  void leave_crew();
  void work(int job, int stage, int part, int thread);

  const std::shared_ptr<const Model> model_;
  const int threads_;
  const int poison_;
  std::vector<std::unique_ptr<Arena>> arenas_;  // the first, and from the first batch on one for each thread
  std::atomic<int64_t> made_{0};                // arenas
  const std::vector<Turn> turns_;               // of a thread that has an image alone
  std::vector<Buffer<uint8_t>> scratch_;        // of each thread
  std::vector<Share> whole_;                    // of each step
  std::vector<std::vector<Share>> shares_;      // of each step
  std::vector<double> seconds_;
  bool measure_ = false;

  // What the threads are at.
  std::vector<const float*> inputs_;
  std::vector<float*> outputs_;
  const Images images_;
  int64_t alone_ = 0;  // images that one thread each takes
  int64_t image_ = 0;  // that all share
  size_t step_ = 0;    // that is measured

  std::unique_ptr<Crew> crew_;  // from the first run on
  int process_ = 0;             // that has its threads

  alignas(64) std::atomic<bool> busy_{false};  // written by each run, and not beside what all threads read
};

}  // namespace bmx::engine
