"""COCO's scores in the logs of plain `fit`."""

import dataclasses

import keras
import numpy as np
import pytest
from drawings import write_drawings
from tiny import tiny_classifier, tiny_detector

from keras_spd import data
from keras_spd.metrics import COCOScores
from keras_spd.training import COCOScore, coco_score


@pytest.fixture(scope="module")
def drawings(tmp_path_factory):
    return data.load_detection(write_drawings(tmp_path_factory.mktemp("drawings"), 4))


@pytest.fixture
def model(drawings, thin_networks):
    model = tiny_detector((0, 255))
    model.info = dataclasses.replace(model.info, class_names=drawings.class_names)
    model.compile()
    return model


def test_callbacks_of_keras_monitor_the_score(tmp_path, drawings, model, monkeypatch):
    """AP rises once and falls twice, and sizes without a box have no score."""
    values = iter([0.1, 0.4, 0.3, 0.2, 0.5])

    def score(evaluated, scored, image_size, batch_size, tile, overlap):
        assert (evaluated, scored, image_size, batch_size) == (model, drawings, 32, 2)
        assert (tile, overlap) == (None, 0.2)
        metrics = dict.fromkeys(coco_score._LOGGED, next(values))
        return COCOScores(metrics | {"AP_large": -1}, {}, {})

    monkeypatch.setattr(coco_score, "evaluate", score)
    # The mean over full batches of two and a last one of one image.
    losses = {"loss": 2.5, "box_loss": 0.5, "objectness_loss": 0.75, "class_loss": 0.25}
    monkeypatch.setattr(keras.Model, "evaluate", lambda *args, **options: dict(losses))
    options = {"monitor": "val_AP", "mode": "max"}
    best = tmp_path / "best_{epoch}.weights.h5"
    callbacks = [
        COCOScore(drawings, 32, batch_size=2),
        keras.callbacks.ModelCheckpoint(
            best, save_best_only=True, save_weights_only=True, **options
        ),
        keras.callbacks.EarlyStopping(patience=2, **options),
    ]
    history = keras.callbacks.History()
    calls = keras.callbacks.CallbackList([*callbacks, history], model=model, epochs=9)
    calls.on_train_begin()
    for epoch in range(9):
        calls.on_epoch_end(epoch, {"loss": 2.0})
        if model.stop_training:
            break
    assert history.history["val_AP"] == [0.1, 0.4, 0.3, 0.2]
    names = [path.name for path in sorted(tmp_path.glob("*"))]
    assert names == ["best_1.weights.h5", "best_2.weights.h5"]
    assert "val_AP_small" in history.history and "val_AP_large" not in history.history
    assert history.history["val_loss"] == [3.0] * 4


@pytest.mark.slow
@pytest.mark.parametrize("batched", [False, True])
def test_every_second_epoch_and_the_last(drawings, model, batched):
    batches = drawings.batches(4, (64, 64))
    callback = COCOScore(batches if batched else drawings, (64, 64), batch_size=4, every=2)
    logs = model.fit(batches, epochs=3, callbacks=[callback], verbose=0).history
    assert len(logs["val_AP"]) == 2 and np.isfinite(logs["val_AP"]).all()
    assert len(logs["loss"]) == 3 and np.isfinite(logs["val_box_loss"]).all()
    assert "val_AP_small" in logs and model.decoder.confidence_threshold == 0.25


def test_other_classes_are_found_before_the_first_epoch(drawings, model):
    names = drawings.class_names[::-1]
    callback = COCOScore(dataclasses.replace(drawings, class_names=names), 64, every=5)
    callback.set_model(model)
    with pytest.raises(ValueError, match="Read the data with `class_names=model.info.class_na"):
        callback.on_train_begin()


def test_what_cannot_be_scored(drawings):
    empty = data.DetectionData((), ("a",), (1,))
    with pytest.raises(ValueError, match="no boxes in the data to score on"):
        COCOScore(empty)
    with pytest.raises(ValueError, match=r"`tile` needs `DetectionData`.*tile=640 and data of"):
        COCOScore(drawings.batches(2, 64), tile=640)
    callback = COCOScore(drawings)
    callback.set_model(tiny_classifier())
    with pytest.raises(ValueError, match=r"`every` must be an integer >= 1. Received: every=0"):
        COCOScore(drawings, every=0)
    with pytest.raises(
        ValueError, match=r"evaluates a .*Detector`. Received: 'tiny', of type Image"
    ):
        callback.on_train_begin()


def test_a_bad_image_size_is_refused_before_the_first_epoch(drawings, model):
    callback = COCOScore(drawings, 330)
    callback.set_model(model)
    with pytest.raises(ValueError, match="multiples of 8"):
        callback.on_train_begin()
