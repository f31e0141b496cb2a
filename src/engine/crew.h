// Threads that work together on jobs of microseconds to milliseconds: the steps of an image, or whole images.
//
// A job is a list of stages, a stage a number of parts. Each thread has parts of its own in every stage, so that it
// finds in its caches what it wrote in the stage before; when they are done it takes what others have not begun. All
// wait for parts, never for threads: one that has no processor, because another program uses it, holds up the others
// only if it lost it within a part. (OpenMP's threads must all come to the end of a parallel region.)
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace bmx::engine {

class Crew {
 public:
  struct Stage {
    int parts;  // less than 2^16 for each thread
    bool wait;  // until all parts of the stages before are done
  };
  using Job = std::vector<Stage>;
  // Must not throw. `thread` is less than the number of threads; 0 is the one that calls run().
  using Work = std::function<void(int job, int stage, int part, int thread)>;

  // `threads` >= 2, with the one that calls run(). Throws std::runtime_error if the system has not so many.
  Crew(int threads, std::vector<Job> jobs, Work work);
  ~Crew();
  Crew(const Crew&) = delete;
  Crew& operator=(const Crew&) = delete;

  // Returns when all parts of a job are done; what they wrote is then there for the caller. For one thread at a time.
  void run(int job);

 private:
  // What all work on, in one word: the number of the run, 48 bits, and the job or kEnd.
  using Order = uint64_t;
  static constexpr uint64_t kEnd = 0xFFFF;

  Order give(uint64_t job);
  void end();
  void help(int thread);
  Order next(Order last);
  void take_part(Order order, int thread);
  bool wait(Order order, int64_t parts);

  const int threads_;
  const std::vector<Job> jobs_;
  const Work work_;
  std::vector<size_t> first_;  // of a job's stages among all stages
  // Of each thread, of each stage: the last run that had this stage, 48 bits, and how many of the thread's parts were
  // taken in it. So nothing need be reset, and a thread that is late, still in an earlier run, takes nothing.
  size_t row_;  // words of a thread, and some that keep those of the next off its cache lines
  std::unique_ptr<std::atomic<uint64_t>[]> taken_;
  alignas(64) std::atomic<Order> order_{0};
  std::atomic<int> asleep_{0};
  alignas(64) std::atomic<int64_t> done_{0};  // parts of this run
  alignas(64) std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<std::thread> helpers_;
};

}  // namespace bmx::engine
