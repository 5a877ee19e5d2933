"""COCO's scores against published ones, and against small cases with known answers."""

import json
import math
import re

import numpy as np
import pytest
from conftest import find_shared

from keras_spd.metrics import confusion_matrix, evaluate_coco
from keras_spd.metrics.batch_evaluation import evaluate_batches
from keras_spd.metrics.coco import run_cocoeval

NAMES = {"APs": "AP_small", "APm": "AP_medium", "APl": "AP_large"}
NAMES |= {"ARs": "AR_small", "ARm": "AR_medium", "ARl": "AR_large"}


@pytest.fixture(scope="module")
def references():
    return find_shared("data/coco-eval-ref")


def check(metrics, expected, tolerance):
    for name, value in expected.items():
        if name != "source":
            assert metrics[NAMES.get(name, name)] == pytest.approx(value, abs=tolerance), name


@pytest.mark.slow
def test_cocoapi(references):
    folder = references / "cocoapi_val2014_100"
    expected = json.loads((folder / "expected.json").read_text())
    truth = folder / "instances_val2014_100.json"
    scores = evaluate_coco(truth, folder / "instances_val2014_fakebbox100_results.json")
    check(scores.metrics, expected["bbox"], 1e-9)
    assert sum(row["boxes"] for row in scores.by_side.values()) == sum(
        row["boxes"] for row in scores.per_class.values()
    )
    results = json.loads((folder / "instances_val2014_fakesegm100_results.json").read_text())
    masks = run_cocoeval(json.loads(truth.read_text()), results, iou_type="segm")
    np.testing.assert_allclose(masks.stats, list(expected["segm"].values()), atol=1e-9)


@pytest.mark.slow
def test_padilla(references):
    folder = references / "padilla_sampled"
    expected = json.loads((folder / "expected.json").read_text())
    results = json.loads((folder / "sampled_bbox_results.json").read_text())["annotations"]
    scores = evaluate_coco(folder / "sampled_gts_bbox_area.json", results)
    check(scores.metrics, expected, 1e-6)


@pytest.mark.slow
def test_keras_cv(references):
    folder = references / "kerascv_sample"
    expected = json.loads((folder / "expected.json").read_text())
    with np.load(folder / "sample_boxes.npz") as arrays:
        truth, found = arrays["arr_0"], arrays["arr_1"]
    classes = sorted({int(label) for label in truth[..., 4].ravel() if label >= 0})
    content = {
        "images": [{"id": image} for image in range(len(truth))],
        "categories": [{"id": label, "name": str(label)} for label in classes],
        "annotations": [
            {"image_id": image, "category_id": int(row[4]), "bbox": row[:4].tolist()}
            for image, rows in enumerate(truth)
            for row in rows
            if row[4] >= 0
        ],
    }
    results = [
        {
            "image_id": image,
            "category_id": int(row[4]),
            "bbox": row[:4].tolist(),
            "score": float(row[5]),
        }
        for image, rows in enumerate(found)
        for row in rows
        if row[4] in classes
    ]
    check(evaluate_coco(content, results).metrics, expected, 1e-6)


def make(boxes, images=2):
    """Annotations of (image, category, x, y, w, h), categories 0 and 1."""
    return {
        "images": [{"id": image} for image in range(images)],
        "categories": [{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}],
        "annotations": [
            {"image_id": image, "category_id": category, "bbox": list(box)}
            for image, category, *box in boxes
        ],
    }


def found(*boxes, score=0.9):
    return [
        {"image_id": image, "category_id": category, "bbox": list(box), "score": score}
        for image, category, *box in boxes
    ]


BOX = (0, 0, 10, 10, 20, 20)


def test_ids_of_tiles_and_of_whole_images_and_boxes_as_arrays():
    boxes = [("0:0,64", *BOX[1:]), (1, *BOX[1:])]
    truth = make(boxes) | {"images": [{"id": "0:0,64"}, {"id": 1}]}
    results = [one | {"bbox": np.array(one["bbox"], "float32")} for one in found(*boxes)]
    scores = evaluate_coco(truth, results, scales={"0:0,64": 1.0, 1: 2.0})
    assert scores.metrics["AP"] == pytest.approx(1)
    assert scores.by_side["16-32"]["boxes"] == 1


