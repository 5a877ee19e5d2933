"""The training task for classifiers: model, data, loss and score."""

import dataclasses
import logging
from typing import Any

import keras
import numpy as np

from keras_spd import applications, data
from keras_spd.data.classification.dataset import ClassificationData
from keras_spd.data.classification.folder import NoClassFoldersError
from keras_spd.data.problems import plural
from keras_spd.image_model import ModelInfo
from keras_spd.images.preprocessing import Preprocessing
from keras_spd.losses import WeightedCrossEntropy
from keras_spd.surgery.graph import check_graph
from keras_spd.surgery.outputs import ends_in_sigmoid, output_kind
from keras_spd.training.class_weights import find_class_weights
from keras_spd.training.classes import with_classes
from keras_spd.training.fields import ClassificationRecipe
from keras_spd.training.model_options import check_options
from keras_spd.training.precise_batch_norm import PreciseBatchNorm
from keras_spd.training.run_folder import RunFolder
from keras_spd.training.splits import Splits, load_splits
from keras_spd.training.start import load_start, trained_classifier
from keras_spd.training.validate import Validate
from keras_spd.typing import Array, Path

_log = logging.getLogger(__name__)
_ENOUGH_STEPS = 200
_ACCEPTED_OPTIONS = {
    "include_top": ((True,), "the classes are learned"),
    "classifier_activation": (
        ("softmax", "linear"),
        'the loss is the cross-entropy of probabilities or, with "linear", of logits',
    ),
}


