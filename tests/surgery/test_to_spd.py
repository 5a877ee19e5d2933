"""Conversion of whole networks."""

import keras
import numpy as np
import pytest
from keras.src.applications.convnext import ConvNeXt
from tiny import strided_classifier

import keras_spd
from keras_spd import surgery
from keras_spd.applications import YOLOV5SPD, ResNet18SPD

_layers = keras.layers


def _prepare(model, images, seed=0):
    """Batch norms with the statistics of `images` and other gains: features depend on the image."""
    random = np.random.default_rng(seed)
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            if layer.gamma is not None:
                layer.gamma.assign(random.uniform(0.5, 1.5, layer.gamma.shape))
            layer.beta.assign(random.normal(0, 0.2, layer.beta.shape))
            momentum, layer.momentum = layer.momentum, 0.0
            layer._former_momentum = momentum
    model(images, training=True)
    for layer in model._flatten_layers():
        if hasattr(layer, "_former_momentum"):
            layer.momentum = layer._former_momentum


def _images(*shape):
    return np.random.default_rng(0).uniform(-1, 1, shape).astype("float32")


def _difference(expected, received):
    expected, received = map(keras.ops.convert_to_numpy, (expected, received))
    return np.linalg.norm(received - expected) / np.linalg.norm(expected)


def _swap_phases(model):
    layer = next(
        layer
        for layer in model._flatten_layers()
        if hasattr(layer, "conv") and hasattr(layer, "space_to_depth")
    )
    kernel = keras.ops.convert_to_numpy(layer.conv.kernel).copy()
    channels = kernel.shape[2] // layer.space_to_depth.scale**2
    kernel[:, :, : 2 * channels] = np.roll(kernel[:, :, : 2 * channels], channels, axis=2)
    layer.conv.kernel.assign(kernel)


@pytest.fixture
def double_precision():
    """float64: rounding, which random networks amplify, is far below any error."""
    keras.config.set_dtype_policy("float64")
    keras.config.set_floatx("float64")
    yield
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("ResNet50V2", 8),
        ("MobileNetV2", 5),
        pytest.param("DenseNet121", 5, marks=pytest.mark.full),
        pytest.param("Xception", 9, marks=pytest.mark.full),
    ],
)
def test_networks_of_keras_applications(name, count, double_precision):
    constructor = getattr(keras.applications, name)
    model = constructor(weights=None, include_top=False, input_shape=(None, None, 3))
    images = [_images(1, *size, 3).astype("float64") for size in ((96, 64), (97, 75))]
    _prepare(model, images[0])
    plan = surgery.plan(model, pooling="exact")
    converted = keras_spd.to_spd(model, pooling="exact")
    assert len(plan.converted) == count
    assert all(layer.note in ("no stride", "global, no window") for layer in plan.kept)
    for image in images:
        features = model(image, training=False)
        assert _difference(features, converted(image, training=False)) < 1e-11
    assert converted.count_params() == plan.parameters[1]
    _swap_phases(converted)
    swapped = converted(images[0], training=False)
    assert _difference(model(images[0], training=False), swapped) > 1e-2


@pytest.mark.slow
def test_nested_sequential_models_are_converted():
    model = ConvNeXt(  # of the kind of ConvNeXtTiny
        [1] * 4, [8, 16, 32, 64], weights=None, include_top=False, input_shape=(None, None, 3)
    )
    plan = surgery.plan(model)
    paths = [layer.path for layer in plan.converted]
    assert len(paths) == 4 and any("/" in path for path in paths)
    converted = keras_spd.to_spd(model)
    images = 127 * _images(1, 65, 71, 3) + 127
    assert _difference(model(images), converted(images)) < 1e-5
    assert not [layer for layer in surgery.plan(converted).layers if layer.becomes]


@pytest.mark.slow
def test_our_strided_twin(thin_networks):
    model = ResNet18SPD(
        weights=None,
        classes=10,
        input_shape=(32, 32, 3),
        downsampling="strided",
        stem_stride=2,
        classifier_activation=None,
    )
    model.info = keras_spd.applications.ModelInfo(class_names=tuple("abcdefghij"))
    images = _images(4, 32, 32, 3)
    _prepare(model, images)
    converted = keras_spd.to_spd(model)
    assert type(converted) is type(model) and converted.info == model.info
    assert [layer.name for layer in model.layers if not layer.name.endswith("_align")] == [
        layer.name for layer in converted.layers
    ]
    assert _difference(model(images), converted(images)) < 1e-5
    assert surgery.plan(converted).converted == ()


