"""Feature maps and Grad-CAM, against truncated models and gradients computed in other ways."""

import dataclasses

import keras
import numpy as np
import pytest
from PIL import Image
from tiny import tiny_classifier

from keras_spd import applications, explain, predict
from keras_spd.applications import STATISTICS, ImageModel, ModelInfo, ResNet18SPD
from keras_spd.explain import layout
from keras_spd.explain.feature_maps import varied_channels
from keras_spd.explain.grad_cam import upsample
from keras_spd.explain.network_input import NetworkInput, prepare
from keras_spd.explain.tiles import TileInput, merged
from keras_spd.images.geometry import Letterbox
from keras_spd.images.tiles import tile_corners


@pytest.fixture
def pixels(rng):
    small = rng.integers(0, 256, (4, 5, 3), dtype="uint8")
    return np.asarray(Image.fromarray(small).resize((30, 24), Image.Resampling.BICUBIC))


def resnet(**options):
    model = ResNet18SPD(classes=3, **options)
    model.info = dataclasses.replace(
        model.info, statistics=STATISTICS["imagenet"], class_names=("a", "b", "c")
    )
    return model


def normalised(pixels):
    return applications.preprocess_input(pixels, "imagenet")[None]


def test_feature_maps_are_the_layers_results(pixels, thin_networks):
    model = resnet()
    maps = explain.feature_maps(model, pixels)
    assert {level: array.shape for level, array in maps.items()} == {
        "P1": (12, 15, 8),
        "P2": (6, 8, 16),
        "P3": (3, 4, 32),
        "P4": (2, 2, 64),
    }
    part = keras.Model(model.input, model.get_layer("stage3_block1_out").output)
    np.testing.assert_allclose(maps["P3"], part(normalised(pixels))[0], atol=1e-5)
    named = explain.feature_maps(model, pixels, ["stem_conv", "stage3_block1_out"])
    assert list(named) == ["stem_conv", "stage3_block1_out"]
    np.testing.assert_allclose(named["stage3_block1_out"], maps["P3"], atol=1e-5)
    # The model is unchanged afterwards.
    assert "call" not in vars(model.get_layer("stage3_block1_out"))
    np.testing.assert_allclose(part(normalised(pixels))[0], maps["P3"], atol=1e-5)


@pytest.mark.slow
def test_feature_maps_of_a_detector_and_its_twin(pixels, thin_networks):
    twins = {
        name: applications.YOLOV5SPD((0.33, 0.125), classes=2, downsampling=name)
        for name in ("spd", "strided")
    }
    shapes = []
    for model in twins.values():
        model.info = dataclasses.replace(model.info, image_size=(64, 64))
        maps = explain.feature_maps(model, pixels)
        shapes.append([(level, array.shape) for level, array in maps.items()])
    assert shapes[0] == shapes[1]
    assert [level for level, _ in shapes[0]] == ["P1", "P2", "P3", "P4", "P5"]
    assert shapes[0][0][1][:2] == (32, 32) and shapes[0][4][1][:2] == (2, 2)
    # The head's input: a convolution turns it into the raw predictions.
    network = twins["spd"].network
    before = keras.Model(network.input, network.get_layer("head_p3_conv").input)
    expected = np.asarray(before(np.asarray(_letterboxed(pixels))))[0]
    maps = explain.feature_maps(twins["spd"], pixels)
    np.testing.assert_allclose(maps["P3"], expected, atol=1e-4 * np.abs(expected).max())
    both = explain.draw_feature_maps(twins, pixels, channels=3)
    alone = explain.draw_feature_maps(twins["spd"], pixels, channels=3)
    assert both.height == alone.height and both.width > 1.8 * alone.width


def _letterboxed(pixels):
    from keras_spd.data import letterbox

    canvas, _ = letterbox(pixels, (64, 64))  # 24x30 fits into 51x64, a multiple of 32 is 64
    return canvas[None].astype("float32")


def test_channels_that_vary_most_are_drawn():
    array = np.zeros((2, 2, 4))
    array[0, 0] = [1, 3, 0, 2]
    array[..., 2] = 100
    assert varied_channels(array, 3).tolist() == [1, 3, 0]


