"""Batches of several image sizes."""

import numpy as np
import pytest
from drawings import write_drawings

from keras_spd import data
from keras_spd.applications import YOLOV5SPD
from keras_spd.data import DetectionAugmentation, DetectionBatches
from keras_spd.training import load_recipe
from keras_spd.training.detection import DetectionTask

MANY = DetectionAugmentation(multi_scale=0.5)


@pytest.fixture(scope="module")
def drawings(tmp_path_factory):
    return data.load_detection(write_drawings(tmp_path_factory.mktemp("drawings")))


@pytest.mark.parametrize(
    ("scale", "image_size", "heights"),
    [
        (0.5, (640, 640), [320, 480, 640, 800, 960]),
        (0.25, (320, 320), [256, 288, 320, 352, 384]),
        (0.5, (64, 96), [32, 64, 64, 64, 96]),
        (0.01, (320, 320), [320]),
        (1.0, (64, 64), [32, 64, 96, 128]),
        (0.0, (100, 100), [100]),
    ],
)
def test_at_most_five_sizes(scale, image_size, heights):
    sizes = DetectionAugmentation(multi_scale=scale).image_sizes(image_size)
    assert [height for height, _ in sizes] == heights and len(set(sizes)) == len(sizes)


def test_the_size_only_depends_on_seed_epoch_and_batch(drawings):
    def shapes(seed):
        batches = DetectionBatches(drawings, 2, (64, 96), augmentation=MANY, seed=seed)
        return [batches.load(epoch, batch)[0].shape for epoch in range(3) for batch in range(4)]

    assert shapes(0) == shapes(0) != shapes(1)
    assert 3 <= len(set(shapes(0))) <= 5


def test_boxes_follow_the_size(drawings):
    """As fractions of the image they are the same at each size."""
    options = {"augmentation": MANY, "bounding_box_format": "rel_xyxy"}
    batches = DetectionBatches(drawings, 8, (640, 960), **options)
    found = {}
    for epoch in range(8):
        images, boxes, classes = batches.load(epoch, 0)
        found[images.shape[1:3]] = boxes[classes >= 0]
    assert len(found) > 1
    first, *others = found.values()
    for boxes in others:
        np.testing.assert_allclose(boxes, first, atol=0.01)


@pytest.mark.slow
def test_a_detector_trains_on_them_in_one_graph(drawings, thin_networks, graphs):
    batches = drawings.batches(1, (64, 64), augmentation=MANY)
    assert len({images.shape[1:3] for images, _ in batches}) > 1
    model = YOLOV5SPD("n", classes=2, class_names=drawings.class_names, levels=("P3",))
    model.compile()
    step, traced = model.train_step, []
    model.train_step = lambda data: (traced.append(data), step(data))[1]
    losses = model.fit(batches, epochs=1, verbose=0).history["loss"]
    assert np.isfinite(losses).all() and len(traced) == 1


@pytest.mark.slow
def test_models_of_one_size_are_refused(drawings, thin_networks):
    fields = {"data.image_size": (64, 64), "augmentation.multi_scale": 0.5}
    options = {"model.options.input_shape": (64, 64, 3)}
    task = DetectionTask(
        load_recipe("short_detection", overrides=fields | options), drawings, drawings
    )
    with pytest.raises(ValueError, match=r"any size. .* takes \(64, 64\).* Set `multi_scale` to 0"):
        task.build()
    task = DetectionTask(
        load_recipe("short_detection", overrides=fields | {"model.options.head": "yolov8"}),
        drawings,
        drawings,
    )
    with pytest.raises(ValueError, match='loss of head="yolov8" needs a known size'):
        task.build()
