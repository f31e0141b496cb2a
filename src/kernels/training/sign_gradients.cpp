#include "kernels/training/sign_gradients.h"

#include "kernels/training/lookup_gradients.h"
#include "kernels/training/tile_gradients.h"

namespace bmx {
namespace {

int terms(GradientType type) {
  switch (type) {
    case GradientType::kFloat32:
      return 3;
    case GradientType::kFloat32x2:
      return 2;
    case GradientType::kBfloat16:
      break;
  }
  return 1;
}

}  // namespace

bool has_sign_gradients(const Kernels& k, const ConvShape& s) {
  if (s.groups != 1 || s.in[0] != 1 || s.kernel[0] != 1 || s.pad[0] != 0) return false;
  if (k.sign_tiles != nullptr) return s.channels >= 8;
  return k.sign_lookup != nullptr && s.channels >= k.sign_lookup->lanes / 2;
}

size_t sign_data_gradient_floats(const Kernels& k, const ConvShape& s, GradientType type, int threads) {
  return k.sign_tiles != nullptr ? tile_data_gradient_floats(s, terms(type), threads)
                                 : lookup_data_gradient_floats(k, s, threads);
}

size_t sign_weight_gradient_floats(const Kernels& k, const ConvShape& s, GradientType type, int threads) {
  return k.sign_tiles != nullptr ? tile_weight_gradient_floats(s, terms(type), threads)
                                 : lookup_weight_gradient_floats(k, s, threads);
}

void sign_data_gradient(const Kernels& k, const ConvShape& s, const float* out_grad, const uint64_t* weight,
                        float factor, const SignWindow* window, float* data_grad, GradientType type, int threads,
                        float* scratch) {
  if (k.sign_tiles != nullptr) {
    tile_data_gradient(k, s, out_grad, weight, factor, window, data_grad, terms(type), threads, scratch);
  } else {
    lookup_data_gradient(k, s, out_grad, weight, factor, window, data_grad, threads, scratch);
  }
}

void sign_weight_gradient(const Kernels& k, const ConvShape& s, const float* out_grad, const uint64_t* data,
                          float factor, float* weight_grad, GradientType type, int threads, float* scratch) {
  if (k.sign_tiles != nullptr) {
    tile_weight_gradient(k, s, out_grad, data, factor, weight_grad, terms(type), threads, scratch);
  } else {
    lookup_weight_gradient(k, s, out_grad, data, factor, weight_grad, threads, scratch);
  }
}

}  // namespace bmx
