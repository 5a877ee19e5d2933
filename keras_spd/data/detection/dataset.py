"""`DetectionData`, the interface of all detection datasets."""

import dataclasses
import itertools
import os
from collections.abc import Callable, Iterable
from typing import Any, Literal

import numpy as np

from keras_spd.data.detection.augmentation import DetectionAugmentation
from keras_spd.data.detection.transform import Transform
from keras_spd.data.hold_out import hold_out
from keras_spd.data.problems import Problems, name_classes, plural
from keras_spd.images.read import find_max_value, read_image
from keras_spd.typing import Array

_ROUNDING = 0.5  # pixels that a box may extend beyond the image without being reported


@dataclasses.dataclass(frozen=True, eq=False)
class BoxedImage:
    """An image and the boxes in it.

    Args:
        image_id: Integer or string, as in the annotations.
        name: File name, for messages.
        source: Path, or function that returns the bytes of an encoded image.
        size_hw: Height and width in pixels.
        boxes: float32 array of shape `(boxes, 4)`, xyxy in pixels, inside the image.
        classes: Integer array of shape `(boxes,)`.
        crowd: Boolean array of shape `(boxes,)`, true for regions of many objects, which training
            skips and COCO's scores ignore.
        records: The entry of each box in COCO annotations, if it was read from them.
        max_value: The value that maps to 255 in an image with more than 8 bits, as in
            `load_detection`.
    """

    image_id: Any
    name: str
    source: Any
    size_hw: tuple[int, int]
    boxes: np.ndarray
    classes: np.ndarray
    crowd: np.ndarray
    records: tuple[dict, ...] = ()
    max_value: float | None = None

    def read(self) -> Array:
        """Returns the pixels, a uint8 array of shape `(height, width, 3)`."""
        return read_image(self.encoded(), self.name, self.size_hw, self.max_value)

    def encoded(self) -> str | os.PathLike | bytes:
        """Returns the path of the image, or its encoded bytes."""
        return self.source() if callable(self.source) else self.source


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class DetectionData:
    """Images with boxes, ready to be batched. Create it with `load_detection`.

    Args:
        images: Tuple of `BoxedImage`.
        class_names: Tuple of strings, by class.
        category_ids: The ids of the classes in the annotations.
        coco: The COCO dictionary that the dataset was read from, if any. Its annotations are the
            `records` of the images.
        problems: Problems with files and annotations, one line each.
        notes: Remarks that are not problems, such as clipped boxes.
    """

    images: tuple[BoxedImage, ...]
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    coco: dict | None = None
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def num_images(self) -> int:
        """Integer, the number of images."""
        return len(self.images)

    @property
    def max_value(self) -> float | None:
        """The value that maps to 255 in images with more than 8 bits; `None` for the largest."""
        return self.images[0].max_value if self.images else None

    def with_max_value(self, max_value: float | None) -> "DetectionData":
        """Returns the data with another `max_value` for images with more than 8 bits."""
        return dataclasses.replace(self, images=with_max_value(self.images, max_value))

    def hold_out(self, fraction: float, seed: int = 0) -> tuple["DetectionData", "DetectionData"]:
        """Holds out a fraction of the images, chosen at random, for validation.

        Frames of one video, and parts of one picture, resemble each other: put them into different
        splits yourself.

        Args:
            fraction: Number between 0 and 1.
            seed: Integer. The same seed holds out the same images.

        Returns:
            The data without these images, and these images.

        Raises:
            ValueError: If `fraction` is not between 0 and 1, or there is only one image.

        Example:

        >>> train, validation = keras_spd.data.load_detection("boards/train.json").hold_out(0.1)
        """
        rest, held_out = (
            dataclasses.replace(self, images=tuple(self.images[index] for index in indices))
            for indices in hold_out(np.zeros(self.num_images, int), fraction, seed)
        )
        return rest, held_out

    def __repr__(self) -> str:
        boxes = sum(len(image.boxes) for image in self.images)
        problems = f", {plural(len(self.problems), 'problem')}" if self.problems else ""
        return (
            f"<DetectionData: {plural(self.num_images, 'image')}, {plural(boxes, 'box')}, "
            f"{name_classes(self.class_names)}{problems}>"
        )

    def batches(
        self,
        batch_size: int,
        image_size: tuple[int, int],
        *,
        bounding_box_format: str = "xyxy",
        preprocess: Callable[[Array], Array] | None = None,
        shuffle: bool = False,
        augmentation: DetectionAugmentation | None = None,
        transform: Transform | None = None,
        seed: int = 0,
        first_epoch: int = 0,
        epochs: int | None = None,
    ) -> Any:
        """Returns batches of letterboxed images for `model.fit` and `evaluate`.

        Args:
            batch_size: Integer.
            image_size: `(height, width)` of the network's input, in pixels.
            bounding_box_format: Format of the boxes, a name in `keras_spd.boxes.BOX_FORMATS`.
            preprocess: Function from images, float32 arrays 0..255, to network inputs, such as
                `model.info.preprocessing.normalize`; `None` for unchanged pixels.
            shuffle: Boolean. A shuffled dataset drops the last, incomplete batch.
            augmentation: `DetectionAugmentation` or `None`.
            transform: Your own augmentation, a function from `(image, boxes, classes, rng)` to
                `(image, boxes, classes)`, or `None`. It gets each letterboxed image after
                `augmentation`: uint8 pixels `(height, width, 3)`, xyxy boxes `(boxes, 4)` in these
                pixels, and classes `(boxes,)`. The image must keep its shape. `rng` is a
                `numpy.random.Generator` that only depends on (seed, epoch, batch, position). Draw
                from no other source, and keep no state: several threads call the function.
            seed: Integer. Order and augmentation are pure functions of (seed, epoch, batch).
            first_epoch: Integer, the index of the first epoch, for resumed training.
            epochs: `None` for data that is iterated once per epoch, each time as the next epoch.
                An integer for a single stream of that many epochs, for
                `fit(steps_per_epoch=...)`.

        Returns:
            `tf.data.Dataset` if Keras runs on TensorFlow, otherwise `keras.utils.PyDataset`, of
            `(images, {"boxes": ..., "classes": ...})` with the shapes `(batch, height, width, 3)`,
            float32 0..255, `(batch, boxes, 4)` and `(batch, boxes)`, padded with -1. Its attribute
            `class_names` lets `Detector.fit` refuse a model with other classes.

        Raises:
            ValueError: If an argument is not as described, or there are no images.
            TypeError: If `augmentation` is not a `DetectionAugmentation`, or `transform` is not a
                function.

        Example:

        >>> def darken(image, boxes, classes, rng):
        ...     return (image * rng.uniform(0.5, 1)).astype("uint8"), boxes, classes
        >>> batches = train.batches(16, (320, 320), shuffle=True, transform=darken)
        """
        import keras

        from keras_spd.data.detection.batches import DetectionBatches

        batches = DetectionBatches(
            self,
            batch_size,
            image_size,
            bounding_box_format=bounding_box_format,
            preprocess=preprocess,
            shuffle=shuffle,
            augmentation=augmentation,
            transform=transform,
            seed=seed,
            first_epoch=first_epoch,
        )
        result = batches.to_tf_data(epochs) if keras.backend.backend() == "tensorflow" else batches
        result.class_names = self.class_names  # as `image_dataset_from_directory` of Keras does
        return result

    def steps_per_epoch(self, batch_size: int) -> int:
        """Returns the number of batches in a shuffled epoch."""
        return max(self.num_images // batch_size, 1)

    def box_sides(self, image_size: tuple[int, int]) -> Array:
        """Returns widths and heights of all boxes in pixels of the letterboxed image.

        Args:
            image_size: `(height, width)` of the network's input, in pixels.

        Returns:
            Array of shape `(boxes, 2)`, without crowd regions.
        """
        from keras_spd.images.geometry import Letterbox

        sides = [np.zeros((0, 2), "float32")]
        for image in self.images:
            boxes = image.boxes[~image.crowd]
            scale = Letterbox.fit(image.size_hw, image_size).scale
            sides.append((boxes[:, 2:] - boxes[:, :2]) * scale)
        return np.concatenate(sides)

    def to_coco(self) -> dict[str, Any]:
        """Returns the annotations as a COCO dictionary.

        It is the original dictionary, if there is one, without the skipped images and boxes.
        """
        if self.coco is not None:
            kept = {image.image_id for image in self.images}
            return self.coco | {
                "images": [record for record in self.coco["images"] if record["id"] in kept],
                "annotations": [record for image in self.images for record in image.records],
            }
        images: list[dict] = []
        annotations: list[dict] = []
        for image in self.images:
            height, width = image.size_hw
            images.append(
                {"id": image.image_id, "file_name": image.name, "width": width, "height": height}
            )
            for box, label, crowd in zip(image.boxes, image.classes, image.crowd, strict=True):
                x, y, box_width, box_height = map(float, (*box[:2], *(box[2:] - box[:2])))
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": image.image_id,
                        "category_id": self.category_ids[label],
                        "bbox": [x, y, box_width, box_height],
                        "area": box_width * box_height,
                        "iscrowd": int(crowd),
                    }
                )
        categories = [
            {"id": id_, "name": name}
            for id_, name in zip(self.category_ids, self.class_names, strict=True)
        ]
        return {"images": images, "annotations": annotations, "categories": categories}


