"""Predictor, evaluation and pictures, with a detector trained on eight real images."""

import dataclasses
import json

import keras
import numpy as np
import pytest
from bright import BrightBox
from drawings import write_drawings
from PIL import Image
from pycocotools import mask

import keras_spd
from keras_spd import data, predict
from keras_spd.applications import YOLOV5SPD
from keras_spd.images import draw_detections
from keras_spd.images.draw import class_colour, place_labels
from keras_spd.images.fonts import drawable, load_font


@pytest.fixture(scope="module")
def drawings(tmp_path_factory):
    """Eight drawings as a COCO file, and the data read from it."""
    return data.load_detection(write_drawings(tmp_path_factory.mktemp("drawings")))


@pytest.mark.slow
def test_overfits_eight_images_and_survives_saving(drawings, thin_networks, graphs, tmp_path):
    model = tiny(classes=2, class_names=drawings.class_names, levels=("P3",))
    model.compile(optimizer=keras.optimizers.Adam(1e-2))
    batches = drawings.batches(8, (64, 96))
    images, truth = next(iter(batches))
    # 50 steps on the same batch as one epoch: starting an epoch costs as much as a step.
    images, boxes, classes = (
        np.concatenate([np.asarray(array)] * 50)
        for array in (images, truth["boxes"], truth["classes"])
    )
    fifty = {"batch_size": 8, "shuffle": False, "verbose": 0}
    for _ in range(12):
        model.fit(images, {"boxes": boxes, "classes": classes}, **fifty)
        score = keras_spd.evaluate(model, drawings, (64, 96)).metrics["AP50"]
        if score > 0.9:
            break
    assert score > 0.9

    model.save(tmp_path / "drawings.keras")
    loaded = predict.load_detector(tmp_path / "drawings.keras")
    again = keras_spd.evaluate(loaded, drawings, (64, 96), batch_size=3)
    assert again.metrics["AP50"] == pytest.approx(score, abs=0.01)

    batch_scores = loaded.evaluate(batches, verbose=0, return_dict=True)
    assert batch_scores["AP50"] == pytest.approx(score, abs=0.01)
    assert {"loss", "box_loss", "AP", "AP_small"} <= set(batch_scores)

    # Boxes come back in original pixels, whatever the size of the network's input.
    image = drawings.images[0]
    large = image.read().repeat(2, axis=0).repeat(2, axis=1)
    [found] = keras_spd.Predictor(tmp_path / "drawings.keras", (64, 96))([large])
    assert len(found) >= len(image.boxes) / 2 and found.class_names == drawings.class_names
    for box in found.boxes[:3]:
        centre = (box[:2] + box[2:]) / 2
        distance = np.abs(image.boxes[:, :2] + image.boxes[:, 2:] - centre).max(axis=1)
        assert distance.min() < 8


def tiny(classes=6, **options):
    return YOLOV5SPD((0.33, 0.125), classes=classes, **options)


@pytest.mark.slow
def test_predictor_maps_boxes_back(rng, thin_networks):
    model = tiny()
    predictor = predict.Predictor(
        model, (64, 96), confidence_threshold=0.0, max_detections=20, batch_size=2, multi_label=True
    )
    images = [rng.integers(0, 256, size, dtype="uint8") for size in [(50, 200, 3), (300, 90, 3)]]
    for image, found in zip(images, predictor(images), strict=True):
        height, width = image.shape[:2]
        assert len(found) == 20
        assert (found.boxes >= 0).all() and (found.boxes <= [width, height] * 2).all()
        assert (np.diff(found.confidence) <= 0).all()
    alone = predictor(images[:1])[0]
    np.testing.assert_allclose(alone.boxes, predictor(images)[0].boxes, atol=0.05)
    entry = alone.to_json()[0]
    assert set(entry) == {"box", "confidence", "class", "name"}
    assert json.dumps(entry)


class TwoClasses(BrightBox):
    """Finds the bright box as three classes, one slightly shifted, and at a third of its width."""

    info = keras_spd.applications.ModelInfo(
        class_names=("open", "short", "hole"), input_range=(0, 255)
    )

    def predict_on_batch(self, images):
        found = super().predict_on_batch(images)
        boxes = np.repeat(found["boxes"], 4, axis=1)
        boxes[:, 2] += [0, 0, 2, 0]
        boxes[:, 3, 2] -= (boxes[:, 3, 2] - boxes[:, 3, 0]) * 2 / 3
        shape = boxes.shape[:2]
        return {
            "boxes": boxes,
            "confidence": np.broadcast_to([0.9, 0.8, 0.7, 0.6], shape),
            "classes": np.broadcast_to([1, 0, 2, 0], shape),
            "num_detections": found["num_detections"] * 4,
        }


