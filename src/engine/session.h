// Runs a model. A session has its own memory for tensors, so several threads can run one model, each with its session.
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
  // The memory is zero at first. With `poison`, a byte, it is filled with that byte before each image.
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
  std::unique_ptr<BoundStep[]> steps_;  // no vector: they point to themselves and must not move
  int64_t scratch_ = 0;
};

class Session {
 public:
  // `threads` >= 1. Throws std::runtime_error, std::bad_alloc. If the environment variable BMX_POISON is a number from
  // 0 to 255, arenas are filled with that byte before each image: results must not depend on it.
  Session(std::shared_ptr<const Model> model, int threads);
  ~Session();

  // Runs `batch` images. Throws std::runtime_error if another thread is running this session.
  void run(int64_t batch, const Images& images);

  // Starts or stops measuring each step.
  void profile(bool on);
  const std::vector<double>& seconds() const { return seconds_; }  // one per step, since profile(true)

  const Model& model() const { return *model_; }
  int threads() const { return threads_; }
  int64_t bytes() const;  // arenas and scratch memory; may be called while another thread is in `run`

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
  std::vector<std::unique_ptr<Arena>> arenas_;  // one; after the first batch one per thread
  std::atomic<int64_t> made_{0};                // number of arenas
  const std::vector<Turn> turns_;               // the order of steps for a thread that runs an image alone
  std::vector<Buffer<uint8_t>> scratch_;        // one per thread
  std::vector<Share> whole_;                    // for each step, the whole of it
  std::vector<std::vector<Share>> shares_;      // for each step, its shares
  std::vector<double> seconds_;
  bool measure_ = false;

  // The current work of the threads.
  std::vector<const float*> inputs_;
  std::vector<float*> outputs_;
  const Images images_;
  int64_t alone_ = 0;  // number of images that a single thread runs each
  int64_t image_ = 0;  // the image that all threads share
  size_t step_ = 0;    // the step being measured

  std::unique_ptr<Crew> crew_;  // made by the first run
  int process_ = 0;             // the process in which the crew's threads run

  alignas(64) std::atomic<bool> busy_{false};  // each run writes it, so it is apart from what all threads read
};

}  // namespace bmx::engine