class ClassificationTask:
    """A classifier, its data and its score.

    Args:
        recipe: `ClassificationRecipe`.
        train_data, validation_data, test_data: `ClassificationData`, or `None` for the recipe's
            data.
        given: Classifier to train, or `None` for the network in the recipe.
        transform: `None`; it is for detectors.
    """

    best_by = "val_accuracy"

    def __init__(
        self,
        recipe: ClassificationRecipe,
        train_data: ClassificationData | None = None,
        test_data: ClassificationData | None = None,
        validation_data: ClassificationData | None = None,
        given: keras.Model | None = None,
        transform: Any = None,
    ) -> None:
        self.recipe, self._given = recipe, given
        if transform is not None:
            raise ValueError(
                f"`transform` is for detectors, and {recipe.model.name} is a classifier. Put your "
                "own Keras augmentation layers first in the model, or train with `model.fit`. "
                f"Received: {transform!r}."
            )
        if given is None:
            self._check_name()
        elif not _is_classifier(given):
            raise ValueError(
                "A recipe for classification trains a model with one row of outputs per image. "
                f"Received: {recipe.model.name}, the {type(given).__name__} {given.name!r}. "
                "For a detector, use a recipe for detection."
            )
        elif ends_in_sigmoid(given):
            raise ValueError(
                f"The outputs of `{given.name}` are sigmoids, each a probability of its own. A "
                "recipe trains classes of which an image has one: end the model with "
                '`keras.layers.Dense(classes, activation="softmax")`.'
            )
        weights = recipe.model.weights
        self._start = None if weights is None else load_start(str(weights))
        passed = Splits(train_data, validation_data, test_data)
        self.splits = load_splits(ClassificationData, recipe, passed, self._read)
        self.train_data, self.test_data = self.splits.train, self.splits.test
        size = recipe.data.image_size
        if size is not None and size != tuple(self.train_data.image_shape[:2]):
            _log.warning(
                "The images that were passed are %dx%d (height x width): `data.image_size` has no "
                "effect.",
                *self.train_data.image_shape[:2],
            )
        if len(self.train_data.class_names) < 2:
            raise ValueError(
                "A classifier needs at least two classes, each in a folder of its own. Received: "
                f"only {', '.join(self.train_data.class_names)}."
            )
        if recipe.model.weights is not None:
            shape, names = self.train_data.image_shape, self.train_data.class_names
            self._given = trained_classifier(recipe.model, shape, len(names), self._start)
        elif given is None:
            self._warn_of_few_steps()
        self._normalization = self._find_normalization()
        self._preprocess = Preprocessing(**self._normalization).normalize
        self._augmentation = recipe.augmentation
        self._soft_labels = self._augmentation.mixes or recipe.loss.label_smoothing > 0
        self._class_weights = find_class_weights(
            recipe.loss.class_weights, self.train_data.class_names, self._count_classes
        )

    def _check_name(self) -> None:
        recipe = self.recipe
        name = recipe.model.name
        if name not in applications.CLASSIFIERS:
            raise ValueError(
                f"There is no classifier {name!r}. Classifiers that can be trained: "
                f"{', '.join(applications.CLASSIFIERS)}."
            )
        if recipe.model.backbone is not None:
            raise ValueError(
                f"`model.backbone` (`--backbone`) is for detectors, and {name} is a "
                f"classifier. Received: {recipe.model.backbone!r}. A classifier starts from a "
                "classifier with `model.weights` (`--weights`)."
            )
        if recipe.model.class_map and recipe.model.weights is None:
            raise ValueError(
                "`model.class_map` needs `model.weights` with class names. "
                f"Received: {recipe.model.class_map}."
            )
        check_options(applications.CLASSIFIERS[name], recipe.model.options, _ACCEPTED_OPTIONS)

    def _count_classes(self) -> Array:
        if self.train_data.read_labels is None:
            raise ValueError(
                'This `ClassificationData` was made without `read_labels`, which `"balanced"` '
                "class weights need. Set `loss.class_weights` to a factor for each class."
            )
        labels = self.train_data.read_labels()
        return np.bincount(labels, minlength=len(self.train_data.class_names))

    def _find_normalization(self) -> dict[str, Any]:
        """Returns the arguments of `Preprocessing` for normalisation."""
        statistics = {"statistics": applications.get_statistics(self.recipe.data.statistics)}
        if self._given is None:
            return statistics
        known = self._known
        if known.is_known:
            return {"statistics": known.statistics, "input_range": known.input_range}
        _log.warning(
            "`%s` does not define how its images are normalised. `data.statistics`, %r, is used. "
            "If it was trained otherwise, set its `keras_spd.applications.ModelInfo`.",
            self._given.name,
            self.recipe.data.statistics,
        )
        return statistics

    @property
    def _known(self) -> Preprocessing:
        """Preprocessing that a given model, or the model of given weights, records."""
        trained = self._start if self._given is None else self._given
        return getattr(trained, "info", ModelInfo()).preprocessing

    def _read(self, split: Path, like: ClassificationData | None = None) -> ClassificationData:
        source = self.recipe.data
        image_size: Any = source.image_size
        if image_size is None:
            image_size = like.image_shape[:2] if like else self._own_size()
        try:
            return data.load_classification(
                split,
                name=source.name,
                data_dir=source.data_dir,
                image_size=image_size,
                class_names=like.class_names if like else None,
                on_problem=source.on_problem,
                max_value=like.max_value if like else source.max_value or "auto",
                resize=(like.resize if like else self._known.resize) or "stretch",
            )
        except NoClassFoldersError as error:
            raise ValueError(f"{self.recipe.model.name} is a classifier. {error}") from None

    def _own_size(self) -> tuple[int, int] | None:
        """Returns the `(height, width)` that a given model takes, or `None`."""
        if self._given is None:
            return None
        size = self._given.input_shape[1:3]
        return self._known.size if None in size else size

    def _warn_of_few_steps(self) -> None:
        recipe, images = self.recipe, self.train_data.num_images
        steps = recipe.epochs * self.train_data.steps_per_epoch(recipe.batch_size)
        if steps < _ENOUGH_STEPS:
            _log.warning(
                "%s of %s in batches of %d: only %s. From random weights a network needs "
                "hundreds: raise `--epochs`%s.",
                plural(recipe.epochs, "epoch"),
                plural(images, "image"),
                recipe.batch_size,
                plural(steps, "step"),
                ""
                if recipe.batch_size <= 32
                else ", or use `--recipe few_images`, whose batches are smaller",
            )

    def build(self) -> keras.Model:
        names = self.train_data.class_names
        if self._given is None:
            options = {"input_shape": self.train_data.image_shape, **self.recipe.model.options}
            model = applications.CLASSIFIERS[self.recipe.model.name](classes=len(names), **options)
        else:
            self._check_image_size(self._given)
            model = with_classes(self._given, names, self.recipe.model.class_map)
        facts = {**self._normalization, "max_value": self.train_data.max_value}
        facts["resize"] = self.train_data.resize or model.info.preprocessing.resize
        if None in model.input_shape[1:3]:
            facts["image_size"] = self.train_data.image_shape[:2]
        model.info = dataclasses.replace(model.info, class_names=names, **facts)
        return model

    def _check_image_size(self, model: keras.Model) -> None:
        shape, taken = self.train_data.image_shape, model.input_shape[1:]
        if any(side not in (None, given) for side, given in zip(taken, shape, strict=True)):
            raise ValueError(
                f"`{model.name}` takes images of {taken} (height, width, channels). "
                f"Received: data with images of {shape}. Set `data.image_size` (`--image-size`)."
            )

    def compile(self, model: keras.Model, optimizer: keras.optimizers.Optimizer | None) -> None:
        logits = self._logits
        options: Any = {"reduction": "none"} if self._class_weights else {}
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=logits, **options)
        if self._soft_labels:
            options["label_smoothing"] = self.recipe.loss.label_smoothing
            loss = keras.losses.CategoricalCrossentropy(logits, **options)
        if self._class_weights:
            loss = WeightedCrossEntropy(loss, self._class_weights, self._soft_labels)
        model.compile(optimizer=optimizer, loss=loss, metrics=["accuracy"])

    @property
    def _logits(self) -> bool:
        if self._given is not None:
            return output_kind(self._given) == "logits"
        return self.recipe.model.options.get("classifier_activation", "softmax") == "linear"

    def image_size(self, epoch: int) -> tuple[int, int]:
        """Returns height and width of the training images in an epoch."""
        full_size: Any = self.train_data.image_shape[:2]
        return self.recipe.progressive_resizing.image_size(full_size, epoch, self.recipe.epochs)

    @property
    def size_changes(self) -> tuple[int, ...]:
        """Epochs, counted from 0, that have larger images than the one before."""
        sizes = [self.image_size(epoch) for epoch in range(self.recipe.epochs)]
        return tuple(epoch for epoch in range(1, len(sizes)) if sizes[epoch] != sizes[epoch - 1])

    def train_batches(self, first_epoch: int, last_epoch: int | None = None) -> Any:
        """Returns batches of the epochs `first_epoch` to `last_epoch - 1`, of one image size."""
        last_epoch = self.recipe.epochs if last_epoch is None else last_epoch
        size = self.image_size(first_epoch)
        return self._augmented_batches(
            first_epoch,
            epochs=last_epoch - first_epoch,
            image_size=None if size == self.train_data.image_shape[:2] else size,
        )

    def _augmented_batches(self, first_epoch: int, **options: Any) -> Any:
        return self.train_data.batches(
            self.recipe.batch_size,
            preprocess=self._preprocess,
            shuffle=True,
            augmentation=self._augmentation,
            seed=self.recipe.seed,
            first_epoch=first_epoch,
            soft_labels=self._soft_labels,
            **options,
        )

    def precise_batches(self, epoch: int) -> Any:
        """Returns training batches of full size, for the statistics of batch norms."""
        return self._augmented_batches(epoch, epochs=1)

    def preview(self, first_epoch: int) -> tuple[Array, None, Array]:
        """Returns augmented images of one batch, `None` instead of boxes, and labels."""
        batches = self.train_data.batches(
            16,
            shuffle=True,
            augmentation=self._augmentation,
            seed=self.recipe.seed,
            first_epoch=first_epoch,
            soft_labels=self._soft_labels,
        )
        images, labels = map(keras.ops.convert_to_numpy, next(iter(batches)))
        return images, None, labels

    def validation_batches(self) -> Any:
        """Returns batches of the data that the best epoch is chosen on."""
        return self.splits.evaluated.batches(
            self.recipe.batch_size, preprocess=self._preprocess, soft_labels=self._soft_labels
        )

    def callbacks(self, twin: keras.Model | None) -> list[keras.callbacks.Callback]:
        precise = [PreciseBatchNorm(self, twin)] if self.recipe.precise_batch_norm else []
        return [*precise, Validate(self, twin)]

    def score(self, model: keras.Model, folder: RunFolder) -> dict[str, Any]:
        del folder
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=self._logits)
        model.compile(loss=loss, metrics=["accuracy"])
        batches = self.test_data.batches(self.recipe.batch_size, preprocess=self._preprocess)
        metrics = model.evaluate(batches, return_dict=True, verbose=0)
        return {
            "test_images": self.test_data.num_images,
            "test_accuracy": metrics["accuracy"],
            "test_loss": metrics["loss"],
        }


def _is_classifier(model: keras.Model) -> bool:
    if isinstance(model, applications.Detector):
        return False
    check_graph(model, "training.train")
    return len(model.input_shape) == 4 and len(model.output_shape) == 2
