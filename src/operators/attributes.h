// Reads an operator's attributes, with BMXNet's names, defaults and ranges. MXNet passes them as strings.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "kernels/training/conv_shape.h"
#include "kernels/training/quantize.h"
#include "operators/float_layer.h"

namespace bmx {

using AttributeMap = std::unordered_map<std::string, std::string>;

enum class ScalingMode { kNone, kForward, kBackward };
enum class GradientMode { kBinary, kLatent };  // bb and bf; ff

// Each constructor throws std::invalid_argument if a value is not allowed, a required attribute is missing, or the
// operator has no attribute of that name.

struct QActivationParam {
  explicit QActivationParam(const AttributeMap& attributes);

  int act_bit = 1;
  bool backward_only = false;
  float gradient_cancel_threshold = 0.5f;  // ours: BMXNet v1 always uses 0.5, v2 1.0 by default
  Estimator estimator = Estimator::kStraightThrough;
};

// What sign_backward does to the gradient of a layer's data.
struct GradientWindow {
  float threshold;
  Estimator estimator;
};

// The attributes that convolution and fully connected layers share.
struct QLayerParam {
  int act_bit = 1;
  int weight_bit = 1;
  bool no_bias = true;
  bool binarized_weights_only = false;
  bool no_offset = false;      // ours: 1/1 bits give the +-1 dot product, not (K + dot) / 2
  bool true_gradient = false;  // ours: the gradient includes the 1/2 of (K + dot) / 2
  bool float_input = false;    // ours: with 1/1 bits, data other than -1 and +1 are multiplied as floats
  GradientMode gradient_mode = GradientMode::kBinary;
  GradientType gradient_type = GradientType::kFloat32;  // ours: arithmetic of the backward pass
  std::optional<GradientWindow> window;                 // ours: replaces a QActivation before the layer

  bool binary() const { return binarized_weights_only || (act_bit == 1 && weight_bit == 1); }
  bool offset() const { return binary() && !no_offset; }
  // Bits that the data are quantized to; 32 means no quantization. Packed weights are multiplied by binarized data.
  int data_bits() const { return float_input ? 32 : (binarized_weights_only ? 1 : act_bit); }
  int num_inputs() const { return no_bias ? 2 : 3; }
  // Factor of the gradients of data and weight.
  float gradient_scale() const { return offset() && true_gradient ? 0.5f : 1.0f; }
};

struct QConvolutionParam : QLayerParam {
  QConvolutionParam(const char* op, const AttributeMap& attributes);

  std::vector<int64_t> kernel, stride, dilate, pad;
  int64_t num_filter = 0;
  int64_t num_group = 1;
  ScalingMode scaling_mode = ScalingMode::kNone;
  float pad_value = 0;  // ours: 0 as BMXNet v1 (sign(0) = +1), or -1 as v2

  // Whether bits are padded with +1.
  bool pad_bit() const { return !(pad_value < 0); }
  // The padding of floats: the quantized pad value.
  float float_padding() const;

  // The geometry for a data shape (batch, channels, spatial...); throws if they do not fit.
  ConvShape shape(const std::vector<int64_t>& data) const;
};

struct QFullyConnectedParam : QLayerParam {
  QFullyConnectedParam(const char* op, const AttributeMap& attributes);

  int64_t num_hidden = 0;
  bool flatten = true;  // ours, as MXNet's FullyConnected
};

struct BatchNormParam {
  explicit BatchNormParam(const AttributeMap& attributes);

  float eps = 1e-3f;  // defaults of MXNet's BatchNorm
  float momentum = 0.9f;
  bool fix_gamma = true;
  bool use_global_stats = false;
};

// For operators without attributes: throws std::invalid_argument if there are any.
void refuse_attributes(const char* op, const AttributeMap& attributes);

struct CompiledParam {
  explicit CompiledParam(const AttributeMap& attributes);

  std::vector<std::vector<int64_t>> data_shapes, output_shapes;  // one per input and output, without the batch
  int64_t labels = 0;                                            // number of inputs that nothing reads
  int64_t size = 0;                                              // bytes of the program

  int num_inputs() const { return static_cast<int>(data_shapes.size()) + static_cast<int>(labels) + 1; }
};

// "(2, 3)", for messages.
std::string to_string(const std::vector<int64_t>& shape);

}  // namespace bmx