@pytest.mark.slow
def test_a_detector_stays_a_detector(tmp_path, thin_networks):
    model = YOLOV5SPD("n", classes=2, class_names=["a", "b"], downsampling="strided")
    model.decoder = keras_spd.detection.Decoder(iou_threshold=0.3)
    images = 127 * _images(2, 160, 192, 3) + 127
    _prepare(model.network, images)
    converted = keras_spd.to_spd(model)
    assert type(converted) is type(model) and converted.info == model.info
    raw, expected = converted(images), model(images)
    for level in expected:
        assert _difference(expected[level], raw[level]) < 5e-5  # rounding, amplified
    assert (converted.decoder, converted.head) == (model.decoder, model.head)
    converted.compile()
    truth = {"boxes": np.full((2, 1, 4), (4.0, 4, 40, 30)), "classes": np.ones((2, 1))}
    converted.fit(images, truth, verbose=0)
    converted.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for level, value in converted(images).items():
        np.testing.assert_allclose(loaded(images)[level], value, rtol=1e-5, atol=1e-5)


def _shared_and_nested():
    """Two inputs, one encoder for both with a frozen layer, and a layer called twice."""
    inputs = keras.Input((None, None, 3))
    x = _layers.Conv2D(4, 3, 2, padding="same", name="down")(inputs)
    x = _layers.BatchNormalization(name="norm")(x)
    inner = keras.Sequential([_layers.Conv2D(4, 5, 2, padding="same", name="down2")], name="inner")
    encoder = keras.Model(inputs, inner(x), name="encoder")
    encoder.get_layer("norm").trainable = False
    left, right = keras.Input((None, None, 3), name="left"), keras.Input((17, 19, 3), name="right")
    pool = _layers.MaxPooling2D(3, 2, padding="same", name="pool")
    pooled = [pool(encoder(tensor)) for tensor in (left, right)]
    outputs = [_layers.GlobalAveragePooling2D(name=f"mean{i}")(x) for i, x in enumerate(pooled)]
    total = _layers.Dense(2, name="head")(outputs[0] - outputs[1])
    return keras.Model({"left": left, "right": right}, {"total": total, "left": outputs[0]})


@pytest.mark.slow
def test_shared_layers_nested_models_and_several_inputs(tmp_path):
    model = _shared_and_nested()
    plan = surgery.plan(model, pooling="exact")
    assert [layer.path for layer in plan.converted] == [
        "encoder/down",
        "encoder/inner/down2",
        "pool",
    ]
    converted = keras_spd.to_spd(model, pooling="exact")
    images = {"left": _images(2, 23, 32, 3), "right": _images(2, 17, 19, 3)}
    for name, value in model(images).items():
        assert _difference(value, converted(images)[name]) < 1e-5
    encoder = converted.get_layer("encoder")
    assert not encoder.get_layer("norm").trainable and encoder.get_layer("down").trainable
    assert len(converted.trainable_variables) == len(model.trainable_variables)
    converted.compile("sgd", loss={"total": "mse", "left": "mse"})
    converted.fit(images, {"total": np.ones((2, 2)), "left": np.ones((2, 4))}, verbose=0)
    converted.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for name, value in converted(images).items():
        np.testing.assert_allclose(loaded(images)[name], value, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_the_original_is_left_as_it_is():
    model = _shared_and_nested()
    images = {"left": _images(2, 23, 32, 3), "right": _images(2, 17, 19, 3)}
    before, names = model(images)["total"], [layer.name for layer in model.layers]
    converted = keras_spd.to_spd(model)
    converted.get_layer("head").kernel.assign(np.zeros((4, 2)))
    np.testing.assert_array_equal(model(images)["total"], before)
    assert [layer.name for layer in model.layers] == names


def _chain():
    return keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            _layers.Conv2D(4, 3, 2, padding="same", name="first"),
            _layers.Conv2D(4, 3, 2, padding="same", name="second"),
            _layers.MaxPooling2D(name="third"),
        ],
        name="chain",
    )


@pytest.mark.parametrize(
    ("choice", "converted"),
    [
        ({}, ["first", "second"]),
        ({"layers": ["second"]}, ["second"]),
        ({"layers": "second"}, ["second"]),
        (
            {"layers": lambda layer: layer.name != "second", "pooling": "exact"},
            ["first", "third"],
        ),
        ({"first_n": 2}, ["first", "second"]),
        ({"first_n": 0}, []),
        ({"pooling": "learned"}, ["first", "second", "third"]),
        ({"layers": lambda layer: layer.name != "first", "first_n": 1}, ["second"]),
    ],
)
def test_choice_of_layers(choice, converted):
    model = _chain()
    plan = surgery.plan(model, **choice)
    assert [layer.path for layer in plan.converted] == converted
    assert all(layer.note for layer in plan.kept)
    network = keras_spd.to_spd(model, **choice)
    left = [layer.path for layer in surgery.plan(network).layers]
    assert left == [name for name in ("first", "second", "third") if name not in converted]


