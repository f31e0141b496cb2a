// The order in which one thread takes the bands of steps: it must not change a number, and it must be worth having.
#include "engine/turns.h"

#include <algorithm>

#include "engine_run.h"
#include "sample_network.h"
#include "test.h"

namespace {

using namespace test;
using namespace bmx::engine;

bool by_step(const Turn& a, const Turn& b) { return a.step < b.step; }

TEST(bands_in_their_order_do_not_change_results) {
  Random random(5);
  int interleaved = 0;
  for (const int channels : {3, 17, 70, 128}) {
    const std::vector<uint8_t> file = sample_network(channels).file();
    const auto model = Model::copy(file.data(), file.size());
    const Program& program = model->program();
    Session session(model, 1);
    for (const int64_t band_bytes : {64, 700, 3000, 20000}) {
      const std::vector<Turn> order = turns(program, band_bytes);
      interleaved += !std::is_sorted(order.begin(), order.end(), by_step);
      std::vector<const float*> inputs(program.inputs.size());
      std::vector<float*> outputs(program.outputs.size());
      const Arrays in = images(*model, 1, &random), expected = run(&session, in, 1);
      Arrays found = expected;
      for (size_t i = 0; i < in.size(); ++i) inputs[i] = in[i].data();
      for (size_t i = 0; i < found.size(); ++i) {
        std::fill(found[i].begin(), found[i].end(), -12345.0f);
        outputs[i] = found[i].data();
      }
      Arena arena(program, 255);
      arena.prepare();
      bmx::Buffer<uint8_t> scratch(static_cast<size_t>(arena.scratch()));
      for (const Turn& turn : order) {
        arena.step(turn.step).run(turn.share, {inputs.data(), outputs.data()}, 0, scratch.get());
      }
      CHECK(same(found, expected), std::to_string(channels) + " channels, bands of " + std::to_string(band_bytes));
    }
  }
  CHECK(interleaved > 4, std::to_string(interleaved));
}

TEST(the_bands_of_a_step_are_all_of_it_once) {
  for (const int channels : {3, 70}) {
    const std::vector<uint8_t> file = sample_network(channels).file();
    const auto model = Model::copy(file.data(), file.size());
    const Program& program = model->program();
    for (const int64_t band_bytes : {64, 3000, 1 << 20}) {
      std::vector<Turn> order = turns(program, band_bytes);
      const bool small = band_bytes == 1 << 20;
      CHECK(!small || order.size() == program.steps.size(), "small networks are not cut");
      std::sort(order.begin(), order.end(), [](const Turn& a, const Turn& b) {
        return a.step != b.step ? a.step < b.step : a.share.first < b.share.first;
      });
      size_t next = 0;
      for (size_t step = 0; step < program.steps.size(); ++step) {
        const Share all = whole(program, program.steps[step]);
        int64_t at = all.first;
        for (; next < order.size() && order[next].step == static_cast<int>(step); ++next) {
          const Share& share = order[next].share;
          CHECK(share.first == at && share.first_filter == all.first_filter && share.last_filter == all.last_filter,
                "");
          at = share.last;
        }
        CHECK(at == all.last, program.steps[step].name);
      }
    }
  }
}

}  // namespace