@pytest.mark.slow
def test_grad_cam_in_closed_form(pixels, thin_networks):
    """Below global average pooling and a dense layer, the weights are the dense kernel's."""
    model = resnet()
    features = keras.Model(model.input, model.get_layer("stage4_block1_out").output)
    array = np.asarray(features(normalised(pixels)))[0]
    kernel = np.asarray(model.get_layer("logits").kernel)
    scores = array.mean(axis=(0, 1)) @ kernel + np.asarray(model.get_layer("logits").bias)
    said_something: list = []
    for index in (None, 0, 1, 2):
        column = kernel[:, scores.argmax() if index is None else index]
        expected = np.maximum(array @ column, 0)
        heat = explain.grad_cam(model, pixels, index)
        assert heat.shape == pixels.shape[:2] and heat.dtype == "float32"
        assert heat.max() == (1 if expected.max() else 0)
        said_something.append(heat.max())
        corners = heat[[0, 0, -1, -1], [0, -1, 0, -1]].reshape(2, 2)
        np.testing.assert_allclose(corners, expected / (expected.max() or 1), rtol=1e-4, atol=1e-5)
    assert any(said_something)
    assert model.get_layer("predictions").activation is keras.activations.softmax


@pytest.mark.slow
def test_grad_cam_by_numerical_gradient(rng):
    """An inner layer, whose change has no closed form; softmax in the dense layer itself."""
    keras.config.set_dtype_policy("float64")
    inputs = keras.Input((8, 8, 3))
    inner = keras.layers.Conv2D(4, 3, padding="same", activation="silu", name="inner")(inputs)
    x = keras.layers.Conv2D(5, 3, strides=2, activation="tanh", name="last")(inner)
    x = keras.layers.Flatten()(x)
    outputs = keras.layers.Dense(3, activation="softmax", name="head")(x)
    model = keras.Model(inputs, outputs)
    image = rng.normal(size=(8, 8, 3)).astype("float32")
    rest = keras.Model(inner, x)
    kernel = np.asarray(model.get_layer("head").kernel)
    features = np.asarray(keras.Model(inputs, inner)(image[None]))

    slopes = np.zeros(features.shape)
    for place in np.ndindex(*features.shape):
        change = np.zeros(features.shape)
        change[place] = 1e-5
        up, down = (np.asarray(rest(features + sign * change)) @ kernel for sign in (1, -1))
        slopes[place] = (up - down)[0, 1] / 2e-5
    weighted = features[0] * slopes[0].mean(axis=(0, 1))
    expected = np.maximum(weighted.sum(axis=-1), 0)
    assert 0 < (expected > 0).sum() < 64
    heat = explain.grad_cam(model, image, 1, "inner")
    np.testing.assert_allclose(heat, expected / expected.max(), atol=1e-5)


@pytest.mark.slow
def test_grad_cam_of_a_letterbox_classifier():
    """The margins of the network's input are not part of the map."""
    model = tiny_classifier(input_range=(0, 255), resize="letterbox")
    image = np.zeros((32, 128, 3), "uint8")
    assert explain.grad_cam(model, image, 2).shape == (32, 128)
    heat = np.full((8, 8), 0.5, "float32")
    heat[3:5] = [0, 0, 0, 0, 1, 1, 1, 1]  # the rows with the image
    shown = upsample(heat, prepare(model, image))[12:20]
    assert shown[:, :48].max() == 0 and shown[:, 80:].min() == 1


