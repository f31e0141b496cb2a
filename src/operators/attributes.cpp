#include "operators/attributes.h"

#include <cctype>
#include <cerrno>
#include <climits>
#include <cmath>
#include <cstdlib>
#include <initializer_list>
#include <set>
#include <stdexcept>

namespace bmx {
namespace {

// Reads attributes from a map by name and type. At the end it knows which ones nobody has read.
class Reader {
 public:
  Reader(std::string op, const AttributeMap& attributes) : op_(std::move(op)), attributes_(attributes) {}

  [[noreturn]] void fail(const std::string& name, const std::string& allowed) const {
    throw std::invalid_argument(op_ + ": " + name + " is '" + attributes_.at(name) + "'; allowed: " + allowed);
  }

  const std::string* take(const std::string& name) {
    known_.insert(name);
    const auto found = attributes_.find(name);
    return found == attributes_.end() || found->second == "None" ? nullptr : &found->second;
  }

  void ignore(std::initializer_list<const char*> names) {
    for (const char* name : names) take(name);
  }

  void require(const char* name) const {
    if (attributes_.count(name) == 0) throw std::invalid_argument(op_ + ": " + name + " must be given");
  }

  int64_t integer(const char* name, int64_t value, int64_t low, int64_t high) {
    const std::string* text = take(name);
    if (text == nullptr) return value;
    const std::string allowed = std::to_string(low) + ".." + std::to_string(high);
    char* end = nullptr;
    errno = 0;
    const long long parsed = std::strtoll(text->c_str(), &end, 10);
    if (end == text->c_str() || *end != '\0' || errno != 0 || parsed < low || parsed > high) fail(name, allowed);
    return parsed;
  }

  float real(const char* name, float value, float low, float high) {
    const std::string* text = take(name);
    if (text == nullptr) return value;
    char* end = nullptr;
    const float parsed = std::strtof(text->c_str(), &end);
    if (end == text->c_str() || *end != '\0' || !(parsed >= low && parsed <= high)) {
      fail(name, "a number from " + std::to_string(low) + " to " + std::to_string(high));
    }
    return parsed;
  }

  bool boolean(const char* name, bool value) {
    const std::string* text = take(name);
    if (text == nullptr) return value;
    if (*text == "True" || *text == "true" || *text == "1") return true;
    if (*text == "False" || *text == "false" || *text == "0") return false;
    fail(name, "True, False");
  }

  size_t choice(const char* name, size_t value, const std::vector<std::string>& names) {
    const std::string* text = take(name);
    if (text == nullptr) return value;
    std::string allowed;
    for (size_t i = 0; i < names.size(); ++i) {
      if (*text == names[i]) return i;
      allowed += (i == 0 ? "" : ", ") + names[i];
    }
    fail(name, allowed);
  }

  // "(3, 3)", "[3, 3]", "3"; empty if absent or "()".
  std::vector<int64_t> tuple(const char* name, int64_t low) {
    const std::string* text = take(name);
    std::vector<int64_t> values;
    if (text == nullptr) return values;
    const std::string allowed = "one to three integers, at least " + std::to_string(low) + " and below 2^20";
    const char* p = text->c_str();
    while (*p != '\0') {
      if (std::isspace(static_cast<unsigned char>(*p)) || *p == '(' || *p == ')' || *p == '[' || *p == ']' ||
          *p == ',' || *p == 'L') {
        ++p;
        continue;
      }
      char* end = nullptr;
      const long long parsed = std::strtoll(p, &end, 10);
      if (end == p || parsed < low || parsed >= (1 << 20)) fail(name, allowed);
      values.push_back(parsed);
      p = end;
    }
    if (values.size() > 3) fail(name, allowed);
    return values;
  }

  // "((3, 224, 224), (10,))": one or more shapes of up to four sizes; empty if absent.
  std::vector<std::vector<int64_t>> shapes(const char* name) {
    const std::string* text = take(name);
    std::vector<std::vector<int64_t>> all;
    if (text == nullptr) return all;
    const std::string allowed = "one or more tuples of up to four integers from 1 to 2^30";
    int depth = 0;
    for (const char* p = text->c_str(); *p != '\0';) {
      if (std::isdigit(static_cast<unsigned char>(*p))) {
        char* end = nullptr;
        const long long parsed = std::strtoll(p, &end, 10);
        if (depth != 2 || parsed < 1 || parsed > (1 << 30)) fail(name, allowed);
        all.back().push_back(parsed);
        p = end;
        continue;
      }
      if (*p == '(' && ++depth == 2) all.emplace_back();
      if (*p == ')') --depth;
      const bool known = *p == '(' || *p == ')' || *p == ',' || std::isspace(static_cast<unsigned char>(*p));
      if (!known || depth < 0 || depth > 2) fail(name, allowed);
      ++p;
    }
    for (const std::vector<int64_t>& shape : all) {
      if (shape.size() > 4) fail(name, allowed);
    }
    if (all.empty() || depth != 0) fail(name, allowed);
    return all;
  }

