// bmx_Compiled: a whole compiled network as one operator, forward only.
//
// The inputs are those of the network, in the order of its file; then labels, which nothing reads but Module looks for;
// then `program`, the bytes of the .bmx file (docs/format.md). The program never changes, but it is an auxiliary state:
// such arrays have no gradient, so a compiled network can stand in front of layers that are trained.
#include <algorithm>
#include <map>
#include <memory>
#include <mutex>

#include "engine/model.h"
#include "engine/session.h"
#include "operators/attributes.h"
#include "operators/mxnet.h"

namespace {

using namespace bmx;
using namespace mxnet::ext;

using ModelPtr = std::shared_ptr<const engine::Model>;

constexpr int64_t kHeader = 128;  // bytes of a .bmx file's header, which has the file's size and checksum
constexpr int kMostThreads = 64;

std::string header(const MXTensor& program) {
  return std::string(static_cast<const char*>(program.data_ptr), std::min(program.size(), kHeader));
}

// Models by the headers of their files, for as long as an operator uses them. Executors for several batch sizes share
// one.
ModelPtr find_model(const MXTensor& program) {
  static std::mutex mutex;
  static std::map<std::string, std::weak_ptr<const engine::Model>> models;
  std::lock_guard<std::mutex> lock(mutex);
  for (auto i = models.begin(); i != models.end();) i = i->second.expired() ? models.erase(i) : std::next(i);
  std::weak_ptr<const engine::Model>& known = models[header(program)];
  ModelPtr model = known.lock();
  if (model == nullptr) {
    model = engine::Model::copy(program.data_ptr, static_cast<size_t>(program.size()));
    known = model;
  }
  return model;
}

// The attributes give the sizes of the arrays that the program reads and writes, so they must agree with the program.
void check_shapes(const char* what, const std::vector<engine::Array>& arrays,
                  const std::vector<std::vector<int64_t>>& shapes) {
  bool equal = arrays.size() == shapes.size();
  for (size_t i = 0; equal && i < arrays.size(); ++i) {
    equal = std::vector<int64_t>(arrays[i].shape.begin(), arrays[i].shape.begin() + arrays[i].dims) == shapes[i];
  }
  if (!equal) {
    throw std::invalid_argument(std::string(what) + " does not match the program; take symbol and parameters from " +
                                "the same compilation");
  }
}

class Compiled final : public CustomStatefulOp {
 public:
  explicit Compiled(CompiledParam param) : param_(std::move(param)) {}

  MXReturnValue Forward(std::vector<MXTensor>* inputs, std::vector<MXTensor>* outputs, const OpResource&) override {
    return guarded("bmx_Compiled", [&] {
      std::vector<const float*> in;
      for (size_t i = 0; i < param_.data_shapes.size(); ++i) in.push_back(floats(inputs->at(i)));
      std::vector<float*> out;
      for (MXTensor& tensor : *outputs) out.push_back(floats(tensor));
      const int64_t batch = inputs->at(0).shape.at(0);
      std::unique_ptr<engine::Session> session = take(inputs->back());
      if (batch > 0) session->run(batch, {in.data(), out.data()});
      give_back(std::move(session));
    });
  }

  MXReturnValue Backward(std::vector<MXTensor>*, std::vector<MXTensor>*, const OpResource&) override {
    return guarded("bmx_Compiled", [&] {
      throw std::invalid_argument("a compiled network has no gradients; train the network that it was compiled from");
    });
  }

 private:
  // A session of the program that nobody else uses; it is made if there is none. If the header, which has the checksum,
  // is the same as in the last call, the program is taken to be the same.
  std::unique_ptr<engine::Session> take(const MXTensor& program) {
    const int threads = std::min(num_threads(), kMostThreads);
    std::lock_guard<std::mutex> lock(mutex_);
    if (model_ == nullptr || header(program) != header_ || threads != threads_) {
      ModelPtr model = find_model(program);
      check_shapes("data_shapes", model->program().inputs, param_.data_shapes);
      check_shapes("output_shapes", model->program().outputs, param_.output_shapes);
      free_.clear();
      model_ = std::move(model);
      header_ = header(program);
      threads_ = threads;
    }
    if (free_.empty()) return std::make_unique<engine::Session>(model_, threads);
    std::unique_ptr<engine::Session> session = std::move(free_.back());
    free_.pop_back();
    return session;
  }

