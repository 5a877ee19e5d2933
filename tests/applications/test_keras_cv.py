"""The backbone inside keras-cv's detectors: it learns real images and survives saving."""

import keras
import numpy as np
import pytest
from conftest import FIXTURES

from keras_spd.applications import ImageModel, ResNetSPDBackbone, preprocess_input
from keras_spd.layers import SPDConv
from keras_spd.metrics import evaluate_coco

# keras-cv's RetinaNet is a graph from `{"images": ...}`, and calls itself with images.
pytestmark = pytest.mark.filterwarnings("ignore:The structure of `inputs` doesn't match")


@pytest.fixture(autouse=True, scope="module")
def keras_cv():
    import keras_cv

    return keras_cv


def build_retinanet(backbone):
    import keras_cv

    model = keras_cv.models.RetinaNet(num_classes=2, bounding_box_format="xyxy", backbone=backbone)
    model.compile(classification_loss="focal", box_loss="smoothl1", optimizer="adam")
    return model


def build_yolov8(backbone):
    import keras_cv

    model = keras_cv.models.YOLOV8Detector(
        num_classes=2, bounding_box_format="xyxy", backbone=backbone, fpn_depth=1
    )
    model.compile(classification_loss="binary_crossentropy", box_loss="ciou", optimizer="adam")
    return model


def small_backbone():
    """Five SPD-Convs, P1 to P5: it learns four images in a fraction of a ResNet's time."""
    inputs = x = keras.Input((96, 96, 3))
    levels = {f"P{level}": f"p{level}_out" for level in range(1, 6)}
    for name, filters in zip(levels.values(), (16, 32, 48, 64, 64), strict=True):
        x = SPDConv(filters, 3, padding="same")(x)
        x = keras.layers.BatchNormalization(momentum=0.9)(x)
        x = keras.layers.Activation("silu", name=name)(x)
    return ImageModel(inputs, x, pyramid_level_inputs=levels)


def average_precision_50(truth, predictions):
    """AP at IoU 0.5, over all images and classes; 0 while the detector finds nothing."""

    def records(boxes, classes, scores):
        rows = zip(boxes, classes, scores, strict=True)
        for image, row in enumerate(rows, start=1):
            for (left, top, right, bottom), label, score in zip(*row, strict=True):
                if label >= 0:
                    box = [float(side) for side in (left, top, right - left, bottom - top)]
                    record = {"image_id": image, "category_id": int(label) + 1, "bbox": box}
                    yield {**record, "score": float(score)}

    boxes = records(truth["boxes"], truth["classes"], np.ones_like(truth["classes"]))
    content = {
        "images": [{"id": image + 1} for image in range(len(truth["boxes"]))],
        "categories": [{"id": label + 1, "name": str(label)} for label in range(2)],
        "annotations": [{**box, "id": index} for index, box in enumerate(boxes, start=1)],
    }
    found = records(*(predictions[name] for name in ("boxes", "classes", "confidence")))
    return evaluate_coco(content, list(found)).metrics["AP50"]


@pytest.fixture
def four_images():
    """Images of blood cells, and their boxes and classes."""
    with np.load(FIXTURES / "detection" / "blood_cells.npz") as file:
        images = preprocess_input(file["images"], "imagenet")
        return images, {"boxes": file["boxes"], "classes": file["classes"]}


@pytest.mark.slow
@pytest.mark.parametrize(("build", "rate"), [(build_retinanet, 3e-4), (build_yolov8, 3e-3)])
def test_learns_and_predicts(build, rate, four_images):
    images, truth = four_images
    model = build(small_backbone())
    model.optimizer.learning_rate = rate
    start = model.backbone.get_weights()
    losses = model.fit(images, truth, batch_size=4, epochs=8, verbose=0).history["loss"]
    assert losses[-1] < 0.7 * losses[0]
    for before, after in zip(start, model.backbone.get_weights(), strict=True):
        assert np.any(before != after)
    boxes = model.predict(images, verbose=0)["boxes"]
    assert boxes.shape[::2] == (4, 4) and np.isfinite(boxes).all()


@pytest.mark.slow
@pytest.mark.full
@pytest.mark.parametrize("build", [build_retinanet, build_yolov8])
def test_overfits_four_images(build, four_images, graphs):
    images, truth = four_images
    model = build(small_backbone())
    model.optimizer.learning_rate = 3e-3
    for _ in range(5):
        model.fit(images, truth, batch_size=4, epochs=60, verbose=0)
        score = average_precision_50(truth, model.predict(images, verbose=0))
        if score > 0.8:
            break
    assert score > 0.8


@pytest.mark.slow
@pytest.mark.parametrize("build", [build_retinanet, build_yolov8])
def test_survives_saving(build, tmp_path, rng, thin_networks):
    images = rng.uniform(-2, 2, (1, 64, 64, 3)).astype("float32")
    model = build(ResNetSPDBackbone(18, input_shape=(64, 64, 3)))
    expected = model(images)
    model.save(tmp_path / "detector.keras")
    loaded = keras.saving.load_model(tmp_path / "detector.keras", compile=False)
    assert type(loaded.backbone) is ImageModel
    assert list(loaded.backbone.pyramid_level_inputs)[-1] == "P5"
    for ours, theirs in zip(
        keras.tree.flatten(loaded(images)), keras.tree.flatten(expected), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)
