// The function that MXNet calls when it loads libbmx_mxnet.
#include "operators/mxnet.h"

// `version` is the version of MXNet: 10000 * major + 100 * minor + patch.
extern "C" __attribute__((visibility("default"))) mxnet::ext::MXReturnValue initialize(int version) {
  if (version >= 10900 && version < 20000) return mxnet::ext::MX_SUCCESS;
  bmx::set_mxnet_error("libbmx_mxnet needs MXNet 1.9; this is " + std::to_string(version / 10000) + "." +
                       std::to_string(version / 100 % 100));
  return mxnet::ext::MX_FAIL;
}
