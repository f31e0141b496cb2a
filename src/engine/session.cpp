#include "engine/session.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <new>
#include <stdexcept>
#include <string>

#include "engine/stages.h"

namespace bmx::engine {
namespace {

constexpr size_t kAlignment = 64;
constexpr size_t kOverread = 64;  // bytes that kernels may read beyond a tensor
constexpr int kNoPoison = -1;
constexpr int kAlonePerThread = 16;  // parts per thread of a batch

enum Job { kAlone, kTogether, kOneStep };

int read_poison() {
  const char* text = std::getenv("BMX_POISON");
  if (text == nullptr || *text == '\0') return kNoPoison;
  char* end;
  const long value = std::strtol(text, &end, 10);
  if (*end != '\0' || value < 0 || value > 255) {
    throw std::runtime_error("BMX_POISON is '" + std::string(text) + "'; it must be a number from 0 to 255");
  }
  return static_cast<int>(value);
}

uint8_t* aligned(uint8_t* memory) {
  const auto address = reinterpret_cast<uintptr_t>(memory);
  return memory + (kAlignment - address % kAlignment) % kAlignment;
}

// Zeroed memory. Pages of a large arena take no physical memory before they are used.
uint8_t* allocate(int64_t size) {
  void* memory = std::calloc(static_cast<size_t>(size) + kOverread + kAlignment, 1);
  if (memory == nullptr) throw std::bad_alloc();
  return static_cast<uint8_t*>(memory);
}

// Writes only on change, so that other threads keep the cache line.
template <class T>
void set(T& variable, T value) {
  if (variable != value) variable = value;
}

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

}  // namespace

void Arena::Free::operator()(void* memory) const { std::free(memory); }

Arena::Arena(const Program& program, int poison)
    : size_(program.arena),
      poison_(poison),
      memory_(allocate(program.arena)),
      steps_(std::make_unique<BoundStep[]>(program.steps.size())) {
  for (size_t i = 0; i < program.steps.size(); ++i) {
    steps_[i].bind(program, program.steps[i], aligned(memory_.get()));
    scratch_ = std::max(scratch_, steps_[i].scratch());
  }
}

void Arena::prepare() {
  if (poison_ != kNoPoison) std::memset(aligned(memory_.get()), poison_, static_cast<size_t>(size_) + kOverread);
}

Session::Session(std::shared_ptr<const Model> model, int threads)
    : model_(std::move(model)),
      threads_(threads),
      poison_(read_poison()),
      turns_(turns(model_->program())),
      inputs_(model_->program().inputs.size()),
      outputs_(model_->program().outputs.size()),
      images_{inputs_.data(), outputs_.data()} {
  const Program& program = model_->program();
  make_arena();
  for (int i = 0; i < threads_; ++i) scratch_.emplace_back(static_cast<size_t>(arenas_[0]->scratch()));
  for (const Step& step : program.steps) {
    whole_.push_back(whole(program, step));
    shares_.push_back(shares_of(program, step, threads));
  }
}

Session::~Session() { leave_crew(); }

int64_t Session::bytes() const {
  const int64_t arena = model_->program().arena + static_cast<int64_t>(kOverread + kAlignment);
  const int64_t scratch = threads_ * static_cast<int64_t>(scratch_[0].size());
  return made_ * arena + scratch;  // not arenas_.size(): a run in another thread may be making some
}

void Session::profile(bool on) {
  measure_ = on;
  if (on) seconds_.assign(whole_.size(), 0.0);
}

void Session::run(int64_t batch, const Images& images) {
  if (busy_.exchange(true)) throw std::runtime_error("this session is in use by another thread; make one for each");
  struct Release {
    std::atomic<bool>& busy;
    ~Release() { busy = false; }
  } release{busy_};
  take(images);
  if (threads_ > 1) return run_together(batch);
  for (int64_t image = 0; image < batch; ++image) {
    if (measure_) {
      measure(image);
    } else {
      run_alone(image, 0);
    }
  }
}

void Session::take(const Images& images) {
  for (size_t i = 0; i < inputs_.size(); ++i) set(inputs_[i], images.inputs[i]);
  for (size_t i = 0; i < outputs_.size(); ++i) set(outputs_[i], images.outputs[i]);
}

void Session::make_arena() {
  arenas_.push_back(std::make_unique<Arena>(model_->program(), poison_));
  ++made_;
}

void Session::run_alone(int64_t image, int arena) {
  Arena& own = *arenas_[arena];
  own.prepare();
  for (const Turn& turn : turns_) own.step(turn.step).run(turn.share, images_, image, scratch_[arena].get());
}

void Session::run_together(int64_t batch) {
  start_crew();
  set(alone_, measure_ ? 0 : batch / threads_ * threads_);
  while (alone_ > 0 && arenas_.size() < static_cast<size_t>(threads_)) {
    make_arena();
  }
  if (alone_ > 0) crew_->run(kAlone);
  for (int64_t image = alone_; image < batch; ++image) {
    if (measure_) {
      measure(image);
    } else {
      arenas_[0]->prepare();
      set(image_, image);
      crew_->run(kTogether);
    }
  }
}

void Session::measure(int64_t image) {
  arenas_[0]->prepare();
  image_ = image;
  for (step_ = 0; step_ < whole_.size(); ++step_) {
    const double begin = now();
    if (threads_ > 1) {
      crew_->run(kOneStep);
    } else {
      arenas_[0]->step(step_).run(whole_[step_], images_, image, scratch_[0].get());
    }
    seconds_[step_] += now() - begin;
  }
}

// After a fork the child process has a crew without threads. Nothing can end such a crew, so it is leaked.
void Session::leave_crew() {
  if (process_ != getpid()) static_cast<void>(crew_.release());
  crew_.reset();
}

void Session::start_crew() {
  if (crew_ != nullptr && process_ == getpid()) return;
  leave_crew();
  std::vector<Crew::Job> jobs(3);
  jobs[kAlone].push_back({kAlonePerThread * threads_, false});
  jobs[kTogether] = stages(model_->program(), shares_);
  int most = 0;
  for (const std::vector<Share>& shares : shares_) most = std::max(most, static_cast<int>(shares.size()));
  jobs[kOneStep].push_back({most, false});
  const auto work = [this](int job, int stage, int part, int thread) { this->work(job, stage, part, thread); };
  crew_ = std::make_unique<Crew>(threads_, jobs, work);
  process_ = getpid();
}

void Session::work(int job, int stage, int part, int thread) {
  if (job == kAlone) {
    const int64_t parts = kAlonePerThread * threads_;
    for (int64_t image = part * alone_ / parts; image < (part + 1) * alone_ / parts; ++image) run_alone(image, thread);
    return;
  }
  const size_t step = job == kOneStep ? step_ : static_cast<size_t>(stage);
  const std::vector<Share>& shares = shares_[step];
  if (static_cast<size_t>(part) >= shares.size()) return;
  arenas_[0]->step(step).run(shares[part], images_, image_, scratch_[thread].get());
}

}  // namespace bmx::engine
