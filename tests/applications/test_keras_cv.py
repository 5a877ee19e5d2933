"""The backbone inside keras-cv's detectors: it learns real images and survives saving."""

import subprocess
import sys

import numpy as np
import pytest
from conftest import FIXTURES

from keras_spd.applications import ResNetSPDBackbone, preprocess_input

keras_cv = pytest.importorskip("keras_cv", reason="the detectors are keras-cv's")


def build_retinanet(backbone):
    model = keras_cv.models.RetinaNet(num_classes=2, bounding_box_format="xyxy", backbone=backbone)
    model.compile(classification_loss="focal", box_loss="smoothl1", optimizer="adam")
    return model


def build_yolov8(backbone):
    model = keras_cv.models.YOLOV8Detector(
        num_classes=2, bounding_box_format="xyxy", backbone=backbone, fpn_depth=1
    )
    model.compile(classification_loss="binary_crossentropy", box_loss="ciou", optimizer="adam")
    return model


RELOAD = """
import sys, keras, keras_cv, keras_spd, numpy as np
folder = sys.argv[1]
model = keras.saving.load_model(folder + "/detector.keras")
assert type(model.backbone).__name__ == "ImageModel", type(model.backbone)
assert list(model.backbone.pyramid_level_inputs)[-1] == "P5"
predictions = model.predict(np.load(folder + "/images.npy"), verbose=0)
np.savez(folder + "/predictions.npz", **predictions)
"""


def average_precision_50(truth, predictions):
    """AP at IoU 0.5 of pycocotools, over all images and classes."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def records(boxes, classes, scores=None):
        for image, (image_boxes, image_classes) in enumerate(zip(boxes, classes, strict=True)):
            for index, (box, label) in enumerate(zip(image_boxes, image_classes, strict=True)):
                if label < 0:
                    continue
                left, top, right, bottom = map(float, box)
                record = {"image_id": image + 1, "category_id": int(label) + 1}
                record["bbox"] = [left, top, right - left, bottom - top]
                if scores is not None:
                    record["score"] = float(scores[image][index])
                yield record

    coco = COCO()
    coco.dataset = {
        "images": [{"id": image + 1} for image in range(len(truth["boxes"]))],
        "categories": [{"id": label + 1} for label in range(2)],
        "annotations": [
            {**record, "id": index + 1, "iscrowd": 0, "area": np.prod(record["bbox"][2:])}
            for index, record in enumerate(records(truth["boxes"], truth["classes"]))
        ],
    }
    coco.createIndex()
    found = list(records(predictions["boxes"], predictions["classes"], predictions["confidence"]))
    evaluation = COCOeval(coco, coco.loadRes(found), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation.stats[1]


@pytest.mark.slow
@pytest.mark.parametrize("build", [build_retinanet, build_yolov8])
def test_overfits_four_images(build, tmp_path):
    with np.load(FIXTURES / "detection" / "blood_cells.npz") as file:
        images = preprocess_input(file["images"], "imagenet")
        truth = {"boxes": file["boxes"], "classes": file["classes"]}
    model = build(ResNetSPDBackbone(18, input_shape=(96, 96, 3)))
    for _ in range(10):
        model.fit(images, truth, batch_size=4, epochs=20, verbose=0)
        predictions = model.predict(images, verbose=0)
        score = average_precision_50(truth, predictions)
        if score > 0.8:
            break
    assert score > 0.8

    model.save(tmp_path / "detector.keras")
    np.save(tmp_path / "images.npy", images)
    subprocess.run([sys.executable, "-c", RELOAD, str(tmp_path)], check=True)
    reloaded = dict(np.load(tmp_path / "predictions.npz"))
    np.testing.assert_allclose(reloaded["boxes"], predictions["boxes"], atol=1e-2)
    assert average_precision_50(truth, reloaded) == pytest.approx(score, abs=1e-6)
