"""The contract of a Keras layer, checked in one call; a full disk."""

import contextlib
import inspect
import json
import resource

import keras
import numpy as np


def run_layer_test(layer_class, arguments, input_shape, *, tmp_path, dtype="float32"):
    """Checks symbolic against real calls, the config, saving, training and mixed precision.

    Args:
        layer_class: Class of the layer.
        arguments: Its arguments, all different from their defaults.
        input_shape: With the batch size.
        tmp_path: Folder for files.
        dtype: Of the input.

    Returns:
        The layer, built, and its output, for further checks.
    """
    images = np.random.default_rng(0).uniform(-1, 1, input_shape).astype(dtype)
    layer = layer_class(**arguments)

    symbolic = layer(keras.KerasTensor(input_shape, dtype=dtype))
    output = layer(images)
    assert symbolic.shape == tuple(output.shape) == layer.compute_output_shape(input_shape)
    assert symbolic.dtype == keras.backend.standardize_dtype(output.dtype)

    config = layer.get_config()
    json.dumps(config)
    assert set(arguments) <= set(config), "get_config() forgets an argument"
    for parameter in list(inspect.signature(layer_class.__init__).parameters.values())[1:]:
        if parameter.kind is not parameter.VAR_KEYWORD:
            off_default = arguments.get(parameter.name, parameter.default) != parameter.default
            assert off_default, f"`{parameter.name}` must be tested off its default"
    twin = layer_class.from_config(config)
    assert twin.get_config() == config
    twin.build(input_shape)
    twin.set_weights(layer.get_weights())
    np.testing.assert_array_equal(twin(images), output)

    model = keras.Sequential([keras.Input(input_shape[1:], dtype=dtype), layer])
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded(images), model(images), rtol=1e-6, atol=1e-6)

    if layer.trainable_variables:
        model.compile(optimizer="sgd", loss="mse")
        before = [np.array(value) for value in model.get_weights()]
        model.fit(images, np.array(output) + 1, verbose=0)
        changed = zip(before, model.get_weights(), strict=True)
        assert all(np.any(old != new) for old, new in changed)

    mixed = layer_class(**{**arguments, "dtype": "mixed_bfloat16"})
    assert keras.backend.standardize_dtype(mixed(images).dtype) == "bfloat16"
    return layer, np.array(output)


@contextlib.contextmanager
def full_disk(size):
    """Limits the size of files that this process writes, in bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
