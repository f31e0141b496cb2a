"""Inputs, attributes and documentation of the operators of libbmx, from which `operators` makes functions."""

from __future__ import annotations

__all__ = ["ATTRIBUTES", "DOCUMENTATION"]

_CONVOLUTION_ATTRIBUTES = """    kernel : tuple of 1, 2 or 3 ints
        Kernel size: (w,), (h, w) or (d, h, w).
    num_filter : int, 1..100000
        Number of output channels.
    stride, dilate : tuple of int, default 1 for each axis
    pad : tuple of int, default 0 for each axis
        Pixels added on both sides of each axis, of the value `pad_value` before quantization.
    num_group : int, default 1
        Channels and filters are cut into this many groups that do not see each other.
    no_bias : bool, default True
        Without a bias, unlike ``Convolution``.
    act_bit, weight_bit : int, 1..32, default 1
        Bits of the activations and of the weights; 32 leaves them as they are.
    scaling_mode : {'none', 'forward', 'backward'}, default 'none'
        'forward' multiplies the output of a 1/1-bit layer by mean|weight|, and the gradient of the data;
        'backward' only the gradient of the data.
    gradient_update_mode : {'bb', 'bf', 'ff'}, default 'bb'
        'ff' computes the gradient of the data with the float weights instead of the quantized ones. 'bb' and
        'bf' are equal here: float weights are never overwritten.
    grad_dtype : {'float32', 'float32x2', 'bfloat16'}, default the environment variable BMX_GRAD_DTYPE, else 'float32'
        Least precise arithmetic of the gradients; sums are always float32. On CPUs with AMX, gradients with signs
        multiply each number exactly ('float32'), by its first 16 bits ('float32x2', 2^-17 of it is lost at most) or 8
        ('bfloat16', 2^-9); of numbers below about 1e-33 less is left. On CPUs without AMX they are float32, by lookup.
        Other gradients are float32 but with 'bfloat16', where the CPU has AVX-512.
    binarized_weights_only : bool, default False
        `weight` holds packed bits, as files of the model converter do.
    pad_value : {0, -1}, default 0
        0 pads with sign(0) = +1, as BMXNet v1; -1 pads with -1, as BMXNet v2.
    workspace, cudnn_tune, cudnn_off, scaling_factor
        Accepted and without effect.
    layout : {None, 'NCW', 'NCHW', 'NCDHW'}
"""

_LAYER_ATTRIBUTES = """    no_offset : bool, default False
        1/1 bits: the output is the dot product of +-1 vectors, not (K + dot) / 2.
    true_gradient : bool, default False
        The gradient includes the 1/2 of (K + dot) / 2, as BMXNet v2's layers have it; v1 leaves it out.
    float_input : bool, default False
        1/1 bits: data that are not all -1 and +1 are multiplied as they are by the signs of the weights, as BMXNet v2's
        layers do, instead of by their sign. Data of -1 and +1 still meet popcounts. Padding stays -1 or +1.
    gradient_cancel_threshold : float >= 0, default None
        Window on the gradient of the data, for act_bit=1: the layer does the work of a QActivation before it. None:
        no window.
    estimator : {'ste', 'approx_sign', 'swish_sign'}, default 'ste'
        QActivation's, together with gradient_cancel_threshold.
"""

