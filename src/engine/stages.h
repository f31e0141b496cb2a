// The steps of a program as a job for threads: which parts must be done before a part of a step begins.
#pragma once

#include <vector>

#include "engine/bound_step.h"
#include "engine/crew.h"

namespace bmx::engine {

// One stage per step, one part per share of the step.
Crew::Job stages(const Program& program, const std::vector<std::vector<Share>>& shares);

}  // namespace bmx::engine
