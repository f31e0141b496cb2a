// Threads that work together: each part once, stages in order, and nobody waits for a thread that has begun nothing.
// `make sanitize` runs the tests named concurrent_ under ThreadSanitizer.
#include "engine/crew.h"

#include <pthread.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <thread>
#include <vector>

#include "test.h"

namespace {

using bmx::engine::Crew;
using test::Random;

// Jobs of a few stages, some of them without parts. Of those that do not wait, half have parts that need a few others.
std::vector<Crew::Job> random_jobs(Random* random) {
  const auto below = [&](int end) { return static_cast<int>(random->between(0, end - 1)); };
  std::vector<Crew::Job> jobs(3);
  for (Crew::Job& job : jobs) {
    job.resize(random->between(1, 12));
    for (int i = 0; i < static_cast<int>(job.size()); ++i) {
      job[i] = {below(10), below(3) == 0};
      if (i == 0 || below(2) == 0) continue;
      job[i].needs.resize(job[i].parts);
      for (std::vector<Crew::Need>& needs : job[i].needs) {
        for (int n = below(3); n > 0; --n) {
          const int stage = below(i), first = below(job[stage].parts + 1);
          needs.push_back({stage, first, first + below(job[stage].parts - first + 1)});
        }
      }
    }
  }
  return jobs;
}

// A number for each part of each job: how often it was done. Parts look at those that must be done before.
class Counts {
 public:
  Counts(const std::vector<Crew::Job>& jobs, int threads) : jobs_(jobs), threads_(threads), counts_(jobs.size()) {
    for (size_t job = 0; job < jobs.size(); ++job) {
      for (const Crew::Stage& stage : jobs[job]) counts_[job].emplace_back(stage.parts, 0);
    }
  }

  void run(Crew* crew, int job) {
    job_ = job;
    for (auto& stage : counts_[job]) stage.assign(stage.size(), 0);
    crew->run(job);
    wrong_ += !done(job, static_cast<int>(jobs_[job].size()));
  }

  void work(int job, int stage, int part, int thread) {
    wrong_ += thread < 0 || thread >= threads_ || job != job_;
    const Crew::Stage& s = jobs_[job][stage];
    int all_before = stage;  // the last stage that waits
    while (all_before > 0 && !jobs_[job][all_before].wait) --all_before;
    wrong_ += !done(job, all_before);
    if (!s.needs.empty()) {
      for (const Crew::Need& need : s.needs[part]) {
        for (int i = need.first; i < need.last; ++i) wrong_ += counts_[job][need.stage][i] != 1;
      }
    }
    wrong_ += ++counts_[job][stage][part] != 1;
  }

  int wrong() const { return wrong_; }

 private:
  // Whether all parts of the stages before were done, once.
  bool done(int job, int stage) const {
    for (int before = 0; before < stage; ++before) {
      for (int count : counts_[job][before]) {
        if (count != 1) return false;
      }
    }
    return true;
  }

  const std::vector<Crew::Job>& jobs_;
  const int threads_;
  std::vector<std::vector<std::vector<int>>> counts_;
  int job_ = 0;
  std::atomic<int> wrong_{0};
};

TEST(concurrent_crews_do_each_part_once_and_stages_in_order) {
  Random random(1);
  for (const int threads : {2, 3, 8}) {
    for (int repeat = 0; repeat < 5; ++repeat) {
      const std::vector<Crew::Job> jobs = random_jobs(&random);
      Counts counts(jobs, threads);
      Crew crew(threads, jobs,
                [&](int job, int stage, int part, int thread) { counts.work(job, stage, part, thread); });
      for (int run = 0; run < 200; ++run) counts.run(&crew, static_cast<int>(random.between(0, 2)));
      CHECK(counts.wrong() == 0, std::to_string(threads) + " threads: " + std::to_string(counts.wrong()));
    }
  }
}

TEST(concurrent_crews_wake_from_sleep) {
  std::atomic<int> parts{0};
  Crew crew(4, {{{9, false}, {3, true}}}, [&](int, int, int, int) { ++parts; });
  for (int run = 1; run <= 20; ++run) {
    std::this_thread::sleep_for(std::chrono::milliseconds(run % 4));  // they sleep after one
    crew.run(0);
    CHECK(parts == 12 * run, std::to_string(parts));
  }
}

TEST(concurrent_crews_end_without_having_run) {
  for (int i = 0; i < 20; ++i) Crew(5, {{{1, false}}}, [](int, int, int, int) {});
}

// A part that takes long is no reason to leave what its thread has not begun.
TEST(concurrent_threads_take_what_others_have_not_begun) {
  constexpr int kParts = 40;
  std::atomic<int> done{0};
  std::atomic<bool> held{false}, late{false};
  Crew crew(2, {{{kParts, false}}}, [&](int, int, int part, int) {
    if (part == 0) {  // of thread 0, until the other 39 are done
      held = true;
      const auto start = std::chrono::steady_clock::now();
      while (done < kParts - 1 && !late) {
        late = std::chrono::steady_clock::now() - start > std::chrono::seconds(20);
        std::this_thread::yield();
      }
    }
    ++done;
  });
  crew.run(0);
  CHECK(held && !late && done == kParts, std::to_string(done));
}

// A thread that a signal holds up, as the system does that gives its processor to another program.
std::atomic<bool> held_up{false}, release{false};
std::atomic<int> milliseconds{0};

void hold_up(int) {
  held_up = true;
  for (; !release && milliseconds < 20000; ++milliseconds) usleep(1000);
  held_up = false;
}

TEST(crews_do_without_a_thread_that_has_no_processor) {
  std::atomic<int> parts{0}, threads{0};
  std::atomic<pthread_t> helper{};
  Crew crew(2, {{{2, false}}, {{7, false}, {5, true}}}, [&](int job, int, int, int thread) {
    ++parts;
    if (job != 0) return;
    if (thread == 1) helper = pthread_self();
    for (++threads; threads < 2;) std::this_thread::yield();  // each thread has one part
  });
  crew.run(0);
  std::signal(SIGUSR1, hold_up);
  pthread_kill(helper, SIGUSR1);
  while (!held_up && milliseconds == 0) std::this_thread::yield();
  for (int run = 0; run < 3; ++run) crew.run(1);
  const bool still = held_up;
  release = true;
  CHECK(still && parts == 2 + 3 * 12, std::to_string(parts));
  crew.run(1);
  CHECK(parts == 2 + 4 * 12, std::to_string(parts));
}

}  // namespace
