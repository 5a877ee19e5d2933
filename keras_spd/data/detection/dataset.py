"""`DetectionData`, the interface of all detection datasets."""

import dataclasses
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from keras_spd.data.detection.augmentation import DetectionAugmentation
from keras_spd.data.detection.boxed_image import BoxedImage, with_max_value
from keras_spd.data.detection.transform import Transform
from keras_spd.data.hold_out import hold_out
from keras_spd.data.problems import name_classes, plural
from keras_spd.images.geometry import Letterbox
from keras_spd.images.sizes import check_image_size
from keras_spd.images.tiles import part_size
from keras_spd.typing import Array


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

    Raises:
        ValueError: If two classes have the same name.
    """

    images: tuple[BoxedImage, ...]
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    coco: dict | None = None
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(set(self.class_names)) < len(self.class_names):
            raise ValueError(
                "Class names must be unique, because classes are matched by name. Received: "
                f"{', '.join(self.class_names)}. Rename or merge the repeated ones."
            )

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

    def tiles(
        self,
        size: int | tuple[int, int],
        overlap: float = 0.2,
        *,
        min_area: float = 0.5,
        empty: float = 0.1,
        whole: bool = False,
        seed: int = 0,
    ) -> "DetectionData":
        """Cuts larger images into overlapping tiles, to train on small objects at full resolution.

        Images are cut when they are read. The tiles are those of `Predictor(tile=...)`. Score
        whole images, with `keras_spd.evaluate(model, data, tile=...)`, and hold out images for
        validation before cutting them.

        Args:
            size: Integer or `(height, width)` of a tile in pixels. Images that are not larger are
                unchanged.
            overlap: Smallest fraction of a tile that the next tile also covers, 0..0.5.
            min_area: Fraction of a box's area, 0..1. A tile's border cuts boxes; a tile keeps those
                with at least this fraction inside, clipped.
            empty: Fraction, 0..1, of the tiles without objects that is kept. Tiles are dropped if
                they only contain smaller parts of objects, or crowd regions.
            whole: Boolean, whether to also include the whole images, for objects that are larger
                than a tile.
            seed: Integer. The same seed keeps the same tiles without objects.

        Returns:
            `DetectionData` with a `BoxedImage` for each tile.

        Raises:
            ValueError: If an argument is not as described, or no tile contains an object.

        Example:

        >>> train, validation = keras_spd.data.load_detection("ships/train.json").hold_out(0.1)
        >>> batches = train.tiles(640, overlap=0.2).batches(16, (640, 640), shuffle=True)
        >>> model.fit(batches, epochs=40)
        >>> keras_spd.evaluate(model, validation, tile=640, overlap=0.2)
        """
        from keras_spd.data.detection.tiles import cut_into_tiles

        return cut_into_tiles(self, size, overlap, min_area, empty, whole, seed)

    def cache(self, folder: str | os.PathLike) -> "DetectionData":
        """Keeps decoded images in a folder, so that each is decoded once, not once per epoch.

        A cache helps if training waits for decoding, as with tiles of large PNG images: only the
        pixels of a tile are then read from disk. The cache takes 3 bytes per pixel, 18 MB for an
        image of 3000x2000. Batches do not change. A changed image file is decoded again. Delete
        the folder when you no longer need it.

        Args:
            folder: Path, created if needed. Several datasets, runs and processes can share it.

        Returns:
            `DetectionData` with the same images.

        Raises:
            ValueError: If the folder cannot be created. If it cannot be written to later, a
                warning says so, and images are decoded each time.

        Example:

        >>> train = keras_spd.data.load_detection("ships/train.json").cache("cache/ships")
        >>> batches = train.tiles(640).batches(16, (640, 640), shuffle=True)
        """
        from keras_spd.data.detection.disk_cache import cached

        return dataclasses.replace(self, images=cached(self.images, folder))

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
        image_size: int | tuple[int, int],
        *,
        bounding_box_format: str = "xyxy",
        preprocess: Callable[[Array], Array] | None = None,
        shuffle: bool = False,
        augmentation: DetectionAugmentation | None = None,
        transform: Transform | None = None,
        seed: int = 0,
        first_epoch: int = 0,
        epochs: int | None = None,
        workers: int | None = None,
    ) -> Any:
        """Returns batches of letterboxed images for `model.fit` and `evaluate`.

        Args:
            batch_size: Integer.
            image_size: Integer or `(height, width)` of the network's input, in pixels.
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
                `fit(steps_per_epoch=...)`; only used by `tf.data`.
            workers: Integer, the number of threads that read and augment images; `None` for the
                number of CPU cores, at most 16. It does not change the batches.

        Returns:
            `tf.data.Dataset` if Keras runs on TensorFlow, otherwise `keras.utils.PyDataset`, of
            `(images, {"boxes": ..., "classes": ...})` with the shapes `(batch, height, width, 3)`,
            uint8 0..255 or what `preprocess` returns, `(batch, boxes, 4)` and `(batch, boxes)`,
            padded with -1. `Detector.fit` reads its attributes `class_names`, `image_size` and
            `bounding_box_format`.

        Raises:
            ValueError: If an argument is not as described, or there are no images.
            TypeError: If `augmentation` is not a `DetectionAugmentation`, or `transform` is not a
                function of four arguments. It is tried on the first image.

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
            workers=workers,
        )
        result: Any = batches
        if keras.backend.backend() == "tensorflow":
            from keras_spd.data.detection.tf_stream import to_tf_data

            result = to_tf_data(batches, epochs)
        result.class_names = self.class_names  # as `image_dataset_from_directory` of Keras does
        result.image_size = batches.image_size
        result.bounding_box_format = bounding_box_format
        return result

    def steps_per_epoch(self, batch_size: int) -> int:
        """Returns the number of batches in a shuffled epoch."""
        return max(self.num_images // batch_size, 1)

    def box_sides(
        self, image_size: int | tuple[int, int], tile: tuple[int, int] | None = None
    ) -> Array:
        """Returns widths and heights of all boxes in pixels of the letterboxed image.

        Args:
            image_size: Integer or `(height, width)` of the network's input, in pixels.
            tile: `(height, width)` of tiles of larger images, which do not cut boxes here; or
                `None`.

        Returns:
            Array of shape `(boxes, 2)`, without crowd regions.
        """
        input_size = check_image_size(image_size)
        sides = [np.zeros((0, 2), "float32")]
        for image in self.images:
            boxes = image.boxes[~image.crowd]
            size = image.size_hw if tile is None else part_size(image.size_hw, tile)
            scale = Letterbox.fit(size, input_size).scale
            sides.append((boxes[:, 2:] - boxes[:, :2]) * scale)
        return np.concatenate(sides)

    def to_coco(self) -> dict[str, Any]:
        """Returns the annotations as a COCO dictionary.

        It is the original dictionary, if there is one, without the skipped images and boxes; a new
        one if boxes were changed since, whose areas are those of the boxes.
        """
        from keras_spd.data.detection.to_coco import to_coco

        return to_coco(self)


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
