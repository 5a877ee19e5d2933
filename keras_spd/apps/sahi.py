"""Our detectors in SAHI, the library for slicing aided inference."""

from typing import Any

import numpy as np

from keras_spd.predict.predictor import Predictor
from keras_spd.typing import Path

try:
    from sahi.models.base import DetectionModel
    from sahi.prediction import ObjectPrediction
except ImportError as error:
    raise ImportError("SAHI's detection model needs `pip install sahi`.") from error


class SahiDetectionModel(DetectionModel):
    """A detector for `sahi.predict`, which slices images and merges boxes in its own ways.

    `Predictor(tile=...)` slices without SAHI. Use this class for SAHI's postprocessing, its
    exports, or to compare our detectors with others in one script.

    Args:
        model_path: As `model` in `keras_spd.Predictor`: the path of a `.keras`, `.tflite` or `.pt`
            file, or a name from `keras_spd.list_models`.
        model: `Predictor`, instead of `model_path`. Its own confidence threshold also applies.
        confidence_threshold, category_mapping, category_remapping, image_size, load_at_init: As in
            SAHI's `DetectionModel`.

    Example:

    >>> from sahi.predict import get_sliced_prediction
    >>> model = SahiDetectionModel("runs/ships/model.keras", confidence_threshold=0.3)
    >>> result = get_sliced_prediction("port.jpg", model, slice_height=640, slice_width=640)
    >>> result.object_prediction_list

    References:
        Akyon et al., "Slicing Aided Hyper Inference and Fine-tuning for Small Object Detection",
        ICIP 2022, https://arxiv.org/abs/2202.06934.
    """

    category_mapping: dict[str, str] | None

    def __init__(self, model_path: Path | None = None, **options: Any) -> None:
        super().__init__(None if model_path is None else str(model_path), **options)

    def set_device(self, device: str | None = None) -> None:
        """Does nothing: Keras chooses the device."""

    def load_model(self) -> None:
        """Loads the detector from `model_path`."""
        if self.model_path is None:
            raise ValueError("Pass `model_path`, or a `Predictor` as `model`.")
        self.set_model(
            Predictor(
                self.model_path,
                self.image_size,
                confidence_threshold=self.confidence_threshold,
            )
        )

    def set_model(self, model: Any, **kwargs: Any) -> None:
        """Uses a `Predictor`."""
        if not isinstance(model, Predictor):
            raise ValueError(f"`model` must be a `keras_spd.Predictor`. Received: {model!r}.")
        self.model = model
        names = model.model.info.class_names or range(model.model.num_classes)
        if not self.category_mapping:
            self.category_mapping = {str(label): str(name) for label, name in enumerate(names)}

    def perform_inference(self, image: np.ndarray) -> None:
        """Finds objects in one RGB image."""
        self.perform_batch_inference([image])

    def perform_batch_inference(self, images: list[np.ndarray]) -> None:
        """Finds objects in RGB images of the same or different sizes."""
        self._original_predictions = self.model(images)
        self._original_shapes = [image.shape for image in images]

    def _create_object_prediction_list_from_original_predictions(
        self, shift_amount_list: Any = None, full_shape_list: Any = None
    ) -> None:
        found, names = self._original_predictions, self.category_mapping or {}
        shifts = _for_each(shift_amount_list, len(found)) or [[0, 0]] * len(found)
        shapes = _for_each(full_shape_list, len(found)) or [None] * len(found)
        self._object_prediction_list_per_image = [
            [
                ObjectPrediction(
                    bbox=box,
                    category_id=int(label),
                    category_name=names[str(int(label))],
                    score=float(confidence),
                    shift_amount=shift,
                    full_shape=shape or list(one.image_size_hw),
                )
                for box, confidence, label in zip(
                    one.boxes.tolist(), one.confidence, one.classes, strict=True
                )
                if confidence >= self.confidence_threshold
            ]
            for one, shift, shape in zip(found, shifts, shapes, strict=True)
        ]


def _for_each(values: Any, images: int) -> Any:
    """Returns one entry for each image; SAHI passes a single one without a list."""
    if values and not isinstance(values[0], (list, tuple)):
        return [values] * images
    return values