def test_a_perfect_detection_of_class_0():
    scores = evaluate_coco(make([BOX]), found(BOX))
    assert scores.metrics["AP"] == pytest.approx(1) and scores.metrics["AP_large"] == -1
    cat, dog = scores.per_class["cat"], scores.per_class["dog"]
    assert (cat["AP"], cat["AP50"], cat["boxes"]) == (pytest.approx(1), pytest.approx(1), 1)
    assert (dog["AP"], dog["AP50"], dog["boxes"]) == (-1, -1, 0)


def test_other_numbers_of_detections():
    scores = evaluate_coco(make([BOX]), found(BOX), max_detections=(1, 10, 300))
    assert scores.metrics == evaluate_coco(make([BOX]), found(BOX)).metrics
    assert scores.metrics["AP"] == pytest.approx(1)
    both = BOX, (0, 0, 100, 100, 20, 20)
    assert evaluate_coco(make(both), found(*both)).metrics["AP"] == pytest.approx(1)
    limited = evaluate_coco(make(both), found(*both), max_detections=(1, 1, 1))
    assert limited.metrics["AP"] == pytest.approx(51 / 101)  # one of two objects
    with pytest.raises(ValueError, match="three positive integers in ascending order"):
        evaluate_coco(make([BOX]), found(BOX), max_detections=300)


def test_an_image_without_a_detection_counts():
    truth = make([BOX, (1, 0, 10, 10, 20, 20)])
    assert evaluate_coco(truth, found(BOX)).metrics["AP"] == pytest.approx(51 / 101)


def test_no_detection_at_all():
    metrics = evaluate_coco(make([BOX]), []).metrics
    assert metrics["AP"] == 0 and metrics["AR100"] == 0


def test_crowd_regions_are_ignored():
    truth = make([BOX, (0, 0, 100, 100, 50, 50)])
    truth["annotations"][1]["iscrowd"] = 1
    results = found(BOX, (0, 0, 100, 100, 50, 50), (0, 0, 110, 110, 20, 20))
    assert evaluate_coco(truth, results).metrics["AP"] == pytest.approx(1)


def test_by_side_in_network_pixels():
    boxes = [(0, 0, 0, 0, 16, 16), (0, 0, 40, 0, 15, 15), (1, 0, 0, 0, 16, 16)]
    results = found(boxes[1], boxes[2])
    by_side = evaluate_coco(make(boxes), results).by_side
    assert [row["boxes"] for row in by_side.values()] == [0, 1, 2, 0]
    assert by_side["8-16"]["AP"] == pytest.approx(1)
    assert by_side["16-32"]["AP"] == pytest.approx(51 / 101)
    by_side = evaluate_coco(make(boxes), results, scales={0: 0.5, 1: 2.0}).by_side
    assert [row["boxes"] for row in by_side.values()] == [1, 1, 0, 1]
    assert by_side["8-16"]["AP"] == 0 and by_side[">=32"]["AP"] == pytest.approx(1)


def test_scales_of_all_images_are_needed():
    with pytest.raises(ValueError, match="a number for each image. 1 are missing, such as 1"):
        evaluate_coco(make([BOX]), found(BOX), scales={0: 1.0})


def test_fields_that_are_null_are_as_if_missing():
    truth = make([BOX])
    truth["annotations"][0] |= {"area": None, "iscrowd": None}
    assert (
        evaluate_coco(truth, found(BOX)).metrics == evaluate_coco(make([BOX]), found(BOX)).metrics
    )


def test_caller_keeps_its_dictionaries():
    truth, results = make([BOX]), found(BOX)
    before = json.dumps([truth, results])
    evaluate_coco(truth, results)
    assert json.dumps([truth, results]) == before