def with_max_value(
    images: Iterable[BoxedImage], max_value: float | Literal["auto"] | None
) -> tuple[BoxedImage, ...]:
    """Returns `BoxedImage`s with a `max_value`; `"auto"` finds it over all of them.

    Broken images are skipped here; they are reported when they are read.
    """
    if max_value == "auto":
        max_value = find_max_value((image.encoded() for image in images), on_problem="skip")
    return tuple(dataclasses.replace(image, max_value=max_value) for image in images)


def require_boxes(data: DetectionData, what: str) -> None:
    """Raises a `ValueError` if the data have no boxes.

    Args:
        data: `DetectionData`. Crowd regions do not count.
        what: Name of the data for the message, such as `"test data"`.
    """
    if any((~image.crowd).any() for image in data.images):
        return
    such_as = f", such as {data.images[0].name}" if data.images else ""
    raise ValueError(
        f"There are no boxes in the {what} ({plural(data.num_images, 'image')}{such_as}). "
        "Run `keras-spd check-data` to see whether the right annotations are read."
    )


def clean_boxes(boxes: Array, size_hw: tuple[int, int]) -> tuple[Array, list[str | None]]:
    """Clips boxes to the image.

    Args:
        boxes: List of xyxy boxes in pixels, which may be invalid.
        size_hw: Height and width of the image, in pixels.

    Returns:
        float32 array of shape `(boxes, 4)`, and for each box `None` or the problem with it.
    """
    height, width = size_hw
    boxes = np.array(boxes, "float64").reshape(-1, 4)
    clipped = np.clip(np.nan_to_num(boxes), 0, [width, height, width, height])
    complaints: list[str | None] = []
    for box, inside in zip(boxes, clipped, strict=True):
        if not np.isfinite(box).all():
            complaints.append(f"the box {box.tolist()} has a coordinate that is not a number")
        elif (box[2:] <= box[:2]).any():
            complaints.append(f"the box {box.tolist()} (x1, y1, x2, y2) has no area")
        elif (inside[2:] <= inside[:2]).any():
            complaints.append(f"the box {box.tolist()} (x1, y1, x2, y2) is outside the image")
        else:
            complaints.append(None)
    return clipped.astype("float32"), complaints