def test_choice_of_a_nested_model():
    plan = surgery.plan(_shared_and_nested(), layers=["inner"])
    assert [layer.path for layer in plan.converted] == ["encoder/inner/down2"]
    plan = surgery.plan(_shared_and_nested(), layers=["encoder", "pool"], pooling="exact")
    assert len(plan.converted) == 3


def test_a_named_pooling_layer_needs_a_choice():
    with pytest.raises(ValueError, match='`third` cannot be converted.*`pooling="learned"`'):
        keras_spd.to_spd(_chain(), layers=["third"])
    note = {layer.path: layer.note for layer in surgery.plan(_chain(), pooling="exact").layers}[
        "third"
    ]
    assert note == "4x as many windows, 1 in 4 is used"


@pytest.mark.slow
def test_a_converted_model_has_a_name_of_its_own(thin_networks):
    chain = _chain()
    converted = keras_spd.to_spd(chain)
    assert (chain.name, converted.name) == ("chain", "chain_to_spd")
    assert keras_spd.to_spd(converted).name == "chain_to_spd"
    detector = YOLOV5SPD((0.33, 0.125), classes=2, levels=("P3",), downsampling="strided")
    assert keras_spd.to_spd(detector).name == f"{detector.name}_to_spd"


def test_a_layer_that_is_named_but_cannot_be_converted():
    layers = [keras.Input((32, 32, 3)), _layers.Conv2D(3, 3, (2, 1), name="uneven")]
    with pytest.raises(ValueError, match="`uneven` cannot be converted: strides .* differ"):
        keras_spd.to_spd(keras.Sequential(layers), layers=["uneven"])


@pytest.mark.parametrize("layer", [_layers.DepthwiseConv2D, _layers.SeparableConv2D])
def test_dilated_layers_are_kept(layer):
    options = {"strides": 2, "dilation_rate": 2, "padding": "same", "name": "dilated"}
    if layer is _layers.SeparableConv2D:
        options["filters"] = 4
    model = keras.Sequential([keras.Input((32, 32, 3)), layer(kernel_size=3, **options)])
    assert "dilated: pixels between those of the kernel" in str(surgery.plan(model))
    with pytest.raises(ValueError, match="`dilated` cannot be converted: dilated: pixels between"):
        keras_spd.to_spd(model, layers=["dilated"])


