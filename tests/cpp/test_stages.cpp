// Which parts of the steps may run at the same time: threads that are held up at random, before parts of random steps,
// must not change a number.
#include "engine/stages.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>

#include "engine_run.h"
#include "sample_network.h"
#include "test.h"

namespace {

using namespace test;
using namespace bmx::engine;

uint32_t mixed(uint32_t x) {
  x = (x ^ (x >> 15)) * 2246822519u;
  return (x ^ (x >> 13)) * 3266489917u;
}

TEST(parts_that_are_held_up_do_not_change_results) {
  Random random(12);
  for (const int channels : {3, 17, 70, 128}) {
    const std::vector<uint8_t> file = sample_network(channels).file();
    const auto model = Model::copy(file.data(), file.size());
    const Program& program = model->program();
    Session alone(model, 1);
    for (const int threads : {2, 3, 5}) {
      std::vector<std::vector<Share>> shares;
      for (const Step& step : program.steps) shares.push_back(shares_of(program, step, threads));
      Arena arena(program, 255);
      std::vector<bmx::Buffer<uint8_t>> scratch;
      for (int i = 0; i < threads; ++i) scratch.emplace_back(static_cast<size_t>(arena.scratch()));
      std::vector<const float*> inputs(program.inputs.size());
      std::vector<float*> outputs(program.outputs.size());
      const Images images{inputs.data(), outputs.data()};
      std::atomic<uint32_t> round{0};
      Crew crew(threads, {stages(program, shares)}, [&](int, int stage, int part, int thread) {
        const uint32_t delay = mixed(round * 31337u + stage * 7919u + part * 104729u + thread * 101u);
        if (delay % 3 == 0) usleep(delay / 3 % 300);
        arena.step(stage).run(shares[stage][part], images, 0, scratch[thread].get());
      });
      for (; round < 12; ++round) {
        const Arrays in = test::images(*model, 1, &random), expected = run(&alone, in, 1);
        Arrays found = expected;
        for (size_t i = 0; i < in.size(); ++i) inputs[i] = in[i].data();
        for (size_t i = 0; i < found.size(); ++i) {
          std::fill(found[i].begin(), found[i].end(), -12345.0f);
          outputs[i] = found[i].data();
        }
        arena.prepare();
        crew.run(0);
        CHECK(same(found, expected), std::to_string(channels) + " channels, " + std::to_string(threads) + " threads");
      }
    }
  }
}

}  // namespace
