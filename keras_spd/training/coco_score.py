"""A callback that adds COCO's scores to the logs of `fit`."""

import logging
from typing import Any

import keras

from keras_spd.checks import check_integer
from keras_spd.data.detection.dataset import DetectionData, require_boxes
from keras_spd.detection.detector import Detector
from keras_spd.detection.image_size import standardize_image_size
from keras_spd.images.tiles import check_tile
from keras_spd.predict import evaluate
from keras_spd.predict.evaluation import check_same_classes
from keras_spd.training.distribution import on_one_device

_log = logging.getLogger(__name__)
_LOGGED = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large")


class COCOScore(keras.callbacks.Callback):
    """Evaluates a `Detector` after epochs of `fit`, as keras-cv's `PyCOCOCallback` does.

    The logs get `val_AP`, `val_AP50`, `val_AP75`, `val_AP_small`, `val_AP_medium`, `val_AP_large`,
    `val_loss` and the parts of the loss. Pass this callback before those that read them. Epochs
    without an evaluation have none of these, and a size without boxes (-1 in COCO's scores) has no
    score. `training.train` uses this callback, and chooses the epoch with the highest `val_AP`.

    Args:
        data: `DetectionData` to score. The scores are those of `keras_spd.evaluate`: sizes are in
            original pixels. Or batches, as `Detector.evaluate` takes them: sizes are in network
            pixels, and there are only `val_AP`, `val_AP50` and `val_AP_small`.
        image_size: Integer or `(height, width)` of the network's input; `None` for the size that
            the model was trained at.
        batch_size: Integer.
        every: Integer. Evaluates every so many epochs, and after the last one.
        tile, overlap: As in `keras_spd.evaluate`: larger images are predicted in tiles and scored
            as a whole. Not for batches.
        min_area, whole: As in `DetectionData.tiles`. The losses are those of
            `data.tiles(tile, overlap, min_area=min_area, whole=whole)`.
        twin: The same network on one device, to evaluate while training runs on several: otherwise
            every device would predict every image. `None` for the model itself.

    Raises:
        ValueError: If the data has no boxes, `tile` is set for batches, `every` is not a positive
            integer, the image size does not fit the model, or the model is not a
            `Detector` or has other classes.

    Example:

    >>> score = keras_spd.training.COCOScore(validation_data, 640)
    >>> best = keras.callbacks.ModelCheckpoint(
    ...     "best.keras", monitor="val_AP", mode="max", save_best_only=True
    ... )
    >>> stop = keras.callbacks.EarlyStopping(monitor="val_AP", mode="max", patience=10)
    >>> model.fit(batches, epochs=100, callbacks=[score, best, stop])
    """

    def __init__(
        self,
        data: DetectionData | Any,
        image_size: int | tuple[int, int] | None = None,
        *,
        batch_size: int = 16,
        every: int = 1,
        tile: int | tuple[int, int] | None = None,
        overlap: float = 0.2,
        min_area: float = 0.5,
        whole: bool = False,
        twin: Detector | None = None,
    ) -> None:
        super().__init__()
        if isinstance(data, DetectionData):
            require_boxes(data, "data to score on")
        elif tile is not None:
            raise ValueError(
                "`tile` needs `DetectionData`, whose images can be cut. Received: "
                f"tile={tile!r} and data of type {type(data).__name__}."
            )
        self.data = self.parts = data
        if tile is not None:
            self.parts = data.tiles(tile, overlap, min_area=min_area, whole=whole)
        self.tiling: dict[str, Any] = {"tile": tile, "overlap": overlap}
        self.image_size = image_size
        self.batch_size = batch_size
        self.every = check_integer("every", every)
        self.twin = twin

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        if not isinstance(self.model, Detector):
            raise ValueError(
                "`COCOScore` evaluates a `keras_spd.applications.Detector`. Received: "
                f"{self.model.name!r}, of type {type(self.model).__name__}."
            )
        if isinstance(self.data, DetectionData):  # checked before the first epoch, not after it
            check_same_classes(self.model, self.data)
            self._input_size(self.model)
        if self.every > 1 and self.params["epochs"] > 1:
            every = f"every {self.every} epochs and " if self.every < self.params["epochs"] else ""
            _log.info("The model is evaluated %safter the last epoch (`evaluate_every`).", every)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if (epoch + 1) % self.every != 0 and epoch + 1 != self.params.get("epochs"):
            return
        with on_one_device(self.model, self.twin) as model:
            scores = self._evaluate(model)
        if logs is not None:
            logs |= {
                f"val_{name}": value
                for name, value in scores.items()
                if value >= 0 or not name.startswith("AP")
            }

    def _input_size(self, model: Detector) -> tuple[int, int]:
        tile = self.tiling["tile"]
        tile = None if tile is None else check_tile(tile)
        return standardize_image_size(self.image_size, model, tile)

    def _evaluate(self, model: Detector) -> dict[str, float]:
        if not isinstance(self.data, DetectionData):
            return model.evaluate(self.data, return_dict=True, verbose=0)
        scores = evaluate(
            model, self.data, self.image_size, batch_size=self.batch_size, **self.tiling
        ).metrics
        batches = self.parts.batches(
            self.batch_size,
            self._input_size(model),
            bounding_box_format=model.bounding_box_format,
            preprocess=model.info.preprocessing.normalize,
        )
        losses = keras.Model.evaluate(model, batches, return_dict=True, verbose=0)
        # The loss counts the images of a batch. Full batches make it independent of the last one.
        penalties = sum(float(keras.ops.convert_to_numpy(loss)) for loss in model.losses)
        losses["loss"] = model.loss.total(losses, self.batch_size) + penalties
        return {name: scores[name] for name in _LOGGED} | losses
