"""Batch norm with TensorFlow's fused operator, which Keras' own does not use."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_spd")
class BatchNormalization(keras.layers.BatchNormalization):
    """Keras' batch norm, which in training on TensorFlow runs as one fused operator.

    Keras computes moments, normalisation and their gradients from elementary operators. One
    operator makes a training step on a CPU faster (`benchmarks/training_time.py`); what is computed
    is the same. The operator returns the unbiased variance; the moving variance is kept as Keras
    keeps it, biased.

    The fused operator is used for channels-last images, without mask, renormalisation and
    synchronisation. In all other cases, at inference and on other backends this is Keras' layer.

    Args, input and output are those of `keras.layers.BatchNormalization`.

    Example:

    >>> y = keras_spd.batch_norm.BatchNormalization(momentum=0.9)(x, training=True)
    """

    def call(self, inputs, training=None, mask=None):
        if not (training and self.trainable and mask is None and self._can_fuse(inputs)):
            return super().call(inputs, training=training, mask=mask)
        import tensorflow as tf

        channels = inputs.shape[-1]
        outputs, mean, unbiased, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=self.gamma if self.scale else ops.ones((channels,)),
            offset=self.beta if self.center else ops.zeros((channels,)),
            mean=ops.zeros((0,)),
            variance=ops.zeros((0,)),
            epsilon=self.epsilon,
            is_training=True,
        )
        pixels = ops.cast(ops.size(inputs) // channels, unbiased.dtype)
        variance = unbiased * (ops.maximum(pixels - 1, 1) / pixels)
        for average, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            average.assign(average * self.momentum + value * (1 - self.momentum))
        return ops.cast(outputs, self.compute_dtype)

    def _can_fuse(self, inputs):
        return (
            keras.backend.backend() == "tensorflow"
            and len(inputs.shape) == 4
            and self.axis in (-1, 3)
            and keras.backend.standardize_dtype(inputs.dtype) in ("float32", "bfloat16", "float16")
            and self.variable_dtype == "float32"
            and not self.renorm
            and not self.synchronized
        )
