#include "engine/session.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <new>
#include <stdexcept>
#include <string>

#ifdef _OPENMP
#include <omp.h>
#endif

namespace bmx::engine {
namespace {

constexpr size_t kAlignment = 64;
constexpr size_t kOverread = 64;  // that kernels may read beyond a tensor
constexpr int kNoPoison = -1;

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

// Zeroed memory: of a large arena the system gives pages that take no room before they are used.
uint8_t* allocate(int64_t size) {
  void* memory = std::calloc(static_cast<size_t>(size) + kOverread + kAlignment, 1);
  if (memory == nullptr) throw std::bad_alloc();
  return static_cast<uint8_t*>(memory);
}

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

}  // namespace

void Arena::Free::operator()(void* memory) const { std::free(memory); }

Arena::Arena(const Program& program, int poison)
    : size_(program.arena),
      poison_(poison),
      memory_(allocate(program.arena)),
      steps_(std::make_unique<BoundStep[]>(program.steps.size())) {
  for (size_t i = 0; i < program.steps.size(); ++i) steps_[i].bind(program, program.steps[i], aligned(memory_.get()));
}

void Arena::prepare() {
  if (poison_ != kNoPoison) std::memset(aligned(memory_.get()), poison_, static_cast<size_t>(size_) + kOverread);
}

Session::Session(std::shared_ptr<const Model> model, int threads)
    : model_(std::move(model)), threads_(threads), poison_(read_poison()) {
  const Program& program = model_->program();
  arenas_.push_back(std::make_unique<Arena>(program, poison_));
  for (const Step& step : program.steps) {
    whole_.push_back(share_of(program, step, 0, 1));
    for (int part = 0; part < threads; ++part) shares_.push_back(share_of(program, step, part, threads));
  }
}

int64_t Session::bytes() const {
  const int64_t arena = model_->program().arena + static_cast<int64_t>(kOverread + kAlignment);
  return static_cast<int64_t>(arenas_.size()) * arena;
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
  if (threads_ > 1) return run_together(batch, images);
  for (int64_t image = 0; image < batch; ++image) {
    if (!measure_) {
      run_alone(images, image, 0);
    } else {
      arenas_[0]->prepare();
      run_part(images, image, 0, 1);
    }
  }
}

void Session::run_alone(const Images& images, int64_t image, int arena) {
  Arena& own = *arenas_[arena];
  own.prepare();
  for (size_t i = 0; i < whole_.size(); ++i) own.step(i).run(whole_[i], images, image);
}

void Session::run_together(int64_t batch, const Images& images) {
  prepare(batch);
#ifdef _OPENMP
#pragma omp parallel num_threads(threads_)
  take_part(batch, images, omp_get_thread_num(), omp_get_num_threads());  // may be fewer
#else
  take_part(batch, images, 0, 1);
#endif
}

int64_t Session::alone(int64_t batch) const { return measure_ ? 0 : batch / threads_ * threads_; }

void Session::prepare(int64_t batch) {
  while (alone(batch) != 0 && arenas_.size() < static_cast<size_t>(threads_)) {
    arenas_.push_back(std::make_unique<Arena>(model_->program(), poison_));
  }
}

void Session::take_part(int64_t batch, const Images& images, int thread, int threads) {
  const int64_t shared = alone(batch);
  for (int64_t image = thread; image < shared; image += threads) run_alone(images, image, thread);
  for (int64_t image = shared; image < batch; ++image) {
    if (image != 0) wait(threads);  // the image before is done, and with it the first arena
    if (poison_ != kNoPoison) {
      if (thread == 0) arenas_[0]->prepare();
      wait(threads);
    }
    run_part(images, image, thread, threads);
  }
}

void Session::wait(int threads) {
  if (threads > 1) barrier_.wait(threads);
}

void Session::run_part(const Images& images, int64_t image, int thread, int threads) {
  const Arena& arena = *arenas_[0];
  const std::vector<bool>& barriers = model_->barriers();
  for (size_t i = 0; i < whole_.size(); ++i) {
    if (barriers[i] || measure_) wait(threads);
    const double begin = measure_ ? now() : 0;
    for (int part = thread; part < threads_; part += threads) {
      arena.step(i).run(shares_[i * threads_ + part], images, image);
    }
    if (measure_) {
      wait(threads);
      if (thread == 0) seconds_[i] += now() - begin;
    }
  }
}

}  // namespace bmx::engine
