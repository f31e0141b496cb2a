// The gradients of a layer whose weights or data have one bit. They are computed on tiles or by lookup if the layer's
// sizes and the CPU allow it (kernels/training/sign_gradients.h), otherwise as float products (float_layer.h).
#pragma once

#include "kernels/training/sign_gradients.h"
#include "operators/float_layer.h"
#include "operators/workspace.h"

namespace bmx {

class SignGradients {
 public:
  // `binary_weight` and `binary_data` tell which operands are signs.
  SignGradients(const ConvShape& shape, bool binary_weight, bool binary_data, GradientType type, int threads)
      : shape_(shape), type_(type), threads_(threads) {
    const bool fast = kernels().sign_tiles != nullptr || !faster_than_lookups(type);
    const bool has = fast && has_sign_gradients(kernels(), shape);
    of_data_ = has && binary_weight;
    of_weight_ = has && binary_data;
  }

  // Which gradients this object computes.
  bool of_data() const { return of_data_; }
  bool of_weight() const { return of_weight_; }
  bool all() const { return of_data_ && of_weight_; }
  // Call this if the data turn out not to be signs.
  void leave_weight() { of_weight_ = false; }

  // Bytes of workspace.
  size_t bytes() const {
    size_t size = 0;
    if (of_data_) {
      size += Workspace::bytes<uint64_t>(packed_weight_words(shape_)) +
              Workspace::bytes<float>(sign_data_gradient_floats(kernels(), shape_, type_, threads_));
    }
    if (of_weight_) {
      size += Workspace::bytes<uint64_t>(packed_input_words(shape_)) +
              Workspace::bytes<float>(sign_weight_gradient_floats(kernels(), shape_, type_, threads_));
    }
    return size;
  }

  const uint64_t* pack_weight(const float* weight, Workspace* workspace) const {
    auto* words = workspace->take<uint64_t>(packed_weight_words(shape_));
    pack_conv_weight(kernels(), shape_, weight, words, threads_);
    return words;
  }

  void data_gradient(const float* out_grad, const uint64_t* weight, float factor, const SignWindow* window,
                     float* data_grad, Workspace* workspace) const {
    auto* scratch = workspace->take<float>(sign_data_gradient_floats(kernels(), shape_, type_, threads_));
    sign_data_gradient(kernels(), shape_, out_grad, weight, factor, window, data_grad, type_, threads_, scratch);
  }

  // The bits of the data, padded with +1 if `pad_bit`, otherwise with -1. Null if the data are not all signs and
  // `others` says to give up then.
  const uint64_t* pack_data(const float* data, bool pad_bit, OtherValues others, Workspace* workspace) const {
    auto* words = workspace->take<uint64_t>(packed_input_words(shape_));
    const bool signs = pack_conv_input(kernels(), shape_, data, pad_bit, words, threads_, others);
    return signs || others == OtherValues::kTakeSign ? words : nullptr;
  }

  void weight_gradient(const float* out_grad, const uint64_t* words, float factor, float* weight_grad,
                       Workspace* workspace) const {
    auto* scratch = workspace->take<float>(sign_weight_gradient_floats(kernels(), shape_, type_, threads_));
    sign_weight_gradient(kernels(), shape_, out_grad, words, factor, weight_grad, type_, threads_, scratch);
  }

 private:
  const ConvShape shape_;
  const GradientType type_;
  const int threads_;
  bool of_data_, of_weight_;
};

}  // namespace bmx
