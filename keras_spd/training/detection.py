"""The training task for detectors: model, data, loss and score."""

import dataclasses
import logging
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_spd import applications, data
from keras_spd.data.detection.dataset import DetectionData, require_boxes
from keras_spd.data.detection.transform import Transform, check_transform
from keras_spd.data.problems import plural
from keras_spd.detection import fit_anchors
from keras_spd.detection.anchors import MIN_RECALL
from keras_spd.detection.detector import Detector
from keras_spd.detection.heads import HEADS, YOLOV5Head
from keras_spd.detection.image_size import standardize_image_size
from keras_spd.files import write_json
from keras_spd.images.tiles import warn_of_large_tile
from keras_spd.metrics import COCOScores
from keras_spd.predict import evaluate
from keras_spd.training.class_weights import find_class_weights
from keras_spd.training.classes import with_classes
from keras_spd.training.coco_score import COCOScore
from keras_spd.training.fields import DetectionRecipe
from keras_spd.training.model_options import check_options
from keras_spd.training.run_folder import RunFolder
from keras_spd.training.splits import Splits, load_splits
from keras_spd.training.start import load_backbone
from keras_spd.typing import Array, Path, Tensor

_log = logging.getLogger(__name__)
_ENOUGH_STEPS = 2000  # DeepPCB from random weights: AP50 0.44 after 1,240 steps, 0.54 after 1,612
_ACCEPTED_OPTIONS = {
    "include_rescaling": ((True,), "batches hold pixels from 0 to 255"),
}