@pytest.mark.slow
def test_grad_cam_of_fine_tuned_models(pixels, thin_networks):
    """A new top on our tensors, and on our model as a layer, give the same map."""
    features = ResNet18SPD(include_top=False, pooling="avg")
    dense = keras.layers.Dense(2, activation="softmax")
    flat = keras.Model(features.input, dense(features.output))
    dense.kernel.assign(np.abs(dense.kernel) * [1, -1])  # something speaks for class 0
    inputs = keras.Input((None, None, 3))
    nested = keras.Model(inputs, dense(features(inputs)))
    image = normalised(pixels)[0]
    heat = explain.grad_cam(flat, image, 0)
    assert 0 <= heat.min() < heat.max() == 1
    np.testing.assert_allclose(explain.grad_cam(nested, image, 0), heat, atol=1e-5)
    inner = explain.grad_cam(flat, image, 0, "stage2_block1_out")
    assert not np.allclose(inner, heat, atol=0.1)
    for name in ("stage2_block1_out", f"{features.name}/stage2_block1_out"):
        np.testing.assert_allclose(explain.grad_cam(nested, image, 0, name), inner, atol=1e-4)
    assert explain.feature_maps(flat, image)["P4"].shape == (2, 2, 64)
    two_names = ["stem_conv", f"{features.name}/stem_conv"]
    assert list(explain.feature_maps(nested, image, two_names)) == two_names
    with pytest.raises(ValueError, match="does not define how its images are normalised"):
        explain.grad_cam(flat, pixels)
    # As the message says.
    info = ModelInfo(statistics=STATISTICS["imagenet"])
    known = ImageModel(flat.inputs, flat.outputs, info=info)
    np.testing.assert_allclose(explain.grad_cam(known, pixels, 0), heat, atol=1e-5)
    assert explain.draw_grad_cam(known, pixels).width > 500


@pytest.mark.slow
def test_probabilities_from_any_head(pixels, thin_networks):
    softmax = resnet()
    scores = resnet(classifier_activation=None)
    scores.set_weights(softmax.get_weights())
    expected = np.asarray(softmax(normalised(np.asarray(pixels))))[0]
    for model in (softmax, scores):
        [ranked] = predict.Classifier(model, pixels.shape[:2])([np.asarray(pixels)])
        assert ranked.classes.tolist() == np.argsort(-expected).tolist()
        assert ranked.name(ranked.classes[0]) == "abc"[ranked.classes[0]]
        np.testing.assert_allclose(ranked.confidence, expected[ranked.classes], atol=1e-5)


def test_images_are_resized_to_the_models_size(rng, thin_networks):
    model = resnet(input_shape=(16, 24, 3))
    pixels = np.kron(rng.integers(0, 256, (4, 6, 3)), np.ones((20, 20, 1))).astype("uint8")
    assert explain.feature_maps(model, pixels)["P1"].shape == (8, 12, 8)
    assert explain.grad_cam(model, pixels).shape == (80, 120)


def test_errors(pixels, thin_networks):
    detector = applications.YOLOV5SPD((0.33, 0.125), classes=2)
    with pytest.raises(ValueError, match="is for classifiers.*a detector.*`feature_maps`"):
        explain.grad_cam(detector, pixels)
    model = resnet()
    with pytest.raises(ValueError, match="from 0 to 2. Received: class_index=3"):
        explain.grad_cam(model, pixels, 3)
    with pytest.raises(ValueError, match="no layer 'conv'.*stage4_block1_out"):
        explain.grad_cam(model, pixels, layer_name="conv")
    with pytest.raises(ValueError, match="'avg_pool' is not a feature map"):
        explain.grad_cam(model, pixels, layer_name="avg_pool")
    with pytest.raises(ValueError, match="output of the layer 'avg_pool' is not a feature map"):
        explain.feature_maps(model, pixels, ["avg_pool"])
    with pytest.raises(ValueError, match=r"must be multiples of 32.*\(1, 100, 96, 3\)"):
        explain.feature_maps(detector, np.zeros((100, 96, 3), "float32"))
    with pytest.raises(ValueError, match="no layer 'conv'"):
        explain.feature_maps(model, pixels, "conv")
    with pytest.raises(ValueError, match="int64 array of shape"):
        explain.feature_maps(model, pixels.astype("int64"))
    with pytest.raises(ValueError, match="`channels` must be an integer >= 1"):
        explain.draw_feature_maps(model, pixels, channels=0)
    for draw in (explain.draw_feature_maps, explain.draw_grad_cam, explain.draw_confidence_map):
        with pytest.raises(ValueError, match="`models` is empty"):
            draw({}, pixels)


