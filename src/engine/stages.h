// The steps of a program as a job of threads: which parts must be done when a part of a step begins.
#pragma once

#include <vector>

#include "engine/bound_step.h"
#include "engine/crew.h"

namespace bmx::engine {

// A stage for each step, a part for each of its shares.
Crew::Job stages(const Program& program, const std::vector<std::vector<Share>>& shares);

}  // namespace bmx::engine