@pytest.mark.parametrize("tile", [None, 64])
def test_an_object_comes_once(tile):
    image = np.zeros((64, 96, 3), "uint8")
    image[20:40, 10:30] = 255
    model = TwoClasses()
    [every] = predict.Predictor(model, 64, tile=tile, multi_label=True)([image])
    [found] = predict.Predictor(model, 64, tile=tile)([image])
    assert sorted(every.classes) == [0, 0, 1, 2] and str(found) == "2 objects: 1 short, 1 open"
    # A box that overlaps it by a third is another object.
    assert found.classes.tolist() == [1, 0]
    assert found.confidence.tolist() == pytest.approx([0.9, 0.6])
    np.testing.assert_allclose(found.boxes[0], [10, 20, 30, 40], atol=2)


class InThePadding(BrightBox):
    """Finds the bright box, and one in the gray bars beside the image."""

    def predict_on_batch(self, images):
        found = super().predict_on_batch(images)
        bar = np.broadcast_to([10, 2, 30, 8], found["boxes"].shape)
        boxes = np.concatenate([bar, found["boxes"]], axis=1)
        two = {key: np.repeat(found[key], 2, axis=1) for key in ("confidence", "classes")}
        return {"boxes": boxes, "num_detections": found["num_detections"] + 1, **two}


def test_boxes_outside_the_image_are_dropped():
    image = np.zeros((32, 64, 3), "uint8")
    image[10:20, 10:30] = 255
    [found] = predict.Predictor(InThePadding(), 64)([image])
    np.testing.assert_allclose(found.boxes, [[10, 10, 30, 20]], atol=2)


@pytest.mark.slow
def test_evaluation_counts_every_class(rng, tmp_path, thin_networks):
    """A `Predictor` does not change it."""
    things = data.load_detection(write_drawings(tmp_path / "d", 1), images=tmp_path / "d/images")
    keras.utils.set_random_seed(1)
    model = YOLOV5SPD((0.33, 0.125), classes=2)
    before = predict.predict_coco(model, things, 64, confidence_threshold=0.0)
    predictor = predict.Predictor(model, 64, confidence_threshold=0.0)
    [found] = predictor([things.images[0].read()])
    assert predict.predict_coco(model, things, 64, confidence_threshold=0.0) == before
    boxes = [tuple(result["bbox"]) for result in before[0]]
    assert len(set(boxes)) < len(boxes)
    assert 1 < len(found) < len(boxes)
    sides = np.concatenate([found.boxes[:, :2], found.boxes[:, 2:] - found.boxes[:, :2]], axis=1)
    overlaps = mask.iou(sides.astype("float64"), sides.astype("float64"), [0] * len(sides))
    assert overlaps[found.classes[:, None] != found.classes].max() <= 0.7001


@pytest.mark.slow
def test_other_box_formats_and_input_ranges_change_nothing(rng, thin_networks):
    weights = tiny(levels=("P3",)).get_weights()
    images = [rng.integers(0, 256, (64, 64, 3), dtype="uint8")]
    found = []
    for options in ({}, {"bounding_box_format": "rel_xywh"}, {"include_rescaling": False}):
        model = tiny(levels=("P3",), **options)
        model.set_weights(weights)
        found += predict.Predictor(model, 64, confidence_threshold=0.0)(images)
    assert len(found[0]) > 10
    for other in found[1:]:
        np.testing.assert_allclose(other.boxes, found[0].boxes, atol=0.02)


@pytest.mark.slow
def test_image_size_comes_from_the_model(thin_networks):
    import dataclasses

    model = tiny()
    assert predict.Predictor(model).image_size == (640, 640)
    model.info = dataclasses.replace(model.info, image_size=(320, 416))
    assert predict.Predictor(model).image_size == (320, 416)
    with pytest.raises(ValueError, match="multiples of 32"):
        predict.Predictor(model, 100)
    fixed = tiny(input_shape=(64, 96, 3))
    assert predict.Predictor(fixed).image_size == (64, 96)
    with pytest.raises(ValueError, match=r"images of \(64, 96\) only"):
        predict.Predictor(fixed, 128)


