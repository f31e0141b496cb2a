#include "engine/turns.h"

#include <algorithm>

#include "engine/access.h"
#include "engine/stages.h"

namespace bmx::engine {
namespace {

constexpr int64_t kMostWeights = 128 << 10;  // bytes; each band reads them again, from the second-level cache

// Bytes of the largest tensor that a step reads or writes.
int64_t largest_bytes(const Program& program, const Step& step) {
  int64_t largest = 0;
  for (const Access& access : accesses(step)) {
    const Tensor& t = program.tensors[access.tensor];
    if (access.part != Access::Part::kBorder) largest = std::max(largest, t.pixels() * t.pixel_bytes());
  }
  return largest;
}

// Cuts a step into bands of whole rows. It stays whole if its tensors are small or its weights are large.
std::vector<Share> bands_of(const Program& program, const Step& step, int64_t band_bytes) {
  const Share all = whole(program, step);
  const bool rows = step.kind == Kind::kConv || step.kind == Kind::kDepthwise || step.kind == Kind::kPool ||
                    step.kind == Kind::kPoolBits || step.kind == Kind::kMap;
  const int64_t tensors = tensor_bytes(program, step), weights = step.bytes - tensors;
  if (!rows || largest_bytes(program, step) <= 2 * band_bytes || weights > kMostWeights) return {all};
  const int64_t bands = std::min<int64_t>(step.height, (tensors + band_bytes - 1) / band_bytes);
  std::vector<Share> shares(bands, all);
  for (int64_t band = 0; band < bands; ++band) {
    shares[band].first = step.height * band / bands * step.width;
    shares[band].last = step.height * (band + 1) / bands * step.width;
  }
  return shares;
}

// The end of the chain of banded steps that begins at `first`. FILLs may lie between them. A single banded step is no
// chain, because it gains nothing.
int chain_end(const Program& program, const std::vector<std::vector<Share>>& shares, int first) {
  int last = first, cut = 0;
  for (int step = first; step < static_cast<int>(shares.size()); ++step) {
    if (shares[step].size() > 1) {
      last = step + 1;
      ++cut;
    } else if (program.steps[step].kind != Kind::kFill) {
      break;
    }
  }
  return cut > 1 ? last : first;
}

// Orders the bands of the steps first <= step < last: the next band is always that of the latest step that is ready.
class Chain {
 public:
  Chain(const Crew::Job& job, const std::vector<std::vector<Share>>& shares, int first, int last, bool upwards)
      : job_(job), shares_(shares), first_(first), last_(last), upwards_(upwards), taken_(last, 0) {
    for (int step = next(); step != last_; step = next()) take(step);
  }

  const std::vector<Turn>& order() const { return order_; }
  // How many bands each step is behind the step before it, summed over all steps and turns.
  double lag() const { return lag_; }

 private:
  int next() const {
    int found = last_;
    bool all_before = true;
    for (int step = first_; step < last_ && (all_before || !job_[step].wait); ++step) {
      const bool all = taken_[step] == job_[step].parts;
      if (!all && may_come(step)) found = step;
      all_before = all_before && all;
    }
    return found;
  }

  bool may_come(int step) const {
    const std::vector<Crew::Need>& needs = job_[step].needs[band(step)];
    return std::all_of(needs.begin(), needs.end(), [&](const Crew::Need& need) {
      if (need.stage < first_) return true;
      return taken_[need.stage] >= (upwards_ ? job_[need.stage].parts - need.first : need.last);
    });
  }

  int band(int step) const { return upwards_ ? job_[step].parts - 1 - taken_[step] : taken_[step]; }

  void take(int step) {
    order_.push_back({step, shares_[step][band(step)]});
    ++taken_[step];
    for (int before = first_; before + 1 < last_; ++before) {
      const double behind = static_cast<double>(taken_[before + 1]) / job_[before + 1].parts;
      lag_ += taken_[before] - behind * job_[before].parts;
    }
  }

  const Crew::Job& job_;
  const std::vector<std::vector<Share>>& shares_;
  const int first_, last_;
  const bool upwards_;
  std::vector<int> taken_;  // number of bands taken, for each step
  std::vector<Turn> order_;
  double lag_ = 0;
};

// Goes from the top or from the bottom, whichever lags less. If a step's results take the place of another step's
// input, the first rows written often lie where the last rows read lie; one direction then has to wait for all of the
// input.
std::vector<Turn> chain_turns(const Crew::Job& job, const std::vector<std::vector<Share>>& shares, int first,
                              int last) {
  const Chain down(job, shares, first, last, false), up(job, shares, first, last, true);
  return up.lag() < down.lag() ? up.order() : down.order();
}

}  // namespace

std::vector<Turn> turns(const Program& program, int64_t band_bytes) {
  const auto steps = static_cast<int>(program.steps.size());
  std::vector<std::vector<Share>> shares;
  for (const Step& step : program.steps) shares.push_back(bands_of(program, step, band_bytes));
  std::vector<int> end(steps);
  bool any = false;
  for (int step = 0; step < steps; ++step) {
    end[step] = std::max(step + 1, chain_end(program, shares, step));
    any = any || end[step] > step + 1;
    for (; step + 1 < end[step]; ++step) end[step + 1] = end[step];
  }
  const Crew::Job job = any ? stages(program, shares) : Crew::Job();
  std::vector<Turn> order;
  for (int step = 0; step < steps; step = end[step]) {
    if (end[step] > step + 1) {
      const std::vector<Turn> chain = chain_turns(job, shares, step, end[step]);
      order.insert(order.end(), chain.begin(), chain.end());
    } else {
      order.push_back({step, whole(program, program.steps[step])});
    }
  }
  return order;
}

}  // namespace bmx::engine
