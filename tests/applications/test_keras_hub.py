"""Our backbones inside KerasHub's detectors, and as its presets."""

import numpy as np
import pytest

import keras_spd

pytestmark = pytest.mark.slow
SIDE = 64


@pytest.fixture(scope="module", autouse=True)
def keras_hub():
    """Imported for these tests only, as it takes seconds."""
    return pytest.importorskip("keras_hub", reason='needs `pip install "keras_spd[hub]"`')


@pytest.fixture
def backbone(thin_networks):
    from keras_spd.applications.keras_hub import KerasHubBackbone

    return KerasHubBackbone(keras_spd.applications.ResNetSPDBackbone(18))


def test_presets_go_round(keras_hub, tmp_path, backbone, rng):
    images = rng.normal(size=(1, SIDE, SIDE, 3)).astype("float32")
    backbone.save_to_preset(str(tmp_path))
    for kind in (type(backbone), keras_hub.models.Backbone):
        loaded = kind.from_preset(str(tmp_path))
        assert isinstance(loaded, type(backbone)) and loaded.name == backbone.name
        np.testing.assert_allclose(loaded(images), backbone(images), rtol=1e-5)
        assert list(loaded.pyramid_outputs) == list(backbone.pyramid_outputs)
        shapes = [tensor.shape for tensor in backbone.pyramid_outputs.values()]
        assert [tensor.shape for tensor in loaded.pyramid_outputs.values()] == shapes


# KerasHub passes `shuffle` with its own `tf.data`, and loads presets without their optimizer.
@pytest.mark.filterwarnings("ignore:`shuffle=True` was passed", "ignore:Skipping variable loading")
def test_retinanet_trains_on_it_and_is_a_preset_too(keras_hub, tmp_path, backbone, rng):
    encoder = keras_hub.models.RetinaNetBackbone(backbone, min_level=3, max_level=5, use_p5=False)
    detector = keras_hub.models.RetinaNetObjectDetector(encoder, 2, bounding_box_format="xyxy")
    detector.compile(optimizer="adam")
    images = rng.normal(size=(2, SIDE, SIDE, 3)).astype("float32")
    truth = {"boxes": np.array([[[8, 8, 40, 30]]] * 2, "f4"), "labels": np.array([[0], [1]])}
    before = backbone.get_weights()
    losses = detector.fit(images, truth, epochs=3, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    assert any(np.any(old != new) for old, new in zip(before, backbone.get_weights(), strict=True))
    detector.save_to_preset(str(tmp_path))
    loaded = keras_hub.models.ObjectDetector.from_preset(str(tmp_path))
    for name, value in detector(images).items():
        np.testing.assert_allclose(loaded(images)[name], value, rtol=1e-4, atol=1e-5)


def test_a_network_without_levels(thin_networks):
    from keras_spd.applications.keras_hub import KerasHubBackbone

    with pytest.raises(ValueError, match="has no pyramid levels: pass a backbone"):
        KerasHubBackbone(keras_spd.applications.ImageModel(*tiny()))


def tiny():
    import keras

    inputs = keras.Input((8, 8, 3))
    return inputs, keras.layers.Dense(2)(inputs)
