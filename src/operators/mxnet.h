// The boundary to MXNet: wraps lib_api.h and turns exceptions into MXNet's error messages.
#pragma once

#include <omp.h>

#include <exception>
#include <initializer_list>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernels/training/planes.h"
#include "mxnet/lib_api.h"

namespace bmx {

// Sets the message that MXNet shows for a failed call of this thread.
void set_mxnet_error(const std::string& message);

// Runs f; an exception becomes MX_FAIL with the message "<op>: <what>".
template <class F>
mxnet::ext::MXReturnValue guarded(const char* op, F f) {
  try {
    f();
    return mxnet::ext::MX_SUCCESS;
  } catch (const std::bad_alloc&) {
    set_mxnet_error(std::string(op) + ": not enough memory for the arrays of this layer");
    return mxnet::ext::MX_FAIL;
  } catch (const std::exception& e) {
    const std::string what = e.what(), prefix = std::string(op) + ": ";
    set_mxnet_error(what.compare(0, prefix.size(), prefix) == 0 ? what : prefix + what);
    return mxnet::ext::MX_FAIL;
  }
}

// MXNet gives each worker thread a share of the cores (OMP_NUM_THREADS if set). We use the same number.
inline int num_threads() { return omp_get_max_threads(); }

inline float* floats(mxnet::ext::MXTensor& tensor) { return tensor.data<float>(); }

// The functions that MXNet calls before it runs an operator. Storage is always dense (infer_dense).
struct Inference {
  mxnet::ext::parseAttrs_t parse_attributes;
  mxnet::ext::inferType_t type;
  mxnet::ext::inferShape_t shape;
  mxnet::ext::mutateInputs_t mutate_inputs = nullptr;
};

// Registers an operator for the CPU under all its names. It consists of two functions, or of one function that makes an
// object with state. Called in the initializer of a constant, so it runs when the library is loaded.
bool register_operator(std::initializer_list<const char*> names, mxnet::ext::fcomp_t forward,
                       mxnet::ext::fcomp_t backward, const Inference& inference);
bool register_operator(std::initializer_list<const char*> names, mxnet::ext::createOpState_t create,
                       const Inference& inference);

// Empty if MXNet does not know the shape; a dimension that it does not know is kUnknown.
using Shape = std::vector<unsigned>;
constexpr unsigned kUnknown = ~0u;

inline std::vector<int64_t> to_int64(const Shape& shape) {
  std::vector<int64_t> dims;
  for (unsigned dim : shape) dims.push_back(dim == kUnknown ? -1 : static_cast<int64_t>(dim));
  return dims;
}

// The shape of the data. Throws if any of it is unknown, because all other shapes follow from it.
std::vector<int64_t> known_data_shape(const Shape& data);

// The planes of data of at least 2 dimensions, (batch, channels, ...).
Planes planes_of(const std::vector<int64_t>& data);

// Inputs must be float32: an unknown type becomes float32, any other is an error. With `words`, input 1 holds packed
// words and may also be float64, int32 or int64.
void infer_float32(std::initializer_list<const char*> names, bool words, std::vector<int>* in_types,
                   std::vector<int>* out_types);

// Arrays must be dense: unknown storage becomes dense, a sparse array is an error.
mxnet::ext::MXReturnValue infer_dense(const std::unordered_map<std::string, std::string>& attributes,
                                      std::vector<int>* in_storage, std::vector<int>* out_storage);

// Sets *shape to `wanted` if it is unknown. Throws if it is known and different.
void assign_shape(const char* name, const std::vector<int64_t>& wanted, Shape* shape);

// Sets the shape of packed words if it is unknown: as BMXNet declares it, in 32-bit words. A known shape stays if it
// has as many elements as there are words of 32 or of 64 bits. Otherwise this throws.
void assign_packed_shape(const std::vector<int64_t>& wanted, size_t words32, size_t words64, Shape* shape);

}  // namespace bmx