  // MXNet's own annotations (such as __lr_mult__) are not attributes of the operator.
  void finish() const {
    for (const auto& [name, value] : attributes_) {
      if (known_.count(name) != 0 || name.compare(0, 2, "__") == 0) continue;
      bool hidden = false;
      for (const char* suffix : {"ctx_group", "lr_mult", "wd_mult", "force_mirroring", "mirror_stage"}) {
        const size_t length = std::string(suffix).size();
        hidden |= name.size() >= length && name.compare(name.size() - length, length, suffix) == 0;
      }
      if (hidden) continue;
      std::string allowed;
      for (const std::string& k : known_) allowed += (allowed.empty() ? "" : ", ") + k;
      throw std::invalid_argument(op_ + ": no attribute is called '" + name + "'; there are: " + allowed);
    }
  }

 private:
  std::string op_;
  const AttributeMap& attributes_;
  std::set<std::string> known_;
};

// BMX_GRAD_DTYPE is the default for layers without grad_dtype.
size_t default_gradient_type() {
  const char* type = std::getenv("BMX_GRAD_DTYPE");
  if (type == nullptr || *type == '\0' || std::string(type) == "float32") return 0;
  if (std::string(type) == "float32x2") return 1;
  if (std::string(type) == "bfloat16") return 2;
  throw std::invalid_argument("BMX_GRAD_DTYPE is '" + std::string(type) + "'; allowed: float32, float32x2, bfloat16");
}

Estimator read_estimator(Reader* r) {
  return static_cast<Estimator>(r->choice("estimator", 0, {"ste", "approx_sign", "swish_sign"}));
}

// A layer has a window if its threshold is given. The window belongs to the gradient of sign, so it needs one bit.
void read_window(Reader* r, QLayerParam* p) {
  const Estimator estimator = read_estimator(r);
  if (r->take("gradient_cancel_threshold") == nullptr) {
    if (estimator != Estimator::kStraightThrough) {
      r->fail("estimator", "ste; other estimators need a gradient_cancel_threshold (inf: everywhere)");
    }
    return;
  }
  if (p->act_bit != 1) r->fail("gradient_cancel_threshold", "None, because act_bit is not 1");
  if (p->float_input) r->fail("gradient_cancel_threshold", "None, because float_input is True: no sign is taken");
  p->window = GradientWindow{r->real("gradient_cancel_threshold", 0, 0, HUGE_VALF), estimator};
}

void read_layer(Reader* r, QLayerParam* p) {
  p->act_bit = static_cast<int>(r->integer("act_bit", 1, 1, 32));
  p->weight_bit = static_cast<int>(r->integer("weight_bit", 1, 1, 32));
  p->no_bias = r->boolean("no_bias", true);
  p->binarized_weights_only = r->boolean("binarized_weights_only", false);
  p->no_offset = r->boolean("no_offset", false);
  p->true_gradient = r->boolean("true_gradient", false);
  p->float_input = r->boolean("float_input", false);
  if (p->float_input && !p->binary()) r->fail("float_input", "False, because act_bit and weight_bit are not both 1");
  p->gradient_mode =
      r->choice("gradient_update_mode", 0, {"bb", "bf", "ff"}) == 2 ? GradientMode::kLatent : GradientMode::kBinary;
  p->gradient_type =
      static_cast<GradientType>(r->choice("grad_dtype", default_gradient_type(), {"float32", "float32x2", "bfloat16"}));
  read_window(r, p);
}

}  // namespace

QActivationParam::QActivationParam(const AttributeMap& attributes) {
  Reader r("QActivation", attributes);
  act_bit = static_cast<int>(r.integer("act_bit", 1, 1, 32));
  backward_only = r.boolean("backward_only", false);
  gradient_cancel_threshold = r.real("gradient_cancel_threshold", 0.5f, 0.0f, HUGE_VALF);
  estimator = read_estimator(&r);
  r.finish();
}

QConvolutionParam::QConvolutionParam(const char* op, const AttributeMap& attributes) {
  Reader r(op, attributes);
  r.require("kernel");
  r.require("num_filter");
  read_layer(&r, this);
  kernel = r.tuple("kernel", 1);
  stride = r.tuple("stride", 1);
  dilate = r.tuple("dilate", 1);
  pad = r.tuple("pad", 0);
  if (kernel.empty()) r.fail("kernel", "one to three integers");
  auto complete = [&](const char* name, std::vector<int64_t>* values, int64_t value) {
    if (values->empty()) values->assign(kernel.size(), value);
    if (values->size() != kernel.size()) r.fail(name, "as many numbers as kernel has");
  };
  complete("stride", &stride, 1);
  complete("dilate", &dilate, 1);
  complete("pad", &pad, 0);
  num_filter = r.integer("num_filter", 0, 1, 100000);
  num_group = r.integer("num_group", 1, 1, 100000);
  if (num_filter % num_group != 0) r.fail("num_group", "a divisor of num_filter");
  scaling_mode = static_cast<ScalingMode>(r.choice("scaling_mode", 0, {"none", "forward", "backward"}));
  pad_value = r.real("pad_value", 0, -HUGE_VALF, HUGE_VALF);
  if (pad_value != 0 && pad_value != -1) r.fail("pad_value", "0, -1");
  const std::vector<std::string> layouts = {"NCW", "NCHW", "NCDHW"};
  const size_t layout = r.choice("layout", kernel.size() - 1, layouts);
  if (layout != kernel.size() - 1) r.fail("layout", layouts[kernel.size() - 1] + " for this kernel");
  // These belong to cuDNN or older files and do not change results.
  r.ignore({"workspace", "cudnn_tune", "cudnn_off", "scaling_factor"});
  r.finish();
}

float QConvolutionParam::float_padding() const {
  if (binary()) return pad_bit() ? 1.0f : -1.0f;
  return act_bit == 32 ? pad_value : quantize_activation(pad_value, act_bit);
}

ConvShape QConvolutionParam::shape(const std::vector<int64_t>& data) const {
  if (data.size() != kernel.size() + 2) {
    throw std::invalid_argument("data has shape " + to_string(data) + "; a kernel " + to_string(kernel) + " needs " +
                                std::to_string(kernel.size() + 2) + " dimensions");
  }
  ConvShape s;
  s.batch = data[0];
  s.channels = data[1];
  s.filters = num_filter;
  s.groups = num_group;
  if (s.channels < 1 || s.channels % num_group != 0) {
    throw std::invalid_argument("data has " + std::to_string(s.channels) +
                                " channels; they must be a multiple of num_group = " + std::to_string(num_group));
  }
  for (size_t i = 0; i < kernel.size(); ++i) {
    const size_t axis = 3 - kernel.size() + i;
    s.in[axis] = data[2 + i];
    s.kernel[axis] = kernel[i];
    s.stride[axis] = stride[i];
    s.dilate[axis] = dilate[i];
    s.pad[axis] = pad[i];
    if (s.in[axis] < 1 || s.padded(static_cast<int>(axis)) < dilate[i] * (kernel[i] - 1) + 1) {
      throw std::invalid_argument("the kernel " + to_string(kernel) + ", dilated by " + to_string(dilate) +
                                  ", is larger than the data " + to_string(data) + " padded by " + to_string(pad));
    }
  }
  // No file may make sizes of arrays overflow.
  auto product = [](std::initializer_list<int64_t> factors) {
    int64_t size = 1;
    for (int64_t factor : factors) {
      if (__builtin_mul_overflow(size, factor, &size) || size > (int64_t{1} << 40)) {
        throw std::invalid_argument(
            "the arrays of this layer have more than 2^40 elements; is pad, kernel or num_filter wrong?");
      }
    }
  };
  product({s.batch + 1, s.channels + 64, s.padded(0), s.padded(1), s.padded(2)});
  product({s.batch + 1, s.filters, s.out(0), s.out(1), s.out(2)});
  product({s.filters, s.group_channels() + 64, s.kernel[0], s.kernel[1], s.kernel[2]});
  product({s.group_channels(), s.kernel[0], s.kernel[1], s.kernel[2], s.out(0), s.out(1), s.out(2)});
  return s;
}

QFullyConnectedParam::QFullyConnectedParam(const char* op, const AttributeMap& attributes) {
  Reader r(op, attributes);
  r.require("num_hidden");
  read_layer(&r, this);
  num_hidden = r.integer("num_hidden", 0, 1, INT_MAX);
  flatten = r.boolean("flatten", true);
  r.finish();
}

BatchNormParam::BatchNormParam(const AttributeMap& attributes) {
  Reader r("bmx_BatchNorm", attributes);
  eps = r.real("eps", 1e-3f, 0, HUGE_VALF);
  momentum = r.real("momentum", 0.9f, 0, 1);
  fix_gamma = r.boolean("fix_gamma", true);
  use_global_stats = r.boolean("use_global_stats", false);
  if (r.integer("axis", 1, -8, 8) != 1) r.fail("axis", "1, channels");
  if (r.boolean("output_mean_var", false)) r.fail("output_mean_var", "False");
  r.ignore({"cudnn_off", "min_calib_range", "max_calib_range"});
  r.finish();
}

void refuse_attributes(const char* op, const AttributeMap& attributes) { Reader(op, attributes).finish(); }

CompiledParam::CompiledParam(const AttributeMap& attributes) {
  Reader r("bmx_Compiled", attributes);
  for (const char* name : {"data_shapes", "output_shapes", "size"}) r.require(name);
  data_shapes = r.shapes("data_shapes");
  output_shapes = r.shapes("output_shapes");
  labels = r.integer("labels", 0, 0, 1000);
  size = r.integer("size", 0, 1, int64_t{1} << 31);
  r.finish();
}

std::string to_string(const std::vector<int64_t>& shape) {
  std::string text = "(";
  for (size_t i = 0; i < shape.size(); ++i) text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  return text + (shape.size() == 1 ? ",)" : ")");
}

}  // namespace bmx
