// Threads that work together on jobs of microseconds to milliseconds: the steps of an image, or whole images.
//
// A job is a list of stages, a stage a number of parts, and a part may need some parts of the stages before. Each
// thread has a list of parts of its own, in every stage those of the same place, so that it finds in its caches what it
// wrote in the stage before, and so that most parts need only what the same thread has done. Where one needs another
// thread's it comes last in its stage: until then the other has done it, and nobody waits.
//
// A thread that waits nevertheless, for more than a microsecond, takes what others have not begun. All wait for parts,
// never for threads: one that has no processor, because another program uses it, holds up the others only if it lost it
// within a part. (OpenMP's threads must all come to the end of a parallel region.)
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
  // The parts `first` to `last`, not counted, of an earlier stage.
  struct Need {
    int stage, first, last;
  };
  struct Stage {
    int parts;
    bool wait;  // all parts of this and later stages, until all parts of the stages before are done
    std::vector<std::vector<Need>> needs = {};  // of each part, if they do not wait; empty: nothing
  };
  using Job = std::vector<Stage>;
  // Must not throw. `thread` is less than the number of threads; 0 is the one that calls run().
  using Work = std::function<void(int job, int stage, int part, int thread)>;

  // `threads` >= 2, with the one that calls run(). Throws std::runtime_error if the system has not so many.
  Crew(int threads, const std::vector<Job>& jobs, Work work);
  ~Crew();
  Crew(const Crew&) = delete;
  Crew& operator=(const Crew&) = delete;

  // Returns when all parts of a job are done; what they wrote is then there for the caller. For one thread at a time.
  void run(int job);

 private:
  // What all look at, in one word: the number of the run, 48 bits, and the job or kEnd, 16 bits. At a microsecond for
  // each, runs can be counted for nine years.
  using Order = uint64_t;
  static constexpr uint64_t kEnd = 0xFFFF;

  // Until the threads `first` to `last` have done all their parts up to a stage.
  struct Wait {
    int stage, first, last;
  };
  struct Part {
    int stage, part;
    size_t first_wait, last_wait;
  };
  struct Plan {
    std::vector<std::vector<Part>> parts;  // of each thread, in the order in which they are taken
    std::vector<Wait> waits;
    std::vector<std::vector<uint64_t>> ends;  // of each stage and thread: how many of its parts are in it or before
  };
  // Of a thread's parts in a run, whose number is in the words too: so nothing need be reset, and a thread that is
  // late, still in an earlier run, takes nothing. On a cache line each, since others look at the second.
  struct Progress {
    alignas(64) std::atomic<uint64_t> taken{0};
    alignas(64) std::atomic<uint64_t> done{0};  // stage by stage: none is begun while one before is not done
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
  std::vector<Plan> plans_;  // of each job
  std::vector<Progress> progress_;
  alignas(64) std::atomic<Order> order_{0};
  alignas(64) std::atomic<int> asleep_{0};
  std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<std::thread> helpers_;
};

}  // namespace bmx::engine