class DetectionTask:
    """A detector, its data and its score.

    Args:
        recipe: `DetectionRecipe`.
        train_data, validation_data, test_data: `DetectionData`, or `None` for the recipe's data.
        given: `Detector` to train, or `None` for the network in the recipe.
        transform: As in `DetectionData.batches`.
    """

    best_by = "val_AP"
    size_changes: tuple[int, ...] = ()  # images keep their size

    def __init__(
        self,
        recipe: DetectionRecipe,
        train_data: DetectionData | None = None,
        test_data: DetectionData | None = None,
        validation_data: DetectionData | None = None,
        given: keras.Model | None = None,
        transform: Transform | None = None,
    ) -> None:
        self.recipe, self._given = recipe, given
        self._transform = check_transform(transform)
        if given is None:
            self._check_name()
        elif not isinstance(given, applications.Detector):
            raise ValueError(
                "A recipe for detection trains a `keras_spd.applications.Detector`. Received: "
                f"{recipe.model.name}, the {type(given).__name__} {given.name!r}. For a "
                "classifier, use a recipe for classification."
            )
        passed = Splits(train_data, validation_data, test_data)
        self.splits = load_splits(DetectionData, recipe, passed, self._read)
        self.train_data, self.test_data = self.splits.train, self.splits.test
        fraction = recipe.data.fraction
        chosen = "" if fraction is None else f" that `data.fraction={fraction}` chooses"
        require_boxes(self.train_data, f"training data{chosen}")
        if recipe.data.tile is not None:
            self.train_data = self._cut(self.train_data, recipe.data.tile)
        require_boxes(self.splits.evaluated, f"{self.splits.chosen_on} data")
        require_boxes(self.test_data, "test data")
        self._class_weights = find_class_weights(
            recipe.loss.class_weights, self.train_data.class_names, self._count_classes
        )
        self._derived: dict[str, float] = {}  # fields of the recipe that the data determines
        self.anchors = self._anchors()
        if recipe.model.weights is None and given is None:
            self._warn_of_few_steps()

    def _count_classes(self) -> Array:
        labels = np.concatenate([image.classes[~image.crowd] for image in self.train_data.images])
        return np.bincount(labels, minlength=len(self.train_data.class_names))

    def _check_name(self) -> None:
        recipe = self.recipe
        name = recipe.model.name
        if name not in applications.DETECTORS:
            raise ValueError(
                f"There is no detector {name!r}. Detectors that can be trained: "
                f"{', '.join(applications.DETECTORS)}."
            )
        if recipe.model.backbone is not None and recipe.model.weights is not None:
            raise ValueError(
                "A detector starts from a detector (`model.weights`, `--weights`), or it has a "
                "classifier as its backbone (`model.backbone`, `--backbone`): pass only "
                f"one. Received: {recipe.model.weights!r} and {recipe.model.backbone!r}."
            )
        check_options(applications.YOLOV5SPD, recipe.model.options, _ACCEPTED_OPTIONS)

    def _read(self, source: Path, like: DetectionData | None = None) -> DetectionData:
        options = self.recipe.data
        found = data.load_detection(
            source,
            name=options.name,
            images=options.images,
            data_dir=options.data_dir,
            class_names=like.class_names if like else None,
            on_problem=options.on_problem,
            max_value=like.max_value if like else options.max_value or "auto",
        )
        return found if options.cache is None else found.cache(options.cache)

    def _cut(self, whole: DetectionData, tile: tuple[int, int]) -> DetectionData:
        options = self.recipe.data
        warn_of_large_tile([image.size_hw for image in whole.images], tile)
        cut = whole.tiles(
            tile,
            options.tile_overlap,
            min_area=options.tile_min_area,
            empty=options.tile_empty,
            whole=options.tile_whole,
            seed=self.recipe.seed,
        )
        resized = ", resized to {}x{},".format(*options.image_size)
        _log.info(
            "%s cut into tiles of %dx%d%s give %s to train on.",
            plural(whole.num_images, "training image"),
            *tile,
            "" if options.image_size == tile else resized,
            plural(cut.num_images, "tile"),
        )
        return cut

    def _anchors(self) -> Any:
        sides = self.train_data.box_sides(self.recipe.data.image_size)
        if self.recipe.fit_anchors:
            options = self.recipe.model.options
            levels = options.get("levels", ("P3", "P4", "P5"))
            head = HEADS.get(options.get("head", "yolov5"), YOLOV5Head)
            if self._given is not None:
                levels, head = self._given.levels, type(self._given.head)
            if not head.has_anchors:
                raise ValueError(
                    "`fit_anchors` is for heads with anchors, and "
                    f'head="{head.loss_type.head}" has none. Omit `fit_anchors`.'
                )
            boxes = keras.ops.convert_to_numpy(keras.ops.pad(sides, ((0, 0), (2, 0))))
            return fit_anchors(boxes, bounding_box_format="xywh", levels=levels)
        return self.recipe.model.options.get("anchors")

    def _warn_of_few_steps(self) -> None:
        per_epoch = self.train_data.steps_per_epoch(self.recipe.batch_size)
        if per_epoch * self.recipe.epochs < _ENOUGH_STEPS:
            _log.warning(
                "%s of %s: only %s. From random weights a detector needs about %d: "
                "`--epochs %d`, or start from trained weights with `--weights`.",
                plural(self.recipe.epochs, "epoch"),
                plural(self.train_data.num_images, "image"),
                plural(per_epoch * self.recipe.epochs, "step"),
                _ENOUGH_STEPS,
                -(-_ENOUGH_STEPS // per_epoch),
            )

    def build(self) -> Detector:
        model = self._named() if self._given is None else self._from_given(self._given)
        if self.anchors is not None:  # otherwise the anchors of the weights
            model.anchors = self.anchors
        model.head = model.head.trained()
        image_size = standardize_image_size(self.recipe.data.image_size, model)
        if self.recipe.augmentation.multi_scale:
            _check_any_size(model)
        facts: dict[str, Any] = {"image_size": image_size, "max_value": self.train_data.max_value}
        facts["tile"] = self.recipe.data.tile
        model.info = dataclasses.replace(model.info, **facts)
        return model

    def _named(self) -> Detector:
        recipe = self.recipe
        options = {**recipe.model.options, "anchors": self.anchors}
        if recipe.model.backbone is not None:
            options["backbone"] = load_backbone(recipe.model.backbone)
        return applications.YOLOV5SPD(
            applications.DETECTORS[recipe.model.name],
            classes=len(self.train_data.class_names),
            class_names=self.train_data.class_names,
            weights=recipe.model.weights,
            class_map=recipe.model.class_map or None,
            **options,
        )

    def _from_given(self, given: Detector) -> Detector:
        names, class_map = self.train_data.class_names, self.recipe.model.class_map
        model = with_classes(given, names, class_map)
        fitted = self.anchors or {}
        if any(len(fitted[level]) != len(model.anchors[level]) for level in fitted):
            raise ValueError(
                f"`fit_anchors` finds 3 anchors for each level, but `{model.name}` has a different "
                f"number: {model.anchors}."
            )
        return model

    def compile(self, model: Detector, optimizer: keras.optimizers.Optimizer | None) -> None:
        sides = self.train_data.box_sides(self.recipe.data.image_size)
        recall = model.head.recall(sides)
        by_anchors = self.recipe.loss.assignment != "rfla"
        if recall < MIN_RECALL and by_anchors:
            _log.warning(
                "The anchors match only %.1f %% of the training boxes at %s pixels. Set "
                "`fit_anchors = true` in the recipe (`--set fit_anchors=true`), or raise "
                "`data.image_size`.",
                100 * recall,
                self.recipe.data.image_size,
            )
        options = self.recipe.loss.model_dump(exclude_none=True)
        options["class_weights"] = self._class_weights
        derives = "nwd" in options.get("iou", ()) and "nwd_constant" not in options
        if derives and isinstance(model.head, YOLOV5Head):  # others have no `iou`
            mean_side = options["nwd_constant"] = float(np.sqrt(sides.prod(axis=1)).mean())
            _log.info("loss.nwd_constant is %.1f, the mean side of the training boxes.", mean_side)
            self._derived = {"nwd_constant": mean_side}
        loss = model.head.loss(model.num_classes, model.bounding_box_format, **options)
        loss.accumulated_batches = self.recipe.optimizer.accumulate_batches
        if optimizer is not None and optimizer.global_clipnorm is None:
            optimizer.global_clipnorm = model.head.clip_norm
        model.compile(optimizer=optimizer, loss=loss)

    def train_batches(self, first_epoch: int, last_epoch: int | None = None) -> Any:
        del last_epoch  # one stream to the end of the run
        box_format = self.recipe.model.options.get("bounding_box_format", "xyxy")
        if self._given is None:
            return self._augmented_batches(first_epoch, box_format)
        preprocessing = self._given.info.preprocessing
        normalize = None if preprocessing.takes_pixels else preprocessing.normalize
        return self._augmented_batches(first_epoch, self._given.bounding_box_format, normalize)

    def _augmented_batches(
        self,
        first_epoch: int,
        bounding_box_format: str,
        preprocess: Callable[[Tensor], Tensor] | None = None,
    ) -> Any:
        return self.train_data.batches(
            self.recipe.batch_size,
            self.recipe.data.image_size,
            bounding_box_format=bounding_box_format,
            preprocess=preprocess,
            shuffle=True,
            augmentation=self.recipe.augmentation,
            transform=self._transform,
            seed=self.recipe.seed,
            first_epoch=first_epoch,
            workers=self.recipe.data.workers,
            epochs=self.recipe.epochs - first_epoch,
        )

    def preview(self, first_epoch: int) -> tuple[Array, Array, Array]:
        """Returns augmented images of one batch, their boxes, and the classes of the boxes."""
        images, truth = next(iter(self._augmented_batches(first_epoch, "xyxy")))
        convert = keras.ops.convert_to_numpy
        return convert(images), convert(truth["boxes"]), convert(truth["classes"])

    def callbacks(self, twin: Detector | None) -> list[keras.callbacks.Callback]:
        return [
            COCOScore(
                self.splits.evaluated,
                self.recipe.data.image_size,
                batch_size=self.recipe.batch_size,
                every=self.recipe.evaluate_every,
                tile=self.recipe.data.tile,
                overlap=self.recipe.data.tile_overlap,
                min_area=self.recipe.data.tile_min_area,
                whole=self.recipe.data.tile_whole,
                twin=twin,
            )
        ]

    def score(self, model: Detector, folder: RunFolder) -> dict[str, Any]:
        if self.splits.validation is not None:
            scores = self._evaluate(model, self.splits.validation)
            write_json(folder.validation_scores, scores.to_json())
        scores = self._evaluate(model, self.test_data)
        write_json(folder.scores, scores.to_json())
        return {"test_images": self.test_data.num_images, **self._derived, **scores.metrics}

    def _evaluate(self, model: Detector, data: DetectionData) -> COCOScores:
        options = self.recipe.data
        return evaluate(
            model,
            data,
            options.image_size,
            batch_size=self.recipe.batch_size,
            tile=options.tile,
            overlap=options.tile_overlap,
        )


def _check_any_size(model: Detector) -> None:
    """Raises a `ValueError` if a model cannot train on batches of different image sizes."""
    if model.image_sizes is not None:
        raise ValueError(
            "`augmentation.multi_scale` needs a network that takes images of any size. "
            f"`{model.name}` takes {model.image_sizes[0]} (height, width). Set `multi_scale` to 0."
        )
    if model.head.needs_image_size and keras.backend.backend() == "tensorflow":
        raise ValueError(
            "On TensorFlow, `augmentation.multi_scale` compiles a step for any image size, and the "
            f'loss of head="{model.head.name}" needs a known size. Set `multi_scale` to 0, or '
            "train with KERAS_BACKEND=jax or torch."
        )