@pytest.mark.slow
def test_evaluation_batches_are_rectangular(rng, tmp_path, monkeypatch, thin_networks):
    """Wide and tall images are scored together, each in its original pixels."""
    sizes = [(40, 80), (80, 40), (60, 60), (39, 80), (80, 38)]
    content: dict = {"images": [], "annotations": [], "categories": [{"id": 7, "name": "thing"}]}
    for index, (height, width) in enumerate(sizes):
        pixels = rng.integers(0, 256, (height, width, 3), dtype="uint8")
        Image.fromarray(pixels).save(tmp_path / f"{index}.png")
        record = {"id": index, "file_name": f"{index}.png", "height": height, "width": width}
        content["images"].append(record)
    (tmp_path / "set.json").write_text(json.dumps(content))
    things = data.load_detection(tmp_path / "set.json", images=tmp_path)

    def run(model):
        shapes = []
        run = model.predict_on_batch
        monkeypatch.setattr(
            model, "predict_on_batch", lambda x: shapes.append(x.shape[1:3]) or run(x)
        )
        found, scales = predict.predict_coco(
            model, things, 96, batch_size=2, confidence_threshold=0.0, max_detections=5
        )
        assert scales == pytest.approx({0: 1.2, 1: 1.2, 2: 1.6, 3: 1.2, 4: 1.2})
        assert len(found) == 25 and {result["category_id"] for result in found} == {7}
        return shapes, found

    keras.utils.set_random_seed(0)
    model = YOLOV5SPD((0.33, 0.125), classes=1)
    shapes, found = run(model)
    assert shapes == [(64, 96), (96, 96), (96, 64)]
    fixed = YOLOV5SPD((0.33, 0.125), classes=1, input_shape=(96, 96, 3))
    fixed.set_weights(model.get_weights())
    assert run(fixed)[0] == [(96, 96)] * 3
    for result in found:
        height, width = sizes[result["image_id"]]
        x, y, box_width, box_height = result["bbox"]
        assert x >= 0 and y >= 0 and x + box_width <= width + 0.01
        assert y + box_height <= height + 0.01


@pytest.mark.slow
def test_bad_inputs(tmp_path, thin_networks):
    predictor = predict.Predictor(tiny(levels=("P3",)), 64)
    with pytest.raises(ValueError, match="image.png: there is no such file"):
        predictor("image.png")
    with pytest.raises(ValueError, match="missing.png"):
        predictor(["missing.png"])
    for nothing in (None, 3, {"a": 1}):
        with pytest.raises(ValueError, match="must be an image or an iterable of images"):
            predictor(nothing)
    with pytest.raises(ValueError, match="uint8 or uint16 array"):
        predictor([np.zeros((5, 5, 3))])
    (tmp_path / "bad.keras").write_bytes(b"x")
    with pytest.raises(ValueError, match="bad.keras"):
        predict.Predictor(tmp_path / "bad.keras")
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save(tmp_path / "other.keras")
    with pytest.raises(ValueError, match="holds no detector"):
        predict.Predictor(tmp_path / "other.keras")


def test_pictures_show_the_boxes():
    found = predict.Detections(
        boxes=np.array([[10, 30, 60, 80], [0, 0, 5, 5]], "float32"),
        confidence=np.array([0.9, 0.5]),
        classes=np.array([1, 0]),
        class_names=None,
        letterbox=None,
    )
    pixels = np.full((100, 120, 3), 200, "uint8")
    picture = draw_detections(pixels, found)
    assert isinstance(picture, Image.Image) and picture.size == (120, 100)
    changed = np.asarray(picture) != pixels
    # Lines are drawn around the content of a box.
    assert changed[29, 9:61].any(axis=-1).all() and changed[29:81, 60].any(axis=-1).all()
    assert not changed[30:80, 10:60].any() and (pixels == 200).all()
    assert (np.asarray(picture)[29:81, 9] == class_colour(1)).all()


def test_labels_leave_small_boxes_visible(rng):
    """Defects of 3 to 40 pixels: nothing is drawn into a box, and texts fit to boxes."""
    corners = np.stack(np.meshgrid(np.arange(100, 1800, 200), np.arange(40, 1800, 150)), -1)
    corners = corners.reshape(-1, 2) + rng.integers(0, 60, (108, 2))
    boxes = np.concatenate([corners, corners + rng.integers(3, 41, (108, 2))], axis=1)
    boxes[1::2] = boxes[::2] + [45, 0, 45, 0]  # two beside each other
    found = predict.Detections(
        boxes.astype("float32"), np.ones(108), np.arange(108) % 6, ("missing hole",) * 6, None
    )
    image = np.asarray(draw_detections(np.full((1920, 1920, 3), 200, "uint8"), found))
    untouched = (image == 200).all(axis=-1)
    for x1, y1, x2, y2 in boxes:
        assert untouched[y1:y2, x1:x2].all()
        assert not untouched[y1 - 1, x1 - 1 : x2 + 1].any()
        assert not untouched[y1 - 1 : y2 + 1, x2].any()
    assert (~untouched).mean() < 108 * 160 * 20 / 1920**2


