// The arithmetic of a gradient's operands; sums are float32.
#pragma once

namespace bmx {

// kFloat32x2: 16 bits of each float where signs are multiplied on tiles (sign_tiles.h), float32 elsewhere.
// kBfloat16: on tiles, and in oneDNN's products on CPUs with AVX-512; float32 elsewhere.
enum class GradientType { kFloat32, kFloat32x2, kBfloat16 };

}  // namespace bmx
