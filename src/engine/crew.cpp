#include "engine/crew.h"

#include <chrono>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>

namespace bmx::engine {
namespace {

using Clock = std::chrono::steady_clock;

constexpr auto kAwake = std::chrono::milliseconds(1);  // how long a thread without a job looks for one
constexpr int kSpins = 2000;                           // some ten microseconds, before others may have the processor
constexpr int kLineWords = 8;                          // 64-bit words of a cache line
constexpr int kShift = 16;                             // of the number of a run in a word

// Between two looks at what another thread will write.
class Pause {
 public:
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

uint64_t word(uint64_t run, uint64_t rest) { return run << kShift | rest; }
uint64_t run_of(uint64_t word) { return word >> kShift; }
int rest_of(uint64_t word) { return static_cast<int>(word & ((1u << kShift) - 1)); }

// The next of a thread's parts, or `parts` where none is left. None is after the end of a run, whose parts are all
// taken: whoever takes one may rely on what belongs to the run.
int take(std::atomic<uint64_t>& taken, uint64_t run, int parts) {
  uint64_t seen = taken.load(std::memory_order_relaxed);
  for (;;) {
    const int part = run_of(seen) == run ? rest_of(seen) : 0;
    if (part >= parts || run_of(seen) > run) return parts;
    if (taken.compare_exchange_weak(seen, word(run, part + 1), std::memory_order_relaxed)) return part;
  }
}

}  // namespace

Crew::Crew(int threads, std::vector<Job> jobs, Work work)
    : threads_(threads), jobs_(std::move(jobs)), work_(std::move(work)) {
  size_t stages = 0;
  for (const Job& job : jobs_) {
    first_.push_back(stages);
    stages += job.size();
  }
  row_ = (stages / kLineWords + 2) * kLineWords;
  taken_ = std::make_unique<std::atomic<uint64_t>[]>(threads * row_);
  for (size_t i = 0; i < threads * row_; ++i) taken_[i].store(0, std::memory_order_relaxed);
  try {
    for (int thread = 1; thread < threads; ++thread) helpers_.emplace_back(&Crew::help, this, thread);
  } catch (const std::system_error& error) {
    const std::string most = std::to_string(helpers_.size() + 1);
    end();
    throw std::runtime_error("no more than " + most + " threads can be started; ask for fewer: " + error.what());
  }
}

Crew::~Crew() { end(); }

void Crew::end() {
  give(kEnd);
  for (std::thread& helper : helpers_) helper.join();
}

Crew::Order Crew::give(uint64_t job) {
  const Order order = word(run_of(order_.load(std::memory_order_relaxed)) + 1, job);
  order_.store(order);
  if (asleep_.load() > 0) {
    mutex_.lock();  // so that nobody is between looking at the order and sleeping
    mutex_.unlock();
    wake_.notify_all();
  }
  return order;
}

void Crew::run(int job) {
  done_.store(0, std::memory_order_relaxed);
  const Order order = give(static_cast<uint64_t>(job));
  take_part(order, 0);
  int64_t parts = 0;
  for (const Stage& stage : jobs_[job]) parts += stage.parts;
  wait(order, parts);
}

void Crew::help(int thread) {
  for (Order order = next(0); rest_of(order) != static_cast<int>(kEnd); order = next(order)) take_part(order, thread);
}

Crew::Order Crew::next(Order last) {
  Order order;
  const auto changed = [&] { return (order = order_.load()) != last; };
  Pause pause;
  for (const auto start = Clock::now(); !changed();) {
    for (int i = 0; i < 64 && !changed(); ++i) pause();
    if (Clock::now() - start > kAwake) {
      std::unique_lock<std::mutex> lock(mutex_);
      ++asleep_;
      wake_.wait(lock, changed);
      --asleep_;
    }
  }
  return order;
}

void Crew::take_part(Order order, int thread) {
  const int number = rest_of(order);
  const Job& job = jobs_[number];
  int64_t before = 0;
  for (int stage = 0; stage < static_cast<int>(job.size()); ++stage) {
    if (job[stage].wait && !wait(order, before)) return;
    const int64_t parts = job[stage].parts;
    int done = 0;
    for (int i = 0; i < threads_; ++i) {
      const int owner = (thread + i) % threads_;
      const auto first = static_cast<int>(owner * parts / threads_);
      const int size = static_cast<int>((owner + 1) * parts / threads_) - first;
      std::atomic<uint64_t>& taken = taken_[owner * row_ + first_[number] + stage];
      for (int part; (part = take(taken, run_of(order), size)) < size; ++done) {
        work_(number, stage, first + part, thread);
      }
    }
    if (done > 0) done_.fetch_add(done, std::memory_order_release);
    before += parts;
  }
}

// Until so many parts are done; false if the run is over.
bool Crew::wait(Order order, int64_t parts) {
  for (Pause pause; done_.load(std::memory_order_acquire) < parts; pause()) {
    if (order_.load(std::memory_order_relaxed) != order) return false;
  }
  return true;
}

}  // namespace bmx::engine
