#include "operators/mxnet.h"

#include <algorithm>
#include <cstring>

#include "operators/attributes.h"

namespace bmx {
namespace {

thread_local std::string pending_error;
thread_local std::string shown_error;

bool is_word(int type) {
  return type == mxnet::ext::kFloat32 || type == mxnet::ext::kFloat64 || type == mxnet::ext::kInt32 ||
         type == mxnet::ext::kInt64;
}

}  // namespace

void set_mxnet_error(const std::string& message) { pending_error = message; }

namespace {

mxnet::ext::CustomOp& add_operator(const char* name, const Inference& inference) {
  mxnet::ext::CustomOp& op = mxnet::ext::Registry<mxnet::ext::CustomOp>::get()->add(name);
  op.setParseAttrs(inference.parse_attributes)
      .setInferType(inference.type)
      .setInferSType(infer_dense)
      .setInferShape(inference.shape);
  if (inference.mutate_inputs != nullptr) op.setMutateInputs(inference.mutate_inputs);
  return op;
}

}  // namespace

bool register_operator(std::initializer_list<const char*> names, mxnet::ext::fcomp_t forward,
                       mxnet::ext::fcomp_t backward, const Inference& inference) {
  for (const char* name : names) add_operator(name, inference).setForward(forward, "cpu").setBackward(backward, "cpu");
  return true;
}

bool register_operator(std::initializer_list<const char*> names, mxnet::ext::createOpState_t create,
                       const Inference& inference) {
  for (const char* name : names) add_operator(name, inference).setCreateOpState(create, "cpu");
  return true;
}

void infer_float32(std::initializer_list<const char*> names, bool words, std::vector<int>* in_types,
                   std::vector<int>* out_types) {
  size_t i = 0;
  for (const char* name : names) {
    if (i == in_types->size()) break;
    int& type = in_types->at(i);
    if (type < 0) type = mxnet::ext::kFloat32;
    const bool packed = words && i == 1;
    if (type != mxnet::ext::kFloat32 && !(packed && is_word(type))) {
      throw std::invalid_argument(std::string(name) + (packed
                                                           ? " must be packed words in float32, float64, int32 or int64"
                                                           : " must be float32; cast it with astype('float32')"));
    }
    ++i;
  }
  out_types->at(0) = mxnet::ext::kFloat32;
}

mxnet::ext::MXReturnValue infer_dense(const AttributeMap&, std::vector<int>* in_storage,
                                      std::vector<int>* out_storage) {
  return guarded("bmx", [&] {
    for (int& storage : *in_storage) {
      if (storage > mxnet::ext::kDefaultStorage)
        throw std::invalid_argument("arrays must be dense; use tostype('default')");
      storage = mxnet::ext::kDefaultStorage;
    }
    for (int& storage : *out_storage) storage = mxnet::ext::kDefaultStorage;
  });
}

void assign_shape(const char* name, const std::vector<int64_t>& wanted, Shape* shape) {
  bool fits = shape->empty() || shape->size() == wanted.size();
  for (size_t i = 0; fits && i < shape->size(); ++i) fits = (*shape)[i] == kUnknown || (*shape)[i] == wanted[i];
  if (!fits) {
    throw std::invalid_argument(std::string(name) + " has shape " + to_string(to_int64(*shape)) + "; it must be " +
                                to_string(wanted));
  }
  shape->assign(wanted.begin(), wanted.end());
}

std::vector<int64_t> known_data_shape(const Shape& data) {
  const std::vector<int64_t> dims = to_int64(data);
  if (dims.empty() || std::find(dims.begin(), dims.end(), -1) != dims.end()) {
    throw std::invalid_argument("the shape of data is not known; give it to bind, infer_shape or the Variable");
  }
  return dims;
}

Planes planes_of(const std::vector<int64_t>& data) {
  if (data.size() < 2)
    throw std::invalid_argument("data has shape " + to_string(data) + "; it must be (batch, channels, ...)");
  Planes planes{data[0], data[1], 1};
  for (size_t i = 2; i < data.size(); ++i) planes.pixels *= data[i];
  return planes;
}

void assign_packed_shape(const std::vector<int64_t>& wanted, size_t words32, size_t words64, Shape* shape) {
  bool unknown = shape->size() == wanted.size() && std::count(shape->begin(), shape->end(), kUnknown) > 0;
  for (size_t i = 0; unknown && i < wanted.size(); ++i) unknown = shape->at(i) == kUnknown || shape->at(i) == wanted[i];
  if (shape->empty() || unknown) {
    shape->assign(wanted.begin(), wanted.end());
    return;
  }
  size_t size = 1;
  for (unsigned dim : *shape) size *= dim;
  if (size != words32 && size != words64) {
    throw std::invalid_argument("weight has shape " + to_string(to_int64(*shape)) + ", " + std::to_string(size) +
                                " packed words; it must have " + std::to_string(words32) + " words of 32 bits or " +
                                std::to_string(words64) + " of 64");
  }
}

}  // namespace bmx

// lib_api.cc keeps every message forever, shows all of them with each error, and copies all of them at each later call:
// after one error, every step would get slower. So the build renames its two functions (CMakeLists.txt), and these
// replacements show the message of this thread's last failure once.
extern "C" {

__attribute__((visibility("default"))) int _msgSize() { return bmx::pending_error.empty() ? 0 : 1; }

__attribute__((visibility("default"))) void _msgGet(int, const char** message) {
  bmx::shown_error.swap(bmx::pending_error);
  bmx::pending_error.clear();
  *message = bmx::shown_error.c_str();
}
}