def boxed_image(
    problems: Problems,
    *,
    image_id: Any,
    name: str,
    source: Any,
    size_hw: tuple[int, int],
    boxes: Any,
    classes: Any,
    crowd: Any = None,
    locations: Any = None,
    records: Iterable[dict[str, Any]] = (),
) -> BoxedImage:
    """Makes a `BoxedImage`, and reports and skips bad boxes.

    Args:
        problems: `Problems` to add them to.
        image_id, name, source, size_hw, classes, crowd: As in `BoxedImage`.
        boxes: List of xyxy boxes in pixels, which may be invalid.
        locations: Location of each box in a file, for messages; defaults to `name`.
        records: The entry of each box in COCO annotations, or nothing.

    Returns:
        `BoxedImage`.
    """
    given = np.array(boxes, "float64").reshape(-1, 4)
    boxes, complaints = clean_boxes(given, size_hw)
    outside = np.abs(given - boxes)
    fractions = outside / [*size_hw[::-1], *size_hw[::-1]]
    for index, (location, complaint) in enumerate(
        zip(locations or [name] * len(boxes), complaints, strict=True)
    ):
        if complaint is not None:
            problems.add(location, complaint)
        elif outside[index].max() > _ROUNDING:
            problems.add_clipped(location, fractions[index].max())
    good = np.array([complaint is None for complaint in complaints], bool)
    crowd = np.zeros(len(boxes), bool) if crowd is None else np.array(crowd, bool)
    return BoxedImage(
        image_id=image_id,
        name=name,
        source=source,
        size_hw=(int(size_hw[0]), int(size_hw[1])),
        boxes=boxes[good],
        classes=np.array(classes, "int32").reshape(-1)[good],
        crowd=crowd[good],
        records=tuple(itertools.compress(records, good)),
    )
