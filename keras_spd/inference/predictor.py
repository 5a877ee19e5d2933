"""Images of any size in, boxes in their pixels out."""

import dataclasses
import pathlib

import keras
import numpy as np

from keras_spd.boxes import Letterbox, convert_boxes
from keras_spd.data import letterbox
from keras_spd.data.images import read_image
from keras_spd.inference.tflite_detector import TFLiteDetector


@dataclasses.dataclass(frozen=True, eq=False)
class Detections:
    """What was found in one image.

    Args:
        boxes: float32 array of shape `(detections, 4)`, xyxy in pixels of the original image.
        confidence: float32 array of shape `(detections,)`, the highest first.
        classes: Integer array of shape `(detections,)`.
        class_names: One name for each class of the model; `None` if it has none.
        letterbox: `Letterbox`, how the image was put into the network.
    """

    boxes: np.ndarray
    confidence: np.ndarray
    classes: np.ndarray
    class_names: tuple[str, ...] | None
    letterbox: Letterbox

    def __len__(self):
        return len(self.boxes)

    def name(self, label):
        """Returns the name of a class, or its number."""
        return self.class_names[label] if self.class_names else str(label)

    def to_json(self):
        """Returns a list of dictionaries with `box`, `confidence`, `class` and `name`."""
        return [
            {
                "box": [round(float(side), 2) for side in box],
                "confidence": round(float(confidence), 5),
                "class": int(label),
                "name": self.name(int(label)),
            }
            for box, confidence, label in zip(
                self.boxes, self.confidence, self.classes, strict=True
            )
        ]


class Predictor:
    """Runs a detector on image files and arrays of any size.

    Args:
        model: `Detector`, or the path of one: `.keras`, or `.tflite` of `keras-spd export`.
        image_size: Integer or `(height, width)`: the size images are letterboxed to, in pixels;
            multiples of the model's largest stride. Defaults to the size the model was trained
            at, or to 640.
        batch_size: Integer.
        confidence_threshold, iou_threshold, max_detections: As in `keras_spd.detection.Decoder`;
            `None` for the model's.

    Raises:
        ValueError: If an argument is not as described.

    Example:

    >>> predictor = keras_spd.Predictor("runs/boards/model.keras")
    >>> [found] = predictor(["board.jpg"])
    >>> found.boxes, found.confidence, found.classes
    """

    def __init__(
        self,
        model,
        image_size=None,
        *,
        batch_size=16,
        confidence_threshold=None,
        iou_threshold=None,
        max_detections=None,
    ):
        if isinstance(model, str) or hasattr(model, "__fspath__"):
            model = load_detector(model)
        self.model = model
        self.image_size = standardize_image_size(image_size, model)
        self.batch_size = batch_size
        options = {
            "confidence_threshold": confidence_threshold,
            "iou_threshold": iou_threshold,
            "max_detections": max_detections,
        }
        self.decoder = dataclasses.replace(
            model.decoder, **{key: value for key, value in options.items() if value is not None}
        )

    def __call__(self, images):
        """Finds objects.

        Args:
            images: Iterable of paths and of uint8 arrays `(height, width, 3)` with RGB pixels.

        Returns:
            List of `Detections`, one for each image.

        Raises:
            ValueError: If an image cannot be read; it names the file.
        """
        if isinstance(images, (str, bytes)) or hasattr(images, "__fspath__"):
            raise ValueError(f"`images` must be a list. Received: {images!r}. Pass `[{images!r}]`.")
        found, batch = [], []
        for image in images:
            batch.append(image if isinstance(image, np.ndarray) else read_image(image))
            if len(batch) == self.batch_size:
                found += self._predict(batch)
                batch = []
        return found + (self._predict(batch) if batch else [])

    def _predict(self, pixels):
        boxed = [letterbox(_check_pixels(image), self.image_size) for image in pixels]
        # A short last batch is filled up, so that the network is compiled for one shape.
        canvases = [canvas for canvas, _ in boxed]
        canvases += [np.zeros_like(canvases[0])] * (self.batch_size - len(canvases))
        return detect(self.model, np.stack(canvases), [fit for _, fit in boxed], self.decoder)


def detect(model, images, letterboxes, decoder):
    """Runs a detector on one batch of letterboxed images.

    Args:
        model: `Detector`.
        images: Array of shape `(batch, height, width, 3)`, pixels 0..255.
        letterboxes: `Letterbox` of each image; those behind the last are left out.
        decoder: `Decoder`.

    Returns:
        List of `Detections`, one for each of `letterboxes`.
    """
    low, high = model.info.input_range
    if model.decoder != decoder:
        model.decoder = decoder
    outputs = model.predict_on_batch(images.astype("float32") * ((high - low) / 255) + low)
    if model.bounding_box_format != "xyxy":
        size = images.shape[1:3]
        outputs["boxes"] = convert_boxes(outputs["boxes"], model.bounding_box_format, "xyxy", size)
    outputs = {key: np.asarray(value) for key, value in outputs.items()}
    found = []
    for index, fit in enumerate(letterboxes):
        count = int(outputs["num_detections"][index])
        found.append(
            Detections(
                boxes=fit.to_image(outputs["boxes"][index, :count]).astype("float32"),
                confidence=outputs["confidence"][index, :count],
                classes=outputs["classes"][index, :count],
                class_names=model.info.class_names,
                letterbox=fit,
            )
        )
    return found


def load_model(path):
    """Loads a Keras model from a `.keras` file, with errors that name the file."""
    if pathlib.Path(path).suffix != ".keras":
        raise ValueError(
            f"Cannot load a model from {path}: it must be a .keras file, such as `model.keras` in "
            "the run folder of `keras-spd train`."
        )
    try:
        return keras.saving.load_model(path)
    except (ValueError, OSError, TypeError, KeyError) as error:
        raise ValueError(f"Cannot load a model from {path}: {error}") from error


def load_detector(path):
    """Loads a detector from a `.keras` or `.tflite` file, with errors that name the file."""
    from keras_spd.applications import Detector

    suffix = pathlib.Path(path).suffix
    if suffix == ".tflite":
        return TFLiteDetector(path)
    if suffix != ".keras":
        raise ValueError(
            f"Cannot load a model from {path}: it must be a .keras file, such as `model.keras` in "
            "the run folder of `keras-spd train`, or a .tflite file of `keras-spd export`."
        )
    model = load_model(path)
    if not isinstance(model, Detector):
        raise ValueError(f"{path} is not a detector of keras_spd, but a {type(model).__name__}.")
    return model


def standardize_image_size(image_size, model):
    """Returns `(height, width)`, or raises a `ValueError` unless the stride divides both."""
    if image_size is None:
        image_size = model.fixed_image_size or model.info.image_size or 640
    stride = model.stride
    size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    if len(size) != 2 or any(not isinstance(s, int) or s < stride or s % stride for s in size):
        raise ValueError(
            f"`image_size` must be one or two multiples of {stride}, the largest stride of the "
            f"detector, such as {10 * stride}. Received: image_size={image_size!r}."
        )
    if model.fixed_image_size not in (None, size):
        raise ValueError(
            f"The detector takes images of {model.fixed_image_size} only (height, width). "
            f"Received: image_size={image_size!r}."
        )
    return size


def _check_pixels(pixels):
    if pixels.ndim != 3 or pixels.shape[-1] != 3 or pixels.dtype != np.uint8:
        raise ValueError(
            "Images must be uint8 arrays of shape (height, width, 3). "
            f"Received: {pixels.dtype} of shape {pixels.shape}."
        )
    return pixels