def test_names_of_models(tmp_path, monkeypatch):
    monkeypatch.setattr("keras_spd.predict.loading.load_model", lambda path: path)
    paths = [tmp_path / run / "model.keras" for run in ("spd", "strided")]
    assert list(predict.load_models(paths)) == ["spd", "strided"]
    assert list(predict.load_models([*paths[:1], "bccd"])) == ["spd", "bccd"]
    with pytest.raises(ValueError, match="given twice"):
        predict.load_models([paths[0], paths[0]])


@pytest.fixture
def captions(monkeypatch):
    """The pictures below each caption that is drawn."""
    drawn, caption = {}, layout.captioned

    def captioned(text, pictures, **options):
        drawn[text] = [np.asarray(picture) for picture in pictures]
        return caption(text, pictures, **options)

    monkeypatch.setattr(layout, "captioned", captioned)
    return drawn


@pytest.mark.slow
def test_pictures_show_the_arrays(pixels, captions, thin_networks):
    model = resnet()
    probabilities = np.asarray(model(normalised(pixels)))[0]
    for index in (None, 1):
        explain.draw_grad_cam({"mine": model}, pixels, index)
        shown = int(probabilities.argmax()) if index is None else index
        title = f"mine: Grad-CAM for {'abc'[shown]} (probability {probabilities[shown]:.2f})"
        assert len(captions[title]) == 6  # the image, four levels and the scale
        heat = explain.grad_cam(model, pixels, index, "stage2_block1_out")
        np.testing.assert_array_equal(captions["P2: 8 x 6"][0], layout.overlay(pixels, heat))
    explain.draw_feature_maps({"mine": model}, pixels, channels=3)
    array = explain.feature_maps(model, pixels)["P2"]
    [first, *others] = captions["P2: 1/4, 8 x 6, 3 of 16 channels"]
    most = array[..., array.var(axis=(0, 1)).argmax()]
    np.testing.assert_array_equal(first, layout.tile(layout.colour(most)))
    assert len(others) == 2
    detector = applications.YOLOV5SPD("n", classes=2, levels=("P3",))
    detector.info = dataclasses.replace(detector.info, image_size=(64, 64))
    bias = detector.network.get_layer("head_p3_conv").bias
    bias.assign(keras.ops.zeros_like(bias))  # confidence about 0.25
    explain.draw_confidence_map({"mine": detector}, pixels, 1)
    values = explain.confidence_map(detector, pixels, 1)["P3"]
    seen = prepare(detector, pixels).pixels
    height, width = values.shape
    [drawn] = captions[f"P3: {width} x {height}, max {values.max():.2f}"]
    assert values.max() > 0.1
    np.testing.assert_array_equal(drawn, layout.overlay(seen, values, layout.LARGE))


def test_what_does_not_matter_keeps_its_colours(rng):
    pixels = rng.integers(0, 256, (8, 10, 3), dtype="uint8")
    heat = np.zeros((8, 10), "float32")
    heat[:, 5:] = 1
    over = np.asarray(layout.overlay(pixels, heat, side=10))
    assert (over[:, :4] == pixels[:, :4]).all()
    red = 0.3 * pixels[:, 7:] + 0.7 * np.array([255, 0, 0])
    np.testing.assert_allclose(over[:, 7:], red, atol=1)
    scale = np.asarray(layout.heat_scale(90)).astype(int)
    assert scale[0, 0].tolist() == over_white(1) and scale[89, 0].tolist() == [255] * 3


def over_white(heat):
    return [round(0.3 * 255 + 0.7 * channel) for channel in (255, 255 * (1 - heat), 0)]


@pytest.mark.slow
def test_confidence_map_is_what_the_detector_reports(pixels, thin_networks):
    """The most confident detection is the maximum of the map of its level."""
    model = applications.YOLOV5SPD("n", classes=2, levels=("P2", "P3", "P4", "P5"))
    model.info = dataclasses.replace(model.info, image_size=(64, 64))
    maps = explain.confidence_map(model, pixels)
    assert {level: values.shape for level, values in maps.items()} == {
        "P2": (16, 16),
        "P3": (8, 8),
        "P4": (4, 4),
        "P5": (2, 2),
    }
    [found] = predict.Predictor(model, confidence_threshold=1e-6)(pixels)
    best = max(values.max() for values in maps.values())
    assert best == pytest.approx(found.confidence[0], rel=1e-4)
    each = [explain.confidence_map(model, pixels, label)["P3"] for label in (0, 1)]
    np.testing.assert_allclose(np.maximum(*each), maps["P3"])
    picture = explain.draw_confidence_map({"a": model, "b": model}, pixels, 1)
    assert picture.width > 5 * layout.CAM
    with pytest.raises(ValueError, match="from 0 to 1"):
        explain.confidence_map(model, pixels, 2)
    with pytest.raises(ValueError, match="is for detectors"):
        explain.confidence_map(resnet(), pixels)


