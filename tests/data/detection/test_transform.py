"""The user's own augmentation of images with boxes."""

import pathlib
import re

import numpy as np
import pytest
from drawings import write_drawings

from keras_spd import data
from keras_spd.data import DetectionAugmentation, DetectionBatches
from keras_spd.training import load_recipe
from keras_spd.training.classification import ClassificationTask

SIZE = (64, 96)
GUIDE = pathlib.Path(__file__).parents[3] / "docs" / "guides" / "extending-training.md"


@pytest.fixture(scope="module")
def drawings(tmp_path_factory):
    return data.load_detection(write_drawings(tmp_path_factory.mktemp("drawings")))


def test_the_function_gets_what_the_augmentation_returns(drawings):
    options = {"shuffle": True, "augmentation": DetectionAugmentation(mosaic=1.0), "seed": 3}
    plain = DetectionBatches(drawings, 4, SIZE, **options).load(1, 1)
    numbers = []

    def mirror(image, boxes, classes, rng):
        numbers.append(rng.random())
        boxes[:, [0, 2]] = SIZE[1] - boxes[:, [2, 0]]
        return image[:, ::-1], boxes.tolist(), classes.tolist()

    batches = DetectionBatches(drawings, 4, SIZE, transform=mirror, **options)
    numbers.clear()  # of the first image, on which it was tried
    images, boxes, classes = batches.load(1, 1)
    np.testing.assert_array_equal(images[:, :, ::-1], plain[0])
    np.testing.assert_array_equal(classes, plain[2])
    known = classes >= 0
    np.testing.assert_allclose(boxes[known][:, 0], SIZE[1] - plain[1][known][:, 2])
    # The generator depends on seed, epoch, batch and position, and on nothing else.
    first = sorted(numbers)
    again = DetectionBatches(drawings, 4, SIZE, transform=mirror, **options)
    numbers.clear()
    again.load(1, 1)
    assert sorted(numbers) == first and len(set(first)) == 4
    for epoch, batch in ((0, 1), (1, 0)):
        numbers.clear()
        again.load(epoch, batch)
        assert not set(numbers) & set(first)


@pytest.mark.slow  # Albumentations takes three seconds to import
def test_the_guides_example_with_albumentations(drawings, monkeypatch):
    pytest.importorskip("albumentations")
    monkeypatch.setenv("NO_ALBUMENTATIONS_UPDATE", "1")
    [block] = re.findall(
        r"^```python\n(import albumentations.*?)^```", GUIDE.read_text(), re.M | re.S
    )
    names = {}
    exec(compile(block, GUIDE, "exec"), names)
    options = {"shuffle": True, "augmentation": DetectionAugmentation(mosaic=1.0)}
    options["transform"] = names["augment"]
    first = DetectionBatches(drawings, 8, SIZE, **options).load(0, 0)
    second = DetectionBatches(drawings, 8, SIZE, **options).load(0, 0)
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)
    plain = DetectionBatches(drawings, 8, SIZE, shuffle=True).load(0, 0)
    assert (first[0] != plain[0]).any()
    images, boxes, classes = first
    known = boxes[classes >= 0]
    assert len(known) and (known >= 0).all() and (known <= [96, 64, 96, 64]).all()
    # A white rectangle stays where its box is.
    row, column = np.argwhere(classes == 0)[0]
    x1, y1, x2, y2 = boxes[row, column].round().astype(int)
    assert images[row, y1:y2, x1:x2].mean() > images[row].mean()


@pytest.mark.parametrize(
    ("result", "received"),
    [
        (
            lambda image, *rest: (image[:32], *rest),
            r"Received: uint8 \(32, 96, 3\), float32 \(2, 4\)",
        ),
        (lambda image, *rest: (image / 255, *rest), "Received: float64"),
        (
            lambda image, boxes, classes: (image, boxes[:1], classes),
            r"float32 \(1, 4\), int32 \(2,\)",
        ),
        (lambda image, *rest: image, "Received: ndarray"),
        (lambda image, *rest: None, "Received: NoneType"),
        (lambda image, boxes, classes: (image, "no", classes), "Received: uint8"),
        (lambda image, boxes, classes: (image, [[1, 2], [3]], classes), "rows differ in length"),
    ],
)
def test_results_that_do_not_fit(drawings, result, received):
    def transform(image, boxes, classes, rng):
        return result(image, boxes, classes)

    with pytest.raises(ValueError, match=rf"must return \(image, .* \(64, 96, 3\).*{received}"):
        drawings.batches(4, SIZE, transform=transform)


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (lambda image, boxes, classes: (image, boxes, classes + 9), "classes from 0 to 1"),
        (lambda image, boxes, classes: (image, boxes * np.nan, classes), "finite boxes"),
        (lambda image, boxes, classes: (image, boxes / 96, classes), "not as fractions"),
    ],
)
def test_values_that_do_not_fit(drawings, result, message):
    with pytest.raises(ValueError, match=message):
        drawings.batches(4, SIZE, transform=lambda *parts: result(*parts[:3]))


def test_what_is_no_transform(drawings):
    with pytest.raises(TypeError, match=r"`transform` must be a function .*Received: 3"):
        drawings.batches(4, SIZE, transform=3)
    with pytest.raises(TypeError, match=r"must be a function from \(image, boxes, classes, rng\)"):
        drawings.batches(4, SIZE, transform=lambda image, boxes, classes: (image, boxes, classes))
    with pytest.raises(TypeError, match=r"Pass your own function as `transform`."):
        drawings.batches(4, SIZE, augmentation=lambda image: image)
    with pytest.raises(ValueError, match="`transform` is for detectors, and resnet18_spd is a cl"):
        ClassificationTask(load_recipe("demo"), transform=lambda *parts: parts)
