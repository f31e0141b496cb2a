#include "engine/crew.h"

#include <algorithm>
#include <chrono>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>

namespace bmx::engine {
namespace {

using Clock = std::chrono::steady_clock;

constexpr auto kAwake = std::chrono::milliseconds(1);  // an idle thread looks for a job this long before it sleeps
constexpr int kSpins = 2000;   // pauses, about ten microseconds, before a waiting thread yields the processor
constexpr int kPatience = 50;  // looks, about a microsecond, before a thread takes parts of other threads
constexpr int kShift = 16;     // a word holds the number of a run above this many bits
constexpr uint64_t kMostParts = (uint64_t{1} << kShift) - 1;

uint64_t word(uint64_t run, uint64_t rest) { return run << kShift | rest; }
uint64_t run_of(uint64_t word) { return word >> kShift; }
uint64_t rest_of(uint64_t word) { return word & ((uint64_t{1} << kShift) - 1); }
uint64_t count_in(uint64_t word, uint64_t run) { return run_of(word) == run ? rest_of(word) : 0; }

}  // namespace

// Waits between two looks at a value that another thread will write.
class Crew::Pause {
 public:
  void begin_again() { count_ = 0; }

  void operator()() {
    if (++count_ > kSpins) return std::this_thread::yield();
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__) || defined(__arm__)
    asm volatile("yield");
#endif
  }

 private:
  int count_ = 0;
};

Crew::Crew(int threads, const std::vector<Job>& jobs, Work work)
    : threads_(threads), work_(std::move(work)), progress_(threads) {
  for (const Job& job : jobs) plans_.push_back(plan(job));
  start_helpers();
}

Crew::~Crew() { end(); }

void Crew::start_helpers() {
  try {
    for (int thread = 1; thread < threads_; ++thread) helpers_.emplace_back(&Crew::help, this, thread);
  } catch (const std::system_error& error) {
    const std::string most = std::to_string(helpers_.size() + 1);
    end();
    throw std::runtime_error("no more than " + most + " threads can be started; ask for fewer: " + error.what());
  } catch (...) {
    end();
    throw;
  }
}

// Parts are taken in the order of the lists. So a part need not wait for what an earlier part of its list waited for.
Crew::Plan Crew::plan(const Job& job) const {
  Plan plan;
  plan.parts.resize(threads_);
  std::vector<std::vector<int>> known(threads_, std::vector<int>(threads_, -1));  // the last stage known to be done
  int all_before = 0;  // the last stage that waits for all before it
  for (int stage = 0; stage < static_cast<int>(job.size()); ++stage) {
    const int64_t parts = job[stage].parts;
    if (job[stage].wait) all_before = stage;
    const auto owner = [&](int of, int64_t part) { return static_cast<int>(part * threads_ / job[of].parts); };
    const auto waits = [&](int thread, int part) {
      std::vector<Wait> all;
      const auto wait = [&](int before, int first, int last) {
        bool news = false;
        for (int other = first; other <= last; ++other) news |= other != thread && known[thread][other] < before;
        if (news) all.push_back({before, first, last});
      };
      if (all_before > 0) wait(all_before - 1, 0, threads_ - 1);  // even for threads without a part in that stage
      if (job[stage].wait || job[stage].needs.empty()) return all;
      for (const Need& need : job[stage].needs[part]) {
        if (need.first < need.last) wait(need.stage, owner(need.stage, need.first), owner(need.stage, need.last - 1));
      }
      return all;
    };
    std::vector<std::vector<int>> own(threads_);
    for (int part = 0; part < parts; ++part) own[owner(stage, part)].push_back(part);
    plan.ends.emplace_back();
    for (int thread = 0; thread < threads_; ++thread) {
      std::stable_partition(own[thread].begin(), own[thread].end(), [&](int p) { return waits(thread, p).empty(); });
      for (const int part : own[thread]) {
        const size_t first = plan.waits.size();
        for (const Wait& wait : waits(thread, part)) {
          plan.waits.push_back(wait);
          for (int other = wait.first; other <= wait.last; ++other) {
            known[thread][other] = std::max(known[thread][other], wait.stage);
          }
        }
        plan.parts[thread].push_back({stage, part, first, plan.waits.size()});
      }
      if (plan.parts[thread].size() > kMostParts) {
        throw std::runtime_error("the network has too many steps for several threads; ask for one");
      }
      plan.ends.back().push_back(plan.parts[thread].size());
    }
  }
  return plan;
}

void Crew::end() {
  order_.store(word(run_of(order_.load(std::memory_order_relaxed)) + 1, kEnd));
  wake();
  for (std::thread& helper : helpers_) helper.join();
}

void Crew::wake() {
  mutex_.lock();  // no thread is then between looking at the order and sleeping
  mutex_.unlock();
  wake_.notify_all();
}