# Names of the inputs, and the docstring, in which {array} stands for NDArray or Symbol.
DOCUMENTATION = {
    "QActivation": (
        "data",
        """Quantizes activations (BMXNet v1; for more than one bit DoReFa-Net, arXiv:1606.06160).

    One bit: -1 where x < 0, otherwise +1 (also 0, -0.0 and NaN); the gradient passes where
    |x| <= gradient_cancel_threshold. b bits: round((2^b - 1) clip(x, 0, 1)) / (2^b - 1), halves away from
    zero; the gradient passes unchanged.

    Parameters
    ----------
    data : {array}
        float32, any shape.
    act_bit : int, 1..32, default 1
    backward_only : bool, default False
        Do not quantize: only the window on the gradient. BMXNet's networks have this before layers that
        quantize their input themselves.
    gradient_cancel_threshold : float >= 0, default 0.5
        Window of the gradient for one bit (0.5 in BMXNet v1, 1.0 by default in v2).
    estimator : {'ste', 'approx_sign', 'swish_sign'}, default 'ste'
        Derivative that stands in for that of sign: 1; 2 - 2|x| (Bi-Real Net, arXiv:1808.00278); that of SignSwish
        with beta = 5 (BNN+, arXiv:1812.11800).
""",
    ),
    "QConvolution": (
        "data, weight, bias",
        """Convolution of quantized activations with quantized weights (BMXNet v1).

    With 1 bit for both the output is (K + dot) / 2, from 0 to K, K the inputs of one output: the number of
    equal bits. It is computed with popcounts, exactly. Other bit widths give the plain convolution of the
    quantized arrays. The gradients are those of the convolution, straight through the quantizers.

    Parameters
    ----------
    data : {array}
        float32 (batch, channels, w), (batch, channels, h, w) or (batch, channels, d, h, w).
    weight : {array}
        float32 (num_filter, channels / num_group, kernel...), or packed words. Created if not given.
    bias : {array}
        float32 (num_filter,), only with no_bias=False. Created if not given.
"""
        + _CONVOLUTION_ATTRIBUTES
        + _LAYER_ATTRIBUTES,
    ),
    "QFullyConnected": (
        "data, weight, bias",
        """Product of quantized activations with quantized weights (BMXNet v1).

    With 1 bit for both the output is (D + dot) / 2, D the inputs of one unit, computed exactly with popcounts;
    otherwise the plain product of the quantized arrays. The gradients pass straight through the quantizers.

    Parameters
    ----------
    data : {array}
        float32 (batch, ...); everything but the first axis is flattened.
    weight : {array}
        float32 (num_hidden, inputs), or packed words. Created if not given.
    bias : {array}
        float32 (num_hidden,), only with no_bias=False. Created if not given.
    num_hidden : int
        Number of units.
    no_bias : bool, default True
        Without a bias, unlike ``FullyConnected``.
    act_bit, weight_bit : int, 1..32, default 1
        Bits of the activations and of the weights; 32 leaves them as they are.
    gradient_update_mode : {'bb', 'bf', 'ff'}, default 'bb'
        'ff' computes the gradient of the data with the float weights instead of the quantized ones.
    grad_dtype : {'float32', 'float32x2', 'bfloat16'}, default the environment variable BMX_GRAD_DTYPE, else 'float32'
        Least precise arithmetic of the gradients; sums are always float32. On CPUs with AMX, gradients with signs
        multiply each number exactly ('float32'), by its first 16 bits ('float32x2', 2^-17 of it is lost at most) or 8
        ('bfloat16', 2^-9); of numbers below about 1e-33 less is left. On CPUs without AMX they are float32, by lookup.
        Other gradients are float32 but with 'bfloat16', where the CPU has AVX-512.
    binarized_weights_only : bool, default False
        `weight` holds packed bits, as files of the model converter do.
    flatten : bool, default True
        False: only the last axis is the inputs.
"""
        + _LAYER_ATTRIBUTES,
    ),
}
DOCUMENTATION["QConvolution_v1"] = DOCUMENTATION["QConvolution"]
_INFERENCE = """BMXNet v2's layer of packed weights, as its converter writes it: the sign of the data times the weights.

    The output is (K + dot) / 2, K the inputs of one output: the number of equal bits, computed with popcounts.

    Parameters
    ----------
"""
_WORDS = """    weight : {array}
        Words of packed bits: float32 or float64 bit patterns, int32 or int64. float64 numbers that are integers below
        2^32 count as 32-bit words where there are as many as of those.
    bias : {array}
        float32 (number of outputs,), only with no_bias=False.
"""
DOCUMENTATION["BinaryInferenceConvolution"] = (
    "data, weight, bias",
    _INFERENCE
    + """    data : {array}
        float32 (batch, channels, w), (batch, channels, h, w) or (batch, channels, d, h, w). v2 takes the second alone,
        and channels that are a multiple of the word.
"""
    + _WORDS
    + """    kernel : tuple of 1, 2 or 3 ints
    num_filter : int, 1..100000
    stride, dilate : tuple of int, default 1 for each axis
    pad : tuple of int, default 0 for each axis
        The sign of the padding is +1. v2's layers pad with -1, in a node before this one.
    num_group : int, default 1
    no_bias : bool, default True
    workspace
        Accepted and without effect.
    layout : {None, 'NCW', 'NCHW', 'NCDHW'}
""",
)
DOCUMENTATION["BinaryInferenceFullyConnected"] = (
    "data, weight, bias",
    _INFERENCE
    + """    data : {array}
        float32 (batch, ...); everything but the first axis is flattened. v2 takes a multiple of the word as inputs.
"""
    + _WORDS
    + """    num_hidden : int
    no_bias : bool, default True
    flatten : bool, default True
        False: only the last axis is the inputs.
""",
)
DOCUMENTATION["bmx_BatchNorm"] = (
    "data, gamma, beta, moving_mean, moving_var, mode",
    """Batch normalization, equal to ``BatchNorm`` and faster on the CPU after a quantized layer.

    MXNet's is fast in oneDNN's own layouts; quantized layers write plain NCHW. The moving moments change in the
    forward pass, while those of MXNet change in the backward pass.

    Parameters
    ----------
    data : {array}
        float32 (batch, channels, ...).
    gamma, beta, moving_mean, moving_var : {array}
        float32 (channels,). Created if not given.
    mode : {array}
        (1,): 1 in inference, anything else in training. Made if not given, so that it follows MXNet's mode.
    eps : float, default 1e-3
    momentum : float, default 0.9
    fix_gamma : bool, default True
        gamma counts as 1 and has no gradient.
    use_global_stats : bool, default False
        Use the moving moments in training too.
    axis : 1
""",
)
DOCUMENTATION["bmx_Shift"] = (
    "data, shift",
    """Adds a number to each channel: ReActNet's learned shifts (arXiv:2003.03488).

    Equal to ``broadcast_add`` of a shift of (1, channels, 1, ...), and faster on the CPU, backward above all.

    Parameters
    ----------
    data : {array}
        float32 (batch, channels, ...).
    shift : {array}
        float32 (channels,). Created if not given.
""",
)
DOCUMENTATION["bmx_Scale"] = (
    "data, scale",
    """Multiplies each channel by a number: learned scales of filters.

    Equal to ``broadcast_mul`` with a scale of (1, channels, 1, ...), and faster on the CPU, backward above all.

    Parameters
    ----------
    data : {array}
        float32 (batch, channels, ...).
    scale : {array}
        float32 (channels,). Created if not given.
""",
)
DOCUMENTATION["bmx_ReCU"] = (
    "weight, tau",
    """The rectified clamp unit: latent weights on their way to the sign of a 1-bit layer (arXiv:2103.12369).

    With v = (w - mean) / sqrt(variance + 1e-5), the moments those of w's filter, the output is v clamped to -q..q,
    where q = -mean(abs(v)) log(2 - 2 tau), the mean over all filters. The gradient is for q held fixed.

    Parameters
    ----------
    weight : {array}
        float32 (filters, ...).
    tau : {array}
        float32 (1,), more than 0.5 and less than 1: the fraction of weights that is not clamped, if they have a
        Laplace distribution.
""",
)
DOCUMENTATION["bmx_RPReLU"] = (
    "data, shift, slope, offset",
    """ReActNet's activation, a PReLU between two shifts of each channel (arXiv:2003.03488).

    f(data + shift) + offset, where f(z) is z above 0 and else slope z. Equal to MXNet's operators one after the other,
    and faster on the CPU, backward above all.

    Parameters
    ----------
    data : {array}
        float32 (batch, channels, ...).
    shift, slope, offset : {array}
        float32 (channels,). Created if not given.
""",
)

