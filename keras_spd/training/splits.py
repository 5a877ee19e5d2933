"""The training, validation and test data of a run."""

import dataclasses
import logging
import os
import pathlib
from collections.abc import Callable
from typing import Any

from keras_spd.data.open_tfds import share_images
from keras_spd.data.problems import check_data, check_same_preprocessing
from keras_spd.training.fields import PASSED, ClassificationRecipe, DetectionRecipe

_log = logging.getLogger(__name__)
_IN_YAML = {"train": "train", "validation": "val", "test": "test"}


@dataclasses.dataclass(frozen=True)
class Splits:
    """The data of a run, `ClassificationData` or `DetectionData`.

    Args:
        train: Data to train on.
        validation: Data that the best epoch is chosen on; `None` to choose it on `test`.
        test: Data that the trained model is scored on.
    """

    train: Any
    validation: Any
    test: Any

    @property
    def chosen_on(self) -> str:
        """`"validation"` or `"test"`, the split that is evaluated during training."""
        return "test" if self.validation is None else "validation"

    @property
    def num_images(self) -> dict[str, int]:
        """The number of images in each split."""
        splits = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: data.num_images for name, data in splits.items() if data is not None}

    @property
    def evaluated(self) -> Any:
        """The data that is evaluated during training, to choose the best epoch."""
        return self.test if self.validation is None else self.validation


def load_splits(
    kind: type, recipe: ClassificationRecipe | DetectionRecipe, given: Splits, read: Callable
) -> Splits:
    """Returns the given data, and reads the rest as the recipe defines it.

    Args:
        kind: `ClassificationData` or `DetectionData`.
        recipe: Its `data` names the splits; its `seed` determines which images are held out.
        given: `Splits`, with `None` for data to read.
        read: Function from a path or split and, once known, the training data, to data.

    Raises:
        ValueError: If given data is of another kind, the validation data is the same as another
            split's, or splits are preprocessed differently or have other classes.
    """
    check_data(kind, train_data=given.train, validation_data=given.validation, test_data=given.test)
    source = recipe.data
    paths = {name: _split_of(recipe, name) for name in _IN_YAML}
    for name, path in paths.items():
        if path == PASSED and getattr(given, name) is None:
            raise ValueError(
                f"The data of this run was passed in Python. Resume or repeat it there, with the "
                f"same `{name}_data`: `keras_spd.training.train(..., {name}_data=...)`."
            )
    is_default = source.test == type(source).model_fields["test"].default
    unset = is_default and source.name is None and not pathlib.Path(source.test).exists()
    if given.test is None and unset:
        raise ValueError(
            "There is no test data: set `data.test` (`--test`), or pass `test_data` in Python."
        )
    train = given.train or read(paths["train"])
    validation = given.validation
    if validation is None and isinstance(source.validation, float):
        train, validation = train.hold_out(source.validation, recipe.seed)
    elif validation is None and source.validation is not None:
        _refuse_same(source, paths, given)
        validation = read(paths["validation"], train)
    test = given.test or read(paths["test"], train)
    if given.train is given.test is None and _overlap(source, paths["train"], paths["test"]):
        _log.warning(
            "Training and test data have images in common, so the test scores will be too high: "
            "%r and %r (`data.train` and `data.test`).",
            paths["train"],
            paths["test"],
        )
    if source.fraction is not None:
        train, _ = train.hold_out(1 - source.fraction, recipe.seed)
    for name, other in (("train_data", given.train), ("test_data", test)):
        if validation is not None and validation is other:
            raise ValueError(
                f"`validation_data` and `{name}` are the same data. Pass other data, or `None` to "
                "choose the best epoch on the test data."
            )
    splits = Splits(train, validation, test)
    check_same_preprocessing(train, test, "test")
    check_same_preprocessing(train, splits.evaluated, splits.chosen_on)
    _check_same_classes(train, splits.evaluated, splits.chosen_on)
    _check_same_classes(train, test, "test")
    return splits


def _check_same_classes(train: Any, scored: Any, name: str) -> None:
    if train.class_names != scored.class_names:
        raise ValueError(
            f"Training and {name} data must have the same classes in the same order. Received: "
            f"{train.class_names} and {scored.class_names}. Read the {name} data with "
            "`class_names=train.class_names`."
        )


def _split_of(recipe: ClassificationRecipe | DetectionRecipe, name: str) -> Any:
    """Returns the source of a split; for a `data.yaml`, with the name of the split in it."""
    source = getattr(recipe.data, name)
    is_yaml = recipe.task == "detection" and recipe.data.name is None
    if is_yaml and pathlib.Path(str(source)).suffix in (".yaml", ".yml"):
        return f"{source}:{_IN_YAML[name]}"
    return source


def _refuse_same(source: Any, paths: dict[str, Any], given: Splits) -> None:
    chosen = paths["validation"]
    for name in ("train", "test"):
        if getattr(given, name) is None and _overlap(source, paths[name], chosen):
            raise ValueError(
                f"`data.validation` and `data.{name}` (`--validation` and `--{name}`) must not "
                f"have images in common. Received: {chosen!r} and {paths[name]!r}. To hold out a "
                "part of the training data, set `data.validation` to a fraction such as 0.1."
            )


def _overlap(source: Any, first: str, second: str) -> bool:
    if source.name == "blood_cells":
        return first == second
    if source.name is not None:
        return share_images(source.name, source.data_dir, first, second)
    return os.path.realpath(first) == os.path.realpath(second)
