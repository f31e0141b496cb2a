// Threads that work together on jobs of microseconds to milliseconds: the steps of an image, or whole images.
//
// A job is a list of stages, and a stage is a number of parts. A part may need parts of earlier stages. Each thread
// owns a list of parts, at the same place in every stage: it then finds in its caches what it wrote in the stage
// before, and most parts need only parts of the same thread. A part that needs another thread's part comes last in its
// stage: the other thread is usually done by then, and nobody waits.
//
// A thread that still has to wait for more than a microsecond takes parts that other threads have not begun. Threads
// wait for parts, never for threads: a descheduled thread delays the others only if it was preempted inside a part. (In
// OpenMP all threads must reach the end of a parallel region.)
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace bmx::engine {

class Crew {
 public:
  // The parts first <= part < last of an earlier stage.
  struct Need {
    int stage, first, last;
  };
  struct Stage {
    int parts;
    bool wait;  // this and later stages begin only when all parts of the earlier stages are done
    std::vector<std::vector<Need>> needs = {};  // for each part, unless `wait`; empty if no part needs any
  };
  using Job = std::vector<Stage>;
  // Must not throw. `thread` is less than the number of threads; 0 is the thread that calls run().
  using Work = std::function<void(int job, int stage, int part, int thread)>;

  // `threads` >= 2 includes the thread that calls run(). Throws std::runtime_error if the system cannot start them.
  Crew(int threads, const std::vector<Job>& jobs, Work work);
  ~Crew();
  Crew(const Crew&) = delete;
  Crew& operator=(const Crew&) = delete;

  // Returns when all parts of a job are done; the caller then sees all they wrote. Only one thread at a time may call
  // it.
  void run(int job);

 private:
  // One word that all threads read: the number of the run in 48 bits, and the job or kEnd in 16 bits. At a microsecond
  // per run, the numbers last nine years.
  using Order = uint64_t;
  static constexpr uint64_t kEnd = 0xFFFF;

  // Wait until the threads first <= thread <= last have done all their parts up to a stage.
  struct Wait {
    int stage, first, last;
  };
  struct Part {
    int stage, part;
    size_t first_wait, last_wait;
  };
  struct Plan {
    std::vector<std::vector<Part>> parts;  // for each thread, in the order in which they are taken
    std::vector<Wait> waits;
    std::vector<std::vector<uint64_t>> ends;  // [stage][thread]: parts of the thread up to the end of this stage
  };
  // How far a thread's parts are. Both words also hold the number of the run: so nothing needs a reset, and a thread
  // that is still in an earlier run takes nothing. Each word has its own cache line, because other threads read `done`.
  struct Progress {
    alignas(64) std::atomic<uint64_t> taken{0};
    alignas(64) std::atomic<uint64_t> done{0};  // a part begins only when the thread's earlier stages are done
  };
  enum class Found { kPart, kLater, kNone };
  class Pause;

  Plan plan(const Job& job) const;
  void start_helpers();
  void end();
  void wake();
  void help(int thread);
  Order next(Order last);
  void take_parts(Order order, int thread, Pause* pause);
  Found take_part(Order order, int owner, int thread);
  void do_part(Order order, int owner, const Part& part, int thread);
  bool ready(uint64_t run, const Plan& plan, int owner, const Part& part) const;
  bool reached(uint64_t run, int owner, uint64_t parts) const;
  bool over(Order order, int thread) const;

  const int threads_;
  const Work work_;
  std::vector<Plan> plans_;  // one per job
  std::vector<Progress> progress_;
  alignas(64) std::atomic<Order> order_{0};
  alignas(64) std::atomic<int> asleep_{0};
  std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<std::thread> helpers_;
};

}  // namespace bmx::engine