@pytest.mark.slow
def test_confidence_map_of_tiles(rng, thin_networks, caplog):
    """Where one tile covers a cell, the merged map is the map of this tile."""
    model = applications.YOLOV5SPD("n", classes=2)
    model.info = dataclasses.replace(model.info, tile=(32, 48), image_size=(64, 96))
    image = rng.integers(0, 256, (32, 80, 3), dtype="uint8")
    maps = explain.confidence_map(model, image, tile=(32, 48), overlap=0.2)
    assert {level: values.shape for level, values in maps.items()} == {
        "P3": (8, 20),
        "P4": (4, 10),
        "P5": (2, 5),
    }
    left, right = (explain.confidence_map(model, image[:, x : x + 48])["P3"] for x in (0, 32))
    np.testing.assert_allclose(maps["P3"][:, :8], left[:, :8], rtol=1e-5)
    np.testing.assert_allclose(maps["P3"][:, 12:], right[:, 4:], rtol=1e-5)
    np.testing.assert_allclose(
        maps["P3"][:, 8:12], np.maximum(left[:, 8:], right[:, :4]), rtol=1e-5
    )
    assert not caplog.records
    for _ in range(2):
        explain.confidence_map(model, image)
    [warning] = caplog.records
    assert "trained on tiles of 32x48 pixels, and images are larger" in warning.getMessage()


def test_tiles_without_margins():
    """Cells of a letterbox's margin do not count, and each cell of the image has a value."""
    fit = Letterbox.fit((50, 100), (64, 128))
    parts = [
        (TileInput(np.zeros(0), (0, left), fit), {"P3": np.full((8, 16), value)})
        for left, value in ((0, 0.1), (45, 0.2), (90, 0.3))
    ]
    whole = merged(parts, (50, 190))["P3"]
    assert whole.shape == (8, 30)
    assert whole.min() == 0.1 and (whole[:, -9:] == 0.3).all()
    margin = np.zeros((8, 8))
    margin[0] = 1
    fit = Letterbox.fit((32, 64), (64, 64))
    assert (
        merged([(TileInput(np.zeros(0), (0, 0), fit), {"P3": margin})], (32, 64))["P3"].max() == 0
    )


@pytest.mark.parametrize("overlap", [0, 0.2])
def test_every_cell_of_an_image_has_a_value(overlap):
    size, tile = (1000, 1500), (200, 320)
    parts = []
    for corner in tile_corners(size, tile, overlap):
        fit = Letterbox.fit(tile, (224, 320))
        maps = {f"P{n}": np.ones((224 // 2**n, 320 // 2**n)) for n in (3, 4)}
        parts.append((TileInput(np.zeros(0), corner, fit), maps))
    assert all(values.min() == 1 for values in merged(parts, size).values())


def test_names_of_weights_are_no_models(pixels):
    for function in (explain.grad_cam, explain.draw_grad_cam, explain.draw_confidence_map):
        with pytest.raises(
            ValueError, match=r"Received: 'cifar10'.*`keras_spd.predict.load_model`"
        ):
            function("cifar10", pixels)


def test_a_letterbox_that_rounds_to_a_negative_margin():
    fit = Letterbox.fit((600, 800), (224, 224))
    assert fit.left < 0
    arrays = [np.zeros((*size, 3), "uint8") for size in ((224, 224), (600, 800))]
    given = NetworkInput(None, arrays[0][None], *arrays, fit)
    assert upsample(np.ones((7, 7), "float32"), given).shape == (600, 800)