  void give_back(std::unique_ptr<engine::Session> session) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (&session->model() == model_.get() && session->threads() == threads_) free_.push_back(std::move(session));
  }

  const CompiledParam param_;
  std::mutex mutex_;
  ModelPtr model_;
  std::string header_;
  int threads_ = 0;
  std::vector<std::unique_ptr<engine::Session>> free_;
};

MXReturnValue parse_attributes(const AttributeMap& attributes, int* num_inputs, int* num_outputs) {
  return guarded("bmx_Compiled", [&] {
    const CompiledParam param(attributes);
    *num_inputs = param.num_inputs();
    *num_outputs = static_cast<int>(param.output_shapes.size());
  });
}

MXReturnValue infer_type(const AttributeMap& attributes, std::vector<int>* in_types, std::vector<int>* out_types) {
  return guarded("bmx_Compiled", [&] {
    const size_t data = CompiledParam(attributes).data_shapes.size();
    for (size_t i = 0; i + 1 < in_types->size(); ++i) {
      if (in_types->at(i) < 0) in_types->at(i) = kFloat32;
      if (i < data && in_types->at(i) != kFloat32) {
        throw std::invalid_argument("data must be float32; cast it with astype('float32')");
      }
    }
    if (in_types->back() < 0) in_types->back() = kUint8;
    if (in_types->back() != kUint8) throw std::invalid_argument("the program must be bytes, uint8; do not cast it");
    std::fill(out_types->begin(), out_types->end(), kFloat32);
  });
}

MXReturnValue infer_shape(const AttributeMap& attributes, std::vector<Shape>* in_shapes,
                          std::vector<Shape>* out_shapes) {
  return guarded("bmx_Compiled", [&] {
    const CompiledParam param(attributes);
    unsigned batch = kUnknown;
    for (size_t i = 0; i < param.data_shapes.size() && batch == kUnknown; ++i) {
      if (!in_shapes->at(i).empty()) batch = in_shapes->at(i)[0];
    }
    known_data_shape({batch});
    auto with_batch = [&](const std::vector<int64_t>& shape) {
      std::vector<int64_t> whole{batch};
      whole.insert(whole.end(), shape.begin(), shape.end());
      return whole;
    };
    for (size_t i = 0; i < param.data_shapes.size(); ++i) {
      assign_shape("data", with_batch(param.data_shapes[i]), &in_shapes->at(i));
    }
    for (size_t i = param.data_shapes.size(); i + 1 < in_shapes->size(); ++i) {
      Shape& label = in_shapes->at(i);
      if (label.empty()) label = {batch};
      if (label[0] == kUnknown) label[0] = batch;
    }
    assign_shape("the program", {param.size}, &in_shapes->back());
    for (size_t i = 0; i < param.output_shapes.size(); ++i) {
      const std::vector<int64_t> shape = with_batch(param.output_shapes[i]);
      out_shapes->at(i).assign(shape.begin(), shape.end());
    }
  });
}

MXReturnValue mutate_inputs(const AttributeMap& attributes, std::vector<int>* inputs) {
  return guarded("bmx_Compiled", [&] { *inputs = {CompiledParam(attributes).num_inputs() - 1}; });
}

MXReturnValue create(const AttributeMap& attributes, const MXContext&, const std::vector<Shape>&,
                     const std::vector<int>, CustomStatefulOp** op) {
  return guarded("bmx_Compiled", [&] { *op = CustomStatefulOp::create<Compiled>(CompiledParam(attributes)); });
}

[[maybe_unused]] const bool kRegistered =
    register_operator({"bmx_Compiled"}, create, {parse_attributes, infer_type, infer_shape, mutate_inputs});

}  // namespace
