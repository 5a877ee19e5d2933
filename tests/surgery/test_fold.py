"""Folded networks compute the same outputs with fewer layers."""

import itertools
from collections import Counter

import keras
import numpy as np
import pytest

import keras_spd
from keras_spd import fast_layers
from keras_spd.applications import YOLOV5SPD, ImageModel, ModelInfo, ResNet18SPD
from keras_spd.layers import SpaceToDepth, SPDConv
from keras_spd.surgery import PhaseAlignment, PhasePooling, SPDDepthwiseConv

_layers = keras.layers


def _randomize(model, seed=0):
    random = np.random.default_rng(seed)
    for weight in model.weights:
        low = 0.5 if weight.name in ("gamma", "moving_variance") else -0.5
        weight.assign(random.uniform(low, 1.5 if low > 0 else 0.5, weight.shape))


def _kinds(model):
    return Counter(type(layer).__name__ for layer in model.layers)


def _assert_same(model, folded, shapes):
    random = np.random.default_rng(0)
    for shape in shapes:
        images = random.uniform(-1, 1, shape).astype("float32")
        expected, received = model(images, training=False), folded(images, training=False)
        expected, received = map(keras.ops.convert_to_numpy, (expected, received))
        assert received.shape == expected.shape
        assert np.linalg.norm(received - expected) <= 1e-5 * np.linalg.norm(expected)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize(("size", "scale"), [*itertools.product([1, 2, 3, 4], [2, 3]), ((1, 3), 2)])
def test_spd_conv_becomes_a_strided_convolution(size, scale, padding, known):
    for side in range(12, 12 + scale) if known else [None]:
        model = keras.Sequential(
            [keras.Input((side, side, 3)), SPDConv(5, size, scale, padding, activation="relu")]
        )
        _randomize(model)
        folded = keras_spd.fold(model)
        assert _kinds(folded).keys() <= {"Conv2D", "ZeroPadding2D"}
        sides = [side] if known else range(12, 12 + scale)
        _assert_same(model, folded, [(2, side, side, 3) for side in sides])