def test_costs_of_a_network_of_any_size():
    model = keras.Sequential(
        [keras.Input((None, None, 3)), _layers.Conv2D(4, 3, 2, padding="same")], name="any"
    )
    assert "?: depends on the size of the image; pass `input_shape`." in str(surgery.plan(model))
    [layer] = surgery.plan(model, input_shape=(32, 32, 3)).layers
    assert layer.multiply_adds == (16 * 16 * 9 * 3 * 4, 16 * 16 * 16 * 3 * 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layers": ["fist"]}, r"`layers` names \['fist'\].*\['first', 'second', 'third'\]"),
        ({"pooling": "max"}, "`pooling` must be one of 'exact', 'learned', 'keep'"),
        ({"depthwise": True}, "`depthwise` must be one of 'spd', 'keep'"),
        ({"first_n": 1.5}, "`first_n` must be an integer"),
        ({"input_shape": (32, 32)}, "must have the rank of the model's"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        keras_spd.to_spd(_chain(), **arguments)


def test_subclassed_models_are_refused():
    class Subclassed(keras.Model):
        def call(self, inputs):
            return inputs

    for model in (Subclassed(), _layers.Conv2D(3, 3, 2), "resnet50"):
        with pytest.raises(ValueError, match="takes a functional or Sequential Keras model"):
            keras_spd.to_spd(model)
    with pytest.raises(ValueError, match="takes a built model"):
        keras_spd.to_spd(keras.Sequential([_layers.Conv2D(3, 3, 2)]))


def test_nothing_is_skipped_silently():
    class Wrapper(_layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.inside = _layers.Conv2D(3, 3, 2, name="hidden")

        def call(self, inputs):
            return self.inside(inputs)

    class OwnConv(_layers.Conv2D):
        pass

    inputs = keras.Input((128, 128, 3))
    x = Wrapper(name="wrapper")(inputs)
    x = OwnConv(3, 3, 2, name="own")(x)
    x = _layers.Conv2D(3, 3, (2, 1), name="uneven")(x)
    x = keras.ops.max_pool(x, 2, 2)
    x = x[:, ::2]
    x = _layers.MaxPooling2D(3, 1, name="dense_pool")(x)
    x = _layers.Reshape((-1, 3), name="flat")(x)
    x = _layers.Conv1D(3, 3, 2, name="one")(x)
    plan = surgery.plan(keras.Model(inputs, x))
    notes = {layer.path: layer.note for layer in plan.layers}
    assert plan.converted == ()
    assert "hidden is inside a Wrapper" in notes.pop("wrapper")
    assert "subclass of Conv2D" in notes.pop("own")
    assert "strides (2, 1) differ" in notes.pop("uneven")
    assert notes.pop("dense_pool") == "no stride"
    assert "no SPD counterpart" in notes.pop("one")
    assert sorted(note.split(",")[0] for note in notes.values()) == [
        "a slice with steps [2]",
        "an operation of `keras.ops`; write it as a layer",
    ]
    assert "0 layers are converted, 7 kept" in str(plan)


@pytest.mark.slow
def test_the_plan_counts_as_the_networks_do(thin_networks):
    model = ResNet18SPD(
        weights=None, classes=10, input_shape=(32, 32, 3), downsampling="strided", stem_stride=2
    )
    plan, converted = surgery.plan(model), keras_spd.to_spd(model)
    assert plan.parameters == (model.count_params(), converted.count_params())
    counted = [keras_spd.surgery.count_multiply_adds(m) for m in (model, converted)]
    grown = sum(layer.multiply_adds[1] - layer.multiply_adds[0] for layer in plan.layers)
    assert counted[1] - counted[0] == grown > 0


@pytest.mark.slow
def test_input_shape():
    model = keras.Sequential(
        [
            keras.Input((64, 64, 3)),
            _layers.Conv2D(4, 3, 2, padding="same"),
            _layers.GlobalAveragePooling2D(),
            _layers.Dense(2),
        ]
    )
    converted = keras_spd.to_spd(model, input_shape=(33, 47, 3))
    assert converted.input_shape == (None, 33, 47, 3)
    assert converted(_images(1, 33, 47, 3)).shape == (1, 2)
    flat = keras.Sequential(
        [keras.Input((8, 8, 3)), _layers.Flatten(), _layers.Dense(2, name="head")]
    )
    with pytest.raises(ValueError, match="`head` has weights of shape.*include_top=False"):
        keras_spd.to_spd(flat, input_shape=(16, 16, 3))


@pytest.mark.slow
def test_a_converted_network_exports(tmp_path):
    converted = keras_spd.to_spd(strided_classifier(), pooling="exact")
    info = keras_spd.applications.ModelInfo(input_range=(0, 1), outputs="probabilities")
    served = keras_spd.applications.ImageModel(converted.inputs, converted.outputs, info=info)
    path = keras_spd.export.export_tflite(served, tmp_path / "model.tflite")
    pixels = np.random.default_rng(1).uniform(0, 255, (1, 33, 32, 3))
    assert keras_spd.export.verify_tflite(path, served, pixels).max_difference < 1e-5


@pytest.mark.slow
def test_the_plan_of_a_detector_is_that_of_its_network(thin_networks):
    detector = YOLOV5SPD("n", classes=2, downsampling="strided")
    assert surgery.plan(detector) == surgery.plan(detector.network)
    assert surgery.plan(detector).converted


def test_layers_inside_other_layers_stay_frozen():
    inside = keras.layers.Conv2D(4, 3)
    around = keras.layers.TimeDistributed(inside)
    model = keras.Sequential([keras.Input((5, 16, 16, 3)), around])
    inside.trainable = False
    assert not model.trainable_variables
    assert not keras_spd.to_spd(model).trainable_variables


def test_lambdas_are_copied():
    layers = [keras.layers.Lambda(lambda x: 2 * x), keras.layers.Conv2D(4, 3, 2)]
    model = keras.Sequential([keras.Input((9, 9, 3)), *layers])
    images = np.ones((1, 9, 9, 3), "float32")
    np.testing.assert_allclose(keras_spd.to_spd(model)(images), model(images), rtol=1e-5)


def test_a_functional_subclass_with_its_own_call_is_refused():
    class Doubled(keras.Model):
        def call(self, inputs, training=None, mask=None):
            return 2 * super().call(inputs, training=training)

    images = keras.Input((8, 8, 3))
    model = Doubled(images, keras.layers.Conv2D(4, 3, 2)(images))
    with pytest.raises(ValueError, match="takes a functional or Sequential"):
        keras_spd.to_spd(model)