ATTRIBUTES = {
    "bmx_ReCU": [],
    "bmx_RPReLU": [],
    "bmx_Scale": [],
    "bmx_Shift": [],
    "bmx_BatchNorm": ["eps", "momentum", "fix_gamma", "use_global_stats", "axis"],
    "QActivation": ["act_bit", "backward_only", "gradient_cancel_threshold", "estimator"],
    "QConvolution": (
        "kernel num_filter stride dilate pad num_group no_bias act_bit weight_bit scaling_mode gradient_update_mode "
        "grad_dtype binarized_weights_only pad_value no_offset true_gradient float_input gradient_cancel_threshold "
        "estimator workspace cudnn_tune cudnn_off layout"
    ).split(),
    "QFullyConnected": (
        "num_hidden no_bias act_bit weight_bit gradient_update_mode grad_dtype binarized_weights_only flatten "
        "no_offset true_gradient float_input gradient_cancel_threshold estimator"
    ).split(),
}
ATTRIBUTES["QConvolution_v1"] = ATTRIBUTES["QConvolution"]
ATTRIBUTES["BinaryInferenceConvolution"] = (
    "kernel num_filter stride dilate pad num_group no_bias workspace layout".split()
)
ATTRIBUTES["BinaryInferenceFullyConnected"] = "num_hidden no_bias flatten".split()
