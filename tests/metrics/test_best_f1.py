"""The confidence with the best F1 score, against counting at every threshold."""

import numpy as np
import pytest

from keras_spd.metrics import evaluate_coco

SIDE = 20


def case(rng, images=6):
    """Objects of 3 classes and detections of about half of them among as many false ones."""
    annotations, results = [], []
    for image in range(images):
        for column in range(8):
            label, place = int(rng.integers(2)), [40 * column, 0, SIDE, SIDE]
            if rng.random() < 0.7:
                crowd = int(rng.random() < 0.1)
                annotation = {"image_id": image, "category_id": label, "bbox": place}
                annotations.append(annotation | {"iscrowd": crowd})
            for _ in range(int(rng.integers(3))):
                right = label if rng.random() < 0.8 else 1 - label
                score = float(rng.integers(1, 20)) / 20  # many are equal
                results.append(
                    {"image_id": image, "category_id": right, "bbox": place, "score": score}
                )
    names = ("a", "b", "c")
    categories = [{"id": index, "name": name} for index, name in enumerate(names)]
    truth = {"images": [{"id": image} for image in range(images)], "categories": categories}
    return truth | {"annotations": annotations}, results


def count(truth, results, threshold, label=None):
    """Precision, recall and F1 of the detections above a threshold, counted place by place."""
    objects, crowds = set(), set()
    for entry in truth["annotations"]:
        key = entry["image_id"], entry["category_id"], entry["bbox"][0]
        if label in (None, key[1]):
            (crowds if entry["iscrowd"] else objects).add(key)
    keys = [
        (entry["image_id"], entry["category_id"], entry["bbox"][0])
        for entry in results
        if entry["score"] > threshold and label in (None, entry["category_id"])
    ]
    keys = [key for key in keys if key not in crowds]
    right = len(set(keys) & objects)
    f1 = 2 * right / (len(keys) + len(objects)) if right else 0
    return {
        "precision": right / max(len(keys), 1),
        "recall": right / max(len(objects), 1),
        "F1": f1,
    }


@pytest.mark.parametrize("seed", range(3))
def test_no_threshold_is_better(seed):
    truth, results = case(np.random.default_rng(seed))
    scores = evaluate_coco(truth, results)
    found = {None: scores.best_f1, 0: scores.per_class["a"], 1: scores.per_class["b"]}
    for label, best in found.items():
        counted = count(truth, results, best["confidence"], label)
        assert {key: best[key] for key in counted} == pytest.approx(counted), label
        others = [count(truth, results, step / 40, label)["F1"] for step in range(40)]
        assert best["F1"] == pytest.approx(max(others))
    none = {name: scores.per_class["c"][name] for name in scores.best_f1}
    assert set(none.values()) == {-1}


def test_nothing_right():
    truth, results = case(np.random.default_rng(0))
    for found in ([], [entry | {"category_id": 2} for entry in results]):
        best = evaluate_coco(truth, found).best_f1
        assert best == {"F1": 0, "confidence": -1, "precision": 0, "recall": 0}
