"""The ResNets against the authors' outputs, their parameter counts, and Keras' conventions."""

import inspect

import keras
import numpy as np
import pytest
import reference

from keras_spd import applications
from keras_spd.layers import SpaceToDepth, SPDConv
from keras_spd.surgery import count_multiply_adds
from keras_spd.variants import RESNETS
from keras_spd.weights.presets import find_preset

CONSTRUCTORS = list(applications.CLASSIFIERS.values())
ResNet18SPD, ResNet50SPD = applications.ResNet18SPD, applications.ResNet50SPD


@pytest.mark.parametrize(
    ("name", "build", "arguments"),
    [
        ("resnet18_spd_basicblock", ResNet18SPD, {"classes": 200}),
        ("resnet18_strided", ResNet18SPD, {"classes": 200, "downsampling": "strided"}),
        pytest.param("resnet50_spd", ResNet50SPD, {"classes": 10}, marks=pytest.mark.slow),
        pytest.param(
            "resnet18_spd_as_released", ResNet50SPD, {"classes": 200}, marks=pytest.mark.slow
        ),
    ],
)
def test_parity_with_the_authors(name, build, arguments):
    state_dict, images, expected = reference.load(name)
    model = build(classifier_activation=None, **arguments)
    applications.load_torch_weights(model, state_dict)
    logits = model.predict(images, verbose=0)
    error = reference.relative_norm(logits - expected["logits"], expected["logits"])
    assert error <= 1e-4


@pytest.mark.slow
def test_a_wrong_phase_order_shows():
    """Swapping the two middle phases of one batch norm is far beyond the tolerance above."""
    state_dict, images, expected = reference.load("resnet18_spd_basicblock")
    key = "conv5_x.0.residual_function.2.running_mean"
    phases = state_dict[key].reshape(4, -1)
    state_dict[key] = phases[[0, 2, 1, 3]].reshape(-1)
    model = ResNet18SPD(classes=200, classifier_activation=None)
    applications.load_torch_weights(model, state_dict)
    logits = model.predict(images, verbose=0)
    assert reference.relative_norm(logits - expected["logits"], expected["logits"]) > 1e-2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("build", "arguments", "parameters"),
    [
        (ResNet18SPD, {"classes": 200}, 20_565_576),
        (ResNet50SPD, {"classes": 10}, 27_654_026),
        (ResNet18SPD, {"classes": 200, "downsampling": "strided"}, 11_271_432),
        (ResNet50SPD, {"classes": 10, "downsampling": "strided"}, 23_520_842),
    ],
)
def test_trainable_parameters(build, arguments, parameters):
    with keras.StatelessScope(initialize_variables=False):  # they have a shape, and no values
        model = build(**arguments)
    assert sum(int(np.prod(v.shape)) for v in model.trainable_variables) == parameters


@pytest.mark.parametrize(
    ("arguments", "giga"),
    [
        ({}, 0.266),
        ({"downsampling": "strided", "stem_stride": 2}, 0.139),
        ({"downsampling": "strided"}, 0.555),
    ],
)
def test_multiply_adds(arguments, giga):
    with keras.StatelessScope(initialize_variables=False):
        model = ResNet18SPD(classes=10, input_shape=(32, 32, 3), **arguments)
    assert count_multiply_adds(model) / 1e9 == pytest.approx(giga, abs=1e-3)


@pytest.mark.parametrize(
    "name",
    [
        *list(applications.CLASSIFIERS)[:2],
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in list(applications.CLASSIFIERS)[2:]
        ),
    ],
)
def test_every_depth_builds(name):
    with keras.StatelessScope(initialize_variables=False):
        model = applications.CLASSIFIERS[name](classes=3)
    assert model.name == name
    assert model.info.architecture.lower().replace("spd", "_spd") == name
    convs = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    main = [conv for conv in convs if "shortcut" not in conv.name]
    # The depth counts the stem, the main branch and the classifier.
    assert len(main) + 2 == int(name[6:-4])


def test_downsampling_of_the_default_and_of_the_paper():
    def strided(model):
        return [
            layer.name
            for layer in model.layers
            if max(np.ravel(getattr(layer, "strides", 1))) > 1 or hasattr(layer, "pool_size")
        ]

    with keras.StatelessScope(initialize_variables=False):
        released, paper = ResNet18SPD(classes=3), ResNet18SPD(classes=3, shortcut="spd")
    assert strided(released) == [f"stage{stage}_block1_shortcut_conv" for stage in (2, 3, 4)]
    assert strided(paper) == []
    spd = [layer for layer in paper.layers if isinstance(layer, (SpaceToDepth, SPDConv))]
    assert len(spd) == 7


@pytest.mark.slow
@pytest.mark.parametrize("sides", [(32, 32), (33, 47), (7, 20)])
def test_any_input_size(rng, sides, thin_networks):
    model = ResNet18SPD(classes=3)
    images = rng.normal(size=(1, *sides, 3)).astype("float32")
    assert model.predict(images, verbose=0).shape == (1, 3)
    fixed = ResNet18SPD(classes=3, input_shape=(*sides, 3))
    fixed.set_weights(model.get_weights())
    np.testing.assert_allclose(
        fixed.predict(images, verbose=0), model.predict(images, verbose=0), rtol=1e-5, atol=1e-6
    )