def test_summary_and_json(capsys):
    scores = evaluate_coco(make([BOX]), found(BOX))
    assert capsys.readouterr().out == ""
    text = scores.summary()
    assert "Average precision, IoU 0.50:0.95, small (area < 32x32)" in text and "cat" in text
    best = r"^Best F1, .* 1.000\n  at confidence 0.450: precision 1.000, recall 1.000$"
    assert re.search(best, text, re.M)
    assert re.search(r"^cat +1 +1.000 +1.000 +1.000 +0.450 +1.000 +1.000$", text, re.M)
    assert re.search(r"^dog +0( +-){6}$", text, re.M)
    assert re.search(r"^<8 +0 +- +-$", text, re.M) and "-1." not in text and "nan" not in text
    assert json.loads(json.dumps(scores.to_json()))["metrics"]["AP50"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("results", "message"),
    [
        (found((5, 0, 1, 1, 2, 2)), "image_id=5, which is not in the ground"),
        (found((0, 7, 1, 1, 2, 2)), "category_id=7"),
        ([{"image_id": 0}], r"has no \['bbox'"),
        ([1], "Detection 0 must be a dictionary. Received: 1"),
        ({}, "must be a list"),
        ([found(BOX)[0] | {"bbox": None}], "Detection 0 must have a `bbox` of four finite numbers"),
        ([found(BOX)[0] | {"bbox": [1, 2, 3]}], "Detection 0 must have a `bbox` of four"),
        ([found(BOX)[0] | {"bbox": [1, 2, 3, math.nan]}], "Detection 0 must have a `bbox` of four"),
        ([found(BOX)[0] | {"score": "0.5"}], "Detection 0 must have a finite number as `score`"),
    ],
)
def test_bad_detections(results, message):
    with pytest.raises(ValueError, match=message):
        evaluate_coco(make([BOX]), results)


def test_bad_ground_truth(tmp_path):
    with pytest.raises(ValueError, match="lists of images, annotations, categories"):
        evaluate_coco({"images": []}, [])
    with pytest.raises(ValueError, match="missing.json"):
        evaluate_coco(tmp_path / "missing.json", [])
    incomplete = {"images": [{"id": 1}], "annotations": [{"id": 1, "image_id": 1}]}
    incomplete["categories"] = [{"id": 1, "name": "a"}]
    with pytest.raises(ValueError, match="Entry 0 of `annotations`.* must have image_id, categ"):
        evaluate_coco(incomplete, [])
    truth = make([BOX])
    truth["annotations"][0]["bbox"] = [1, 2, "3", 4]
    with pytest.raises(ValueError, match="Entry 0 of `annotations`.* `bbox` of four finite"):
        evaluate_coco(truth, [])


def test_annotations_of_other_images_do_not_count():
    """As in a file that lists a part of the images only."""
    image = {"id": 1, "width": 64, "height": 64}
    box = {"bbox": [8, 8, 20, 20], "category_id": 1}
    truth = {
        "images": [image],
        "annotations": [{"id": n, "image_id": n, **box} for n in (1, 2)],
        "categories": [{"id": 1, "name": "a"}],
    }
    results = [{"image_id": 1, "score": 0.9, **box}]
    scores = evaluate_coco(truth, results, scales={1: 1.0})
    assert scores.metrics["AP"] == pytest.approx(1) and scores.per_class["a"]["boxes"] == 1
    matrix, _ = confusion_matrix(truth, results)
    assert matrix.tolist() == [[1, 0], [0, 0]]
    truth["categories"].append({"id": 2, "name": "a"})
    with pytest.raises(ValueError, match="different ids and names. Received: {1: 'a', 2: 'a'}"):
        evaluate_coco(truth, results)


def test_a_box_of_a_batch_without_height_is_no_object():
    truth = {"boxes": np.array([[[0, 0, 9, 9], [1, 5, 8, 5]]], "f4"), "classes": np.zeros((1, 2))}
    found = {"boxes": truth["boxes"][:, :1], "classes": np.zeros((1, 1), int)}
    found["confidence"] = np.ones((1, 1), "f4")
    scores = evaluate_batches([(found, truth, (1, 32, 32, 3))], 1)
    assert scores.metrics["AP"] == pytest.approx(1)