def test_names_in_any_script(caplog, monkeypatch):
    def draw(*names):
        found = predict.Detections(
            np.array([[10, 30, 60, 80]], "float32"), np.ones(1), np.zeros(1, int), names, None
        )
        return np.asarray(draw_detections(np.full((100, 120, 3), 200, "uint8"), found))

    for letter in "\u00d6\u00fc\u00df\u0416\u03a9":
        font = load_font(letter, 20)
        assert drawable(letter, 0) == letter
        # Letters that a font lacks look all the same.
        assert bytes(font.getmask(letter)) != bytes(font.getmask("\uffff"))
    # Without a font of its script, a name becomes the number of its class, and is named once.
    monkeypatch.setattr("keras_spd.images.fonts._system_fonts", lambda: ["/no/font.ttf"])
    unknown = "\u77ed\u8def\U000e0f00"  # which no font of any machine has
    assert (draw(unknown) == draw("class 0")).all() and (draw(unknown) == draw("class 0")).all()
    assert caplog.text.count("No font") == 1 and "'class 0'" in caplog.text


def test_labels_do_not_cover_each_other(rng):
    """As many boxes as blood cells in a crowded image, and some on top of each other."""
    corners = rng.uniform(0, 540, (25, 2)) * [1, 0.75]
    boxes = np.concatenate([corners, corners + rng.uniform(30, 120, (25, 2))], axis=1)
    boxes = np.concatenate([boxes, boxes[:4] + 1]).clip(0, [639, 479, 639, 479])
    places = place_labels(boxes.tolist(), [(57, 13)] * len(boxes), (640, 480))
    taken = np.zeros((480, 640), int)
    for (left, top), (x1, y1, x2, y2) in zip(places, boxes, strict=True):
        assert 0 <= left <= 640 - 57 and 0 <= top <= 480 - 13
        taken[top : top + 13, left : left + 57] += 1
        # It touches its box.
        assert x1 - 58 < left < x2 + 58 and y1 - 15 < top < y2 + 3
    assert taken.sum() == len(boxes) * 57 * 13 and taken.max() == 1
    # If there is no room at all, there is still a position inside the image.
    crowd = place_labels([[0, 0, 5, 5]] * 9, [(20, 8)] * 9, (10, 10))
    assert len(crowd) == 9 and set(crowd) <= {(0, top) for top in range(3)}


@pytest.mark.slow
def test_wrong_number_of_classes(drawings, thin_networks):
    with pytest.raises(ValueError, match="80 classes, the data 2"):
        predict.evaluate(YOLOV5SPD("n", levels=("P3",)), drawings, 64)


@pytest.mark.slow
def test_data_without_boxes_have_no_scores(tmp_path, thin_networks):
    file = write_drawings(tmp_path / "drawings")
    file.write_text(json.dumps(json.loads(file.read_text()) | {"annotations": []}))
    empty = data.load_detection(file)
    model = YOLOV5SPD((0.33, 0.125), classes=2)
    with pytest.raises(ValueError, match="no boxes in the data to score on .8 images"):
        keras_spd.evaluate(model, empty, 64)
    assert len(predict.predict_coco(model, empty, 64)[1]) == 8  # they can be predicted


@pytest.mark.slow
def test_trained_weights_by_their_name():
    model = keras_spd.predict.load_model("bccd")
    assert model.info.class_names == ("RBC", "WBC", "Platelets")
    assert keras_spd.Predictor("bccd").image_size == model.info.image_size
    with pytest.raises(ValueError, match=r"must be a .keras file.*\(cifar10, resnet50_.*bccd"):
        keras_spd.predict.load_model("cifar")
    with pytest.raises(ValueError, match="cifar10 holds no detector"):
        keras_spd.Predictor("cifar10")


def test_files_that_are_no_models(tmp_path):
    with pytest.raises(ValueError, match="none.keras: there is no such file"):
        predict.load_model(tmp_path / "none.keras")
    weights = tmp_path / "run" / "best.weights.h5"
    with pytest.raises(ValueError, match=r"only holds weights.*train --resume --run .*run`"):
        predict.load_model(weights)


@pytest.mark.slow
def test_a_predictor_leaves_the_thresholds_of_the_model(rng, thin_networks):
    model = YOLOV5SPD("n", classes=2)
    former = model.decoder
    predictor = predict.Predictor(model, 64, confidence_threshold=0.001)
    found = predictor([rng.integers(0, 256, (64, 64, 3), dtype="uint8")])
    assert len(found[0]) > 0 and model.decoder is former
    assert predictor.model.network is model.network
    predictor = predict.Predictor(model, 64)
    assert predictor.model is model
    changed = model.decoder = dataclasses.replace(former, confidence_threshold=0.9)
    predictor([rng.integers(0, 256, (64, 64, 3), dtype="uint8")])
    assert model.decoder is changed and predictor.model.decoder == former


@pytest.mark.slow
def test_classes_in_another_order_are_not_scored(drawings, thin_networks):
    model = tiny(classes=2, class_names=drawings.class_names[::-1], levels=("P3",))
    with pytest.raises(ValueError, match="Read the data with `class_names=model.info.class_names`"):
        predict.evaluate(model, drawings, 64)