@pytest.mark.slow
def test_include_top_and_pooling():
    options = {"include_top": False, "input_shape": (64, 32, 3)}
    with keras.StatelessScope(initialize_variables=False):
        assert ResNet18SPD(**options).output_shape == (None, 4, 2, 512)
        for pooling in ("avg", "max"):
            assert ResNet50SPD(pooling=pooling, **options).output_shape == (None, 2048)


@pytest.mark.slow
def test_shipped_weights_behind_layers_with_a_state():
    inputs = keras.Input((32, 32, 3))
    flipped = keras.layers.RandomFlip()(inputs)
    model = ResNet18SPD(weights="cifar10", input_tensor=flipped)
    options = {"downsampling": "spd", "shortcut": "strided"}
    expected = find_preset("cifar10", "ResNet18SPD", **options).read()
    kernel = model.get_layer("stem_conv").conv.kernel
    np.testing.assert_array_equal(kernel, expected["stem_conv/conv/kernel"])


@pytest.mark.slow
def test_input_tensor(rng, thin_networks):
    inputs = keras.Input((32, 32, 3))
    model = ResNet18SPD(classes=3, input_tensor=keras.layers.Rescaling(1 / 255)(inputs))
    images = rng.uniform(0, 255, (2, 32, 32, 3)).astype("float32")
    plain = ResNet18SPD(classes=3)
    plain.set_weights(model.get_weights())
    np.testing.assert_allclose(
        model.predict(images, verbose=0), plain.predict(images / 255, verbose=0), rtol=1e-4
    )


def test_signature_is_that_of_keras_applications():
    keras_names = list(inspect.signature(keras.applications.ResNet50).parameters)
    for constructor in CONSTRUCTORS:
        ours = list(inspect.signature(constructor).parameters)
        assert ours[: len(keras_names)] == keras_names
        assert constructor.__doc__.count("Args:") == 1


@pytest.mark.parametrize(
    ("downsampling", "levels"),
    [("spd", ["P1", "P2", "P3", "P4"]), ("strided", ["P0", "P1", "P2", "P3"])],
)
def test_pyramid_levels_are_true_strides(downsampling, levels):
    options = {"include_top": False, "input_shape": (64, 96, 3), "downsampling": downsampling}
    with keras.StatelessScope(initialize_variables=False):
        model = ResNet18SPD(**options)
    assert list(model.pyramid_level_inputs) == levels
    for level, name in model.pyramid_level_inputs.items():
        stride = 2 ** int(level[1:])
        assert model.get_layer(name).output.shape[1:3] == (64 // stride, 96 // stride)


@pytest.mark.parametrize(
    "arguments",
    [{}, {"downsampling": "strided"}, {"downsampling": "strided", "stem_stride": 2}],
)
def test_backbone_reaches_p5(arguments):
    with keras.StatelessScope(initialize_variables=False):
        model = applications.ResNetSPDBackbone(18, input_shape=(64, 64, 3), **arguments)
    assert list(model.pyramid_level_inputs)[-3:] == ["P3", "P4", "P5"]
    assert model.get_layer(model.pyramid_level_inputs["P5"]).output.shape[1:3] == (2, 2)


def test_mixed_precision_ends_in_float32(rng, thin_networks):
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = ResNet18SPD(classes=3, input_shape=(16, 16, 3))
    assert model.get_layer("stage1_block1_conv1").compute_dtype == "bfloat16"
    assert model.output.dtype == "float32"
    probabilities = model.predict(rng.normal(size=(2, 16, 16, 3)), verbose=0)
    np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-6)


def test_batch_norm_settings():
    with keras.StatelessScope(initialize_variables=False):
        layer = ResNet18SPD(classes=3).get_layer("stage1_block1_bn1")
    assert (layer.momentum, layer.epsilon) == (0.9, 1e-5)


def test_initial_weights_are_pytorchs_default():
    kernel = ResNet18SPD(classes=3).get_layer("stage2_block2_conv1").kernel
    bound = 1 / np.sqrt(9 * 128)
    values = np.array(kernel)
    assert np.abs(values).max() <= bound
    assert values.std() == pytest.approx(bound / np.sqrt(3), rel=0.02)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"downsampling": "pool"}, "`downsampling` must be one of 'spd', 'strided'. Received: "),
        ({"shortcut": None}, "`shortcut` must be one of"),
        ({"stem_stride": 1}, "`stem_stride` must be one of None, 2"),
        ({"pooling": "mean"}, "`pooling` must be one of None, 'avg', 'max'"),
        ({"classes": 2.0}, "`classes` must be an integer >= 1. Received: classes=2.0"),
        ({"classes": 0}, "`classes` must be an integer >= 1. Received: classes=0"),
        ({"input_shape": (32, 32)}, r"`input_shape` must be \(height, width, channels\)"),
        ({"input_shape": (32, 32, None)}, "`input_shape` must be"),
        ({"input_tensor": np.zeros((1, 32, 32, 3))}, "`input_tensor` must be a Keras tensor"),
        ({"weights": "imagenet"}, "no ImageNet weights"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        ResNet18SPD(**arguments)


def test_channels_first_is_refused_in_words():
    keras.config.set_image_data_format("channels_first")
    with pytest.raises(ValueError, match='image_data_format="channels_first"'):
        ResNet18SPD()


def test_bad_depth():
    with pytest.raises(ValueError, match=f"`depth` must be one of {', '.join(map(str, RESNETS))}"):
        applications.ResNetSPDBackbone(20)