@pytest.mark.slow
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize(
    ("kernel_size", "strides"), [(1, 2), (2, 2), (3, 2), (5, 2), (7, 2), (3, 3), (5, 3), (11, 4)]
)
def test_folding_a_converted_network_gives_it_back(kernel_size, strides, padding, known):
    side = 21 if known else None
    model = keras.Sequential(
        [
            keras.Input((side, side, 4)),
            _layers.Conv2D(6, kernel_size, strides, padding=padding, groups=2, name="conv"),
        ]
    )
    _randomize(model)
    folded = keras_spd.fold(keras_spd.to_spd(model))
    [conv] = folded.layers
    assert type(conv) is _layers.Conv2D
    assert tuple(conv.kernel.shape) == tuple(model.layers[0].kernel.shape)
    for old, new in zip(model.get_weights(), folded.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    sides = [21] if known else list(range(20, 20 + strides))
    pairs = zip(sides, sides[1:] + sides[:1], strict=True)  # the axes do not depend on each other
    _assert_same(model, folded, [(2, one, other, 4) for one, other in pairs])


def test_pooling_is_given_back():
    model = keras.Sequential(
        [
            keras.Input((None, None, 4)),
            _layers.MaxPooling2D(3, 2, padding="same", name="max"),
            _layers.AveragePooling2D(2, name="mean"),
        ]
    )
    folded = keras_spd.fold(keras_spd.to_spd(model, pooling="exact"))
    assert [layer.get_config() for layer in folded.layers] == [
        layer.get_config() for layer in model.layers
    ]


def test_a_converted_network_that_was_trained_on():
    model = keras.Sequential(
        [
            keras.Input((None, None, 4)),
            _layers.Conv2D(6, 5, 2, padding="same"),
            _layers.DepthwiseConv2D(3, 2, padding="same", activation="relu"),
        ]
    )
    trained = keras_spd.to_spd(model)
    _randomize(trained)  # also what was zero
    _assert_same(trained, keras_spd.fold(trained), [(2, 21, 22, 4), (2, 24, 19, 4)])


@pytest.mark.parametrize(
    "layer",
    [
        lambda: _layers.Conv2D(4, 3, padding="same"),
        lambda: _layers.Conv2D(6, 3, 2, groups=2, use_bias=False),
        lambda: _layers.DepthwiseConv2D(3, depth_multiplier=2),
        lambda: SPDConv(4, 3, padding="same", use_bias=False),
        lambda: SPDDepthwiseConv(2, depth_multiplier=2),
    ],
)
@pytest.mark.parametrize("affine", [True, False])
def test_batch_norms_become_part_of_the_convolution(layer, affine):
    norm = _layers.BatchNormalization(scale=affine, center=affine, epsilon=0.1)
    model = keras.Sequential([keras.Input((12, 13, 4)), layer(), norm, _layers.ReLU()])
    _randomize(model)
    folded = keras_spd.fold(model)
    assert "BatchNormalization" not in _kinds(folded)
    _assert_same(model, folded, [(2, 12, 13, 4)])


def test_layers_that_cannot_be_folded_are_kept():
    inputs = keras.Input((16, 16, 4))
    active = _layers.Conv2D(4, 3, activation="relu", padding="same")(inputs)
    x = _layers.BatchNormalization()(active)  # after an activation
    branch = _layers.Conv2D(4, 3, padding="same")(x)
    x = _layers.BatchNormalization()(branch) + branch  # the convolution is needed without
    shared = _layers.Conv2D(4, 3, padding="same")
    x = _layers.BatchNormalization()(shared(x)) + shared(inputs)
    x = SpaceToDepth()(x)
    x = _layers.Concatenate()([_layers.Conv2D(4, 1)(x), _layers.MaxPooling2D(1)(x)])
    dilated = SPDConv(3, 3, padding="same", dilation_rate=2)(x)
    model = keras.Model(inputs, [dilated, x])
    _randomize(model)
    folded = keras_spd.fold(model)
    assert _kinds(folded) == _kinds(model)
    images = np.random.default_rng(0).uniform(-1, 1, (2, 16, 16, 4)).astype("float32")
    for expected, received in zip(model(images), folded(images), strict=True):
        np.testing.assert_allclose(received, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("base", [_layers.BatchNormalization, fast_layers.BatchNormalization])
def test_a_subclass_of_batch_norm_is_kept(base):
    class Halved(base):
        def call(self, inputs, **kwargs):
            return super().call(inputs, **kwargs) / 2

    model = keras.Sequential([keras.Input((8, 8, 3)), _layers.Conv2D(4, 3), Halved()])
    _randomize(model)
    folded = keras_spd.fold(model)
    assert type(folded.layers[-1]) is Halved
    _assert_same(model, folded, [(2, 8, 8, 3)])


@pytest.mark.slow
def test_new_names_are_unique():
    images = keras.Input((None, None, 3))
    x = _layers.ZeroPadding2D(1, name="conv_pad")(images)
    x = _layers.Conv2D(4, 3, 2, name="conv")(x)
    x = _layers.Conv2D(4, 3, 2, padding="same", name="other")(x)
    model = keras.Model(images, _layers.ReLU(name="other_align")(x))
    spd = keras_spd.to_spd(model)
    _randomize(spd)  # as after fine-tuning: no weight is zero
    folded = keras_spd.fold(spd)
    assert {"conv_pad", "conv_pad_1"} <= {layer.name for layer in folded.layers}
    _assert_same(spd, folded, [(2, side, side, 3) for side in (16, 17)])


@pytest.mark.slow
def test_a_fine_tuned_converted_detector(thin_networks):
    detector = keras_spd.to_spd(YOLOV5SPD("n", classes=2, downsampling="strided"))
    _randomize(detector.network)
    folded = keras_spd.fold(detector)
    images = np.random.default_rng(0).uniform(0, 255, (1, 64, 64, 3)).astype("float32")
    received = folded(images)
    for level, expected in detector(images).items():
        expected = np.asarray(expected, "float64")  # float32 has no room for the squares
        difference = np.linalg.norm(np.asarray(received[level], "float64") - expected)
        assert difference <= 1e-5 * np.linalg.norm(expected)


@pytest.mark.slow
def test_convolutions_after_one_space_to_depth_are_merged():
    inputs = keras.Input((None, None, 4))
    x = SpaceToDepth(name="spd")(inputs)
    left = _layers.BatchNormalization()(_layers.Conv2D(3, 1, use_bias=False, name="left")(x))
    right = _layers.ReLU()(_layers.Conv2D(5, 1, name="right")(x))
    model = keras.Model(inputs, _layers.Concatenate()([left, right]))
    _randomize(model)
    folded = keras_spd.fold(model)
    assert _kinds(folded)["Conv2D"] == 1
    assert folded.get_layer("spd_conv").kernel.shape == (2, 2, 4, 8)
    _assert_same(model, folded, [(2, 8, 10, 4), (2, 9, 7, 4)])


def test_nested_models():
    inner = keras.Sequential(
        [
            keras.Input((None, None, 3)),
            SPDConv(4, 3, padding="same", use_bias=False),
            _layers.BatchNormalization(),
        ],
        name="inner",
    )
    left, right = keras.Input((16, 16, 3)), keras.Input((17, 16, 3))
    outputs = [_layers.GlobalAveragePooling2D()(inner(x)) for x in (left, right)]
    model = keras.Model([left, right], outputs[0] - outputs[1])
    _randomize(model)
    folded = keras_spd.fold(model)
    assert _kinds(folded.get_layer("inner")) == {"Conv2D": 1}
    images = [np.random.default_rng(0).uniform(size=(2, s, 16, 3)) for s in (16, 17)]
    np.testing.assert_allclose(folded(images), model(images), rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_resnet(thin_networks):
    options = {"shortcut": "spd", "classifier_activation": None}  # a softmax would be 0 or 1
    model = ResNet18SPD(weights=None, classes=10, input_shape=(32, 32, 3), **options)
    _randomize(model)
    folded = keras_spd.fold(model)
    kinds = _kinds(folded)
    assert kinds["BatchNormalization"] == kinds["SpaceToDepth"] == 3  # a norm of all phases
    assert folded.info == model.info
    _assert_same(model, folded, [(2, 32, 32, 3)])


@pytest.mark.slow
def test_detector(tmp_path):
    model = YOLOV5SPD("n", weights="bccd")
    folded = keras_spd.fold(model)
    kinds = _kinds(folded.network)
    assert "BatchNormalization" not in kinds and "SPDConv" not in kinds
    assert kinds["SpaceToDepth"] == 2  # in the neck, between a convolution and a concatenation
    images = np.random.default_rng(0).uniform(0, 255, (1, 64, 96, 3)).astype("float32")
    raw = folded(images)
    for level, expected in model(images).items():
        np.testing.assert_allclose(raw[level], expected, rtol=1e-3, atol=1e-4)
    folded.save(tmp_path / "folded.keras")
    loaded = keras.saving.load_model(tmp_path / "folded.keras")
    np.testing.assert_allclose(loaded(images)["P3"], raw["P3"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("first", [0, 1])
def test_a_layer_of_two_nested_models_is_kept(first):
    """What follows the convolution differs, so its batch norm must not be merged into it."""
    images = keras.Input((8, 8, 3))
    features = _layers.Conv2D(4, 3, name="conv")(images)
    normalised = keras.Model(images, _layers.BatchNormalization(name="norm")(features))
    parts = [keras.Model(images, features), normalised]
    outer = keras.Input((8, 8, 3))
    model = keras.Model(outer, [parts[first](outer), parts[1 - first](outer)])
    _randomize(model)
    folded = keras_spd.fold(model)
    inputs = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype("float32")
    for expected, received in zip(model(inputs), folded(inputs), strict=True):
        expected, received = map(keras.ops.convert_to_numpy, (expected, received))
        np.testing.assert_allclose(received, expected, atol=1e-5)


def test_statistics_of_a_backbone_survive_copies(rng):
    images = keras.Input((64, 64, 3))
    scale = keras.layers.Normalization(name="scale")
    x = keras.layers.Conv2D(8, 3, 8, "same")(scale(images))
    scale.adapt(rng.uniform(50, 90, (4, 64, 64, 3)).astype("float32"))
    backbone = ImageModel(images, x, info=ModelInfo(input_range=(0, 255)))
    model = YOLOV5SPD((0.33, 0.125), backbone=backbone, levels=("P3",), classes=2)
    for network in (model.network, keras_spd.fold(model).network):
        np.testing.assert_allclose(network.get_layer("scale").mean, scale.mean)


def test_convolutions_with_a_softmax_are_not_merged():
    inputs = keras.Input((8, 8, 4))
    x = SpaceToDepth()(inputs)
    parts = [_layers.Conv2D(3, 1, activation="softmax")(x) for _ in range(2)]
    model = keras.Model(inputs, _layers.Concatenate()(parts))
    _randomize(model)
    _assert_same(model, keras_spd.fold(model), [(2, 8, 8, 4)])


def test_a_batch_norm_that_always_trains_is_kept(rng):
    inputs = keras.Input((8, 8, 3))
    x = _layers.BatchNormalization()(_layers.Conv2D(4, 3)(inputs), training=True)
    model = keras.Model(inputs, x)
    folded = keras_spd.fold(model)
    images = rng.normal(3, 2, (4, 8, 8, 3)).astype("float32")
    expected, found = map(keras.ops.convert_to_numpy, (model(images), folded(images)))
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_levels_of_a_folded_backbone_name_its_layers():
    inputs = keras.Input((16, 16, 3))
    x = _layers.Conv2D(4, 3, 2, padding="same", name="conv")(inputs)
    x = _layers.BatchNormalization(name="bn")(x)
    model = ImageModel(inputs, x, pyramid_level_inputs={"P1": "bn"})
    folded = keras_spd.fold(model)
    assert folded.pyramid_level_inputs == {"P1": "conv"}
    assert folded.get_layer("conv").output.shape == (None, 8, 8, 4)


def test_batch_norms_of_a_model_that_is_always_training(rng):
    inner = keras.Sequential(
        [keras.Input((8, 8, 3)), _layers.Conv2D(4, 3), _layers.BatchNormalization()]
    )
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, keras.Sequential([inner])(inputs, training=True))
    _randomize(model)
    images = rng.normal(size=(2, 8, 8, 3)).astype("float32")
    np.testing.assert_allclose(keras_spd.fold(model)(images), model(images), atol=1e-5)


def test_a_batch_norm_of_another_type():
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            _layers.Conv2D(4, 3, dtype="mixed_float16"),
            _layers.BatchNormalization(dtype="float32"),
        ]
    )
    [folded], [output] = keras_spd.fold(model).outputs, model.outputs
    assert folded.dtype == output.dtype == "float32"


def test_a_layer_that_was_called_with_a_keyword(rng):
    inputs = keras.Input((8, 8, 3))
    x = _layers.Conv2D(4, 3, strides=2)(inputs=inputs)
    model = keras.Model(inputs, _layers.BatchNormalization()(inputs=x))
    _randomize(model)
    images = rng.normal(size=(2, 8, 8, 3)).astype("float32")
    for changed in (keras_spd.to_spd(model), keras_spd.fold(model)):
        np.testing.assert_allclose(changed(images), model(images), atol=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda model: keras_spd.quantize_aware("x"), "`quantize_aware` takes .*Received"),
        (lambda model: keras_spd.quantize_aware(model), "channels last. `first` in .*channels fi"),
        (lambda model: keras_spd.to_spd(model, layers=5), "`layers` must be names.*layers=5"),
        (lambda model: PhaseAlignment((3, 3), 2, "SAME"), "`padding` must be"),
        (lambda model: PhasePooling("max", (3, 3), 2, "SAME"), "`padding` must be"),
        (lambda model: PhasePooling("max", (3, 3), 0, "same"), "`scale` must be an integer"),
    ],
)
def test_wrong_arguments(change, message):
    first = _layers.Conv2D(4, 3, data_format="channels_first", name="first")
    with pytest.raises(ValueError, match=message):
        change(keras.Sequential([keras.Input((3, 8, 8)), first]))


def test_learned_pooling_of_an_unknown_number_of_channels():
    model = keras.Sequential([keras.Input((8, 8, None)), _layers.MaxPooling2D()])
    [kept] = keras_spd.surgery.plan(model, pooling="learned").kept
    assert "number of channels is unknown" in kept.note
