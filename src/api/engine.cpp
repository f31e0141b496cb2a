// Models and sessions of the C API.
#include <algorithm>
#include <memory>
#include <stdexcept>
#include <string>

#include "api/guarded.h"
#include "bmx.h"
#include "engine/model.h"
#include "engine/session.h"

using bmx::api::given;
using bmx::api::guarded;
namespace engine = bmx::engine;

struct bmx_model {
  std::shared_ptr<const engine::Model> model;
};

struct bmx_session {
  engine::Session session;
};

namespace {

constexpr int kMostThreads = 1024;

template <class T>
const T& element(const std::vector<T>& all, int index, const char* what) {
  if (index < 0 || static_cast<size_t>(index) >= all.size()) {
    throw std::invalid_argument("there is no " + std::string(what) + " " + std::to_string(index) + " of " +
                                std::to_string(all.size()));
  }
  return all[index];
}

const engine::Program& program(const bmx_model* model) { return given(model, "model")->model->program(); }

template <class T>
int count(const bmx_model* model, std::vector<T> engine::Program::* all) {
  return model == nullptr ? 0 : static_cast<int>((program(model).*all).size());
}

bmx_array describe(const engine::Array& array) {
  bmx_array description{array.name, array.dims, {}, array.size};
  std::copy(array.shape.begin(), array.shape.end(), description.shape);
  return description;
}

template <class T>
void check_arrays(const std::vector<engine::Array>& arrays, T* const* pointers, const char* what) {
  if (arrays.empty()) return;
  given(pointers, what);
  for (size_t i = 0; i < arrays.size(); ++i) {
    if (pointers[i] == nullptr) throw std::invalid_argument(what + (" '" + std::string(arrays[i].name)) + "' is NULL");
  }
}

}  // namespace

extern "C" {

int bmx_model_load(const char* path, bmx_model** model) {
  return guarded([&] {
    given(model, "model");
    *model = new bmx_model{engine::Model::load(given(path, "path"))};
  });
}

int bmx_model_from_memory(const void* bytes, size_t size, bmx_model** model) {
  return guarded([&] {
    given(model, "model");
    *model = new bmx_model{engine::Model::copy(given(bytes, "bytes"), size)};
  });
}

void bmx_model_free(bmx_model* model) { delete model; }

const char* bmx_model_name(const bmx_model* model) { return model == nullptr ? "" : program(model).name; }
int bmx_model_num_inputs(const bmx_model* model) { return count(model, &engine::Program::inputs); }
int bmx_model_num_outputs(const bmx_model* model) { return count(model, &engine::Program::outputs); }
int bmx_model_num_steps(const bmx_model* model) { return count(model, &engine::Program::steps); }

int bmx_model_input(const bmx_model* model, int index, bmx_array* input) {
  return guarded([&] { *given(input, "input") = describe(element(program(model).inputs, index, "input")); });
}

int bmx_model_output(const bmx_model* model, int index, bmx_array* output) {
  return guarded([&] { *given(output, "output") = describe(element(program(model).outputs, index, "output")); });
}

int bmx_model_step(const bmx_model* model, int index, bmx_step* step) {
  return guarded([&] {
    const engine::Step& s = element(program(model).steps, index, "step");
    *given(step, "step") = {s.name, engine::kind_name(s.kind), s.macs, s.bytes};
  });
}

int bmx_session_new(const bmx_model* model, int threads, bmx_session** session) {
  return guarded([&] {
    if (threads < 1 || threads > kMostThreads) {
      throw std::invalid_argument("threads is " + std::to_string(threads) + "; allowed: 1 to " +
                                  std::to_string(kMostThreads));
    }
    given(session, "session");
    *session = new bmx_session{engine::Session(given(model, "model")->model, threads)};
  });
}

void bmx_session_free(bmx_session* session) { delete session; }

int bmx_session_run(bmx_session* session, int64_t batch, const float* const* inputs, float* const* outputs) {
  return guarded([&] {
    engine::Session& s = given(session, "session")->session;
    if (batch < 0) throw std::invalid_argument("batch is " + std::to_string(batch) + "; it must be 0 or more");
    if (batch == 0) return;
    check_arrays(s.model().program().inputs, inputs, "input");
    check_arrays(s.model().program().outputs, outputs, "output");
    s.run(batch, {inputs, outputs});
  });
}

int64_t bmx_session_bytes(const bmx_session* session) { return session == nullptr ? 0 : session->session.bytes(); }

int bmx_session_profile(bmx_session* session, int on) {
  return guarded([&] { given(session, "session")->session.profile(on != 0); });
}

int bmx_session_seconds(const bmx_session* session, int index, double* seconds) {
  return guarded([&] {
    *given(seconds, "seconds") = element(given(session, "session")->session.seconds(), index, "measured step");
  });
}

}  // extern "C"