void Crew::run(int job) {
  const std::vector<Part>& own = plans_[job].parts[0];
  if (own.empty()) return;  // the job is empty: the first part of each stage is in this list
  const Order order = word(run_of(order_.load(std::memory_order_relaxed)) + 1, static_cast<uint64_t>(job));
  // The caller takes the first part before it publishes the order, so it never competes for that part and does not wait
  // until other threads have seen the order.
  progress_[0].taken.store(word(run_of(order), 1), std::memory_order_relaxed);
  order_.store(order, std::memory_order_release);
  if (asleep_.load(std::memory_order_relaxed) > 0) wake();
  do_part(order, 0, own[0], 0);
  // A thread that counts itself asleep after this has seen the order.
  if (asleep_.fetch_add(0, std::memory_order_acq_rel) > 0) wake();
  for (Pause pause; !over(order, 0); pause()) take_parts(order, 0, &pause);
}

void Crew::help(int thread) {
  for (Order order = next(0); rest_of(order) != kEnd; order = next(order)) {
    Pause pause;
    take_parts(order, thread, &pause);
  }
}

Crew::Order Crew::next(Order last) {
  Order order;
  const auto changed = [&] { return (order = order_.load(std::memory_order_acquire)) != last; };
  Pause pause;
  for (const auto start = Clock::now(); !changed();) {
    for (int i = 0; i < 64 && !changed(); ++i) pause();
    if (Clock::now() - start > kAwake) {
      std::unique_lock<std::mutex> lock(mutex_);
      asleep_.fetch_add(1, std::memory_order_acq_rel);
      wake_.wait(lock, changed);
      asleep_.fetch_sub(1, std::memory_order_acq_rel);
    }
  }
  return order;
}

// Takes parts until no thread has any left.
void Crew::take_parts(Order order, int thread, Pause* pause) {
  int patience = kPatience;
  for (;; pause->begin_again()) {
    for (int looks = 0;; ++looks, (*pause)()) {
      Found found = take_part(order, thread, thread);
      if (found == Found::kPart) break;
      if (over(order, thread)) return;
      if (looks < patience) continue;
      bool later = found == Found::kLater;
      for (int i = 1; i < threads_ && found != Found::kPart; ++i) {
        found = take_part(order, (thread + i) % threads_, thread);
        later |= found == Found::kLater;
      }
      if (found == Found::kPart) {
        patience = 0;  // that thread is late and may be late again
        break;
      }
      if (!later) return;
    }
  }
}

// Takes the next part of the owner. After the end of a run no part is left, so the data of the run is valid for whoever
// takes one. The taker also sees all that the takers of earlier parts have seen: a part does not wait for what they
// have waited for.
Crew::Found Crew::take_part(Order order, int owner, int thread) {
  const uint64_t run = run_of(order);
  const Plan& plan = plans_[rest_of(order)];
  const std::vector<Part>& parts = plan.parts[owner];
  std::atomic<uint64_t>& taken = progress_[owner].taken;
  for (uint64_t seen = taken.load(std::memory_order_acquire);;) {
    const uint64_t next = count_in(seen, run);
    if (next >= parts.size() || run_of(seen) > run) return Found::kNone;
    if (!ready(run, plan, owner, parts[next])) return Found::kLater;
    if (!taken.compare_exchange_weak(seen, word(run, next + 1), std::memory_order_acq_rel, std::memory_order_acquire)) {
      continue;
    }
    do_part(order, owner, parts[next], thread);
    return Found::kPart;
  }
}

void Crew::do_part(Order order, int owner, const Part& part, int thread) {
  work_(static_cast<int>(rest_of(order)), part.stage, part.part, thread);
  std::atomic<uint64_t>& done = progress_[owner].done;
  uint64_t seen = done.load(std::memory_order_relaxed);
  while (!done.compare_exchange_weak(seen, word(run_of(order), count_in(seen, run_of(order)) + 1),
                                     std::memory_order_release, std::memory_order_relaxed)) {
  }
}

bool Crew::ready(uint64_t run, const Plan& plan, int owner, const Part& part) const {
  if (part.stage > 0 && !reached(run, owner, plan.ends[part.stage - 1][owner])) return false;
  for (size_t i = part.first_wait; i < part.last_wait; ++i) {
    const Wait& wait = plan.waits[i];
    for (int other = wait.first; other <= wait.last; ++other) {
      if (!reached(run, other, plan.ends[wait.stage][other])) return false;
    }
  }
  return true;
}

// Whether `parts` parts of the owner are done, or the run is over.
bool Crew::reached(uint64_t run, int owner, uint64_t parts) const {
  return parts == 0 || progress_[owner].done.load(std::memory_order_acquire) >= word(run, parts);
}

// A run is over for a helper when there is another order, and for the caller when all parts are done.
bool Crew::over(Order order, int thread) const {
  if (thread > 0) return order_.load(std::memory_order_relaxed) != order;
  const Plan& plan = plans_[rest_of(order)];
  for (int owner = 0; owner < threads_; ++owner) {
    if (!reached(run_of(order), owner, plan.parts[owner].size())) return false;
  }
  return true;
}

}  // namespace bmx::engine
