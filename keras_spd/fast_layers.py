"""Keras layers that train faster on TensorFlow: the same results from other operators.

`benchmarks/training_time.py` measures the gain.
"""

import math
from collections.abc import Callable

import keras
from keras import ops

from keras_spd.typing import Tensor


@keras.saving.register_keras_serializable(package="keras_spd")
class BatchNormalization(keras.layers.BatchNormalization):
    """Keras' batch norm, as a single fused operator when training on TensorFlow.

    Keras computes moments, normalisation and their gradients with elementary operators. The fused
    operator computes the same and makes a training step on a CPU faster. It returns the unbiased
    variance; the moving variance stays biased, as in Keras.

    The fused operator is used for channels-last images without mask, renormalisation or
    synchronisation. In all other cases, including inference and other backends, this is Keras'
    layer.

    Arguments, inputs and outputs are those of `keras.layers.BatchNormalization`.

    Example:

    >>> y = keras_spd.fast_layers.BatchNormalization(momentum=0.9)(x, training=True)
    """

    def call(
        self, inputs: Tensor, training: bool | None = None, mask: Tensor | None = None
    ) -> Tensor:
        if not (training and self.trainable and mask is None and self._can_fuse(inputs)):
            return super().call(inputs, training=training, mask=mask)
        import tensorflow as tf

        channels = inputs.shape[-1]
        outputs, mean, unbiased, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=self.gamma if self.scale else ops.ones((channels,), "float32"),
            offset=self.beta if self.center else ops.zeros((channels,), "float32"),
            mean=ops.zeros((0,), "float32"),
            variance=ops.zeros((0,), "float32"),
            epsilon=self.epsilon,
            is_training=True,
        )
        # Not `size // channels`: the size may be more than an int32 holds.
        pixels = math.prod(ops.cast(side, unbiased.dtype) for side in ops.shape(inputs)[:3])
        variance = unbiased * (ops.maximum(pixels - 1, 1) / pixels)
        for average, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            average.assign(average * self.momentum + value * (1 - self.momentum))
        return ops.cast(outputs, self.compute_dtype)

    def _can_fuse(self, inputs: Tensor) -> bool:
        return (
            keras.backend.backend() == "tensorflow"
            and len(inputs.shape) == 4
            and self.axis in (-1, 3)
            and keras.backend.standardize_dtype(inputs.dtype) in ("float32", "bfloat16", "float16")
            and self.variable_dtype == "float32"
            and not self.renorm
            and not self.synchronized
        )


# The largest feature maps, in pixels, for which matrix products beat TensorFlow's operator for the
# kernel gradient (128 images, TensorFlow 2.21 on a CPU with AVX-512).
_LARGEST = {"bfloat16": 64, "float32": 4}


@keras.saving.register_keras_serializable(package="keras_spd")
class Conv2D(keras.layers.Conv2D):
    """Keras' convolution, with a faster gradient for small feature maps on TensorFlow and a CPU.

    The gradient of a kernel is one matrix product for each kernel position. TensorFlow's operator
    is up to ten times slower than these products if the feature map is small and has many
    channels, as in the last stages of networks for low-resolution images. The products are used in
    training for feature maps of known size, up to 8x8 pixels in bfloat16 and 2x2 in float32. In
    all other cases this is Keras' layer.

    Arguments, inputs and outputs are those of `keras.layers.Conv2D`.

    Example:

    >>> y = keras_spd.fast_layers.Conv2D(512, 3, padding="same")(x, training=True)
    """

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        if not (training and self.trainable and self._has_fast_gradient(inputs)):
            return super().call(inputs)
        outputs = _convolve(inputs, ops.convert_to_tensor(self.kernel))
        if self.use_bias:
            outputs = ops.add(outputs, ops.reshape(self.bias, (1, 1, 1, -1)))
        return outputs if self.activation is None else self.activation(outputs)

    def _has_fast_gradient(self, inputs: Tensor) -> bool:
        if (
            keras.backend.backend() != "tensorflow"
            or self.data_format != "channels_last"
            or self.padding != "same"
            or self.groups != 1
            or any(side % 2 == 0 for side in self.kernel_size)
            or {*self.strides, *self.dilation_rate} != {1}
            or None in inputs.shape[1:3]
        ):
            return False
        import tensorflow as tf

        pixels = inputs.shape[1] * inputs.shape[2]
        largest = _LARGEST.get(keras.backend.standardize_dtype(inputs.dtype), 0)
        return pixels <= largest and not tf.config.list_logical_devices("GPU")


def _convolve(images: Tensor, kernel: Tensor) -> Tensor:
    """A "same" convolution whose kernel gradient is one matrix product per kernel position."""
    import tensorflow as tf

    @tf.custom_gradient
    def convolution(
        images: Tensor, kernel: Tensor
    ) -> tuple[Tensor, Callable[[Tensor], tuple[Tensor, Tensor]]]:
        def gradient(upstream: Tensor) -> tuple[Tensor, Tensor]:
            rows, columns, channels, filters = kernel.shape
            height, width = images.shape[1:3]
            tops, lefts = (((side - 1) // 2,) * 2 for side in (rows, columns))
            padded = tf.pad(images, [(0, 0), tops, lefts, (0, 0)])
            flat = tf.reshape(upstream, (-1, filters))
            products = [
                tf.matmul(
                    tf.reshape(
                        padded[:, row : row + height, column : column + width], (-1, channels)
                    ),
                    flat,
                    transpose_a=True,
                )
                for row in range(rows)
                for column in range(columns)
            ]
            of_images = tf.raw_ops.Conv2DBackpropInput(
                input_sizes=tf.shape(images),
                filter=kernel,
                out_backprop=upstream,
                strides=[1] * 4,
                padding="SAME",
            )
            return of_images, tf.reshape(tf.stack(products), kernel.shape)

        return tf.nn.conv2d(images, kernel, 1, "SAME"), gradient

    # Pass a tensor: `custom_gradient` handles variables differently.
    return convolution(images, tf.identity(kernel))
