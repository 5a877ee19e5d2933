"""What training needs to know of classifiers."""

import dataclasses
import functools

import keras

from keras_spd import applications, data


class ClassificationTask:
    """A classifier, its data and its score.

    Args:
        recipe: `ClassificationRecipe`.
        train_data, test_data: `ClassificationData`, or `None` for the recipe's.
    """

    best_by = "val_accuracy"

    def __init__(self, recipe, train_data=None, test_data=None):
        name = recipe.model.name
        if name not in applications.CLASSIFIERS:
            raise ValueError(
                f"There is no classifier {name!r}. Those that can be trained are: "
                f"{', '.join(applications.CLASSIFIERS)}."
            )
        self.recipe = recipe
        self.train_data = train_data or self._read(recipe.data.train_split)
        self.test_data = test_data or self._read(recipe.data.test_split)
        self._preprocess = functools.partial(
            applications.preprocess_input, statistics=recipe.data.statistics
        )

    def _read(self, split):
        source = self.recipe.data
        if source.name == "blood_cells":
            return data.load_blood_cells(split)
        return data.from_tfds(
            source.name, split, data_dir=source.data_dir, image_size=source.image_size
        )

    def build(self):
        model = applications.CLASSIFIERS[self.recipe.model.name](
            weights=None,
            classes=len(self.train_data.class_names),
            input_shape=self.train_data.image_shape,
            **self.recipe.model.options,
        )
        model.info = dataclasses.replace(
            model.info,
            class_names=self.train_data.class_names,
            statistics=applications.get_statistics(self.recipe.data.statistics),
        )
        return model

    def compile(self, model, optimizer):
        model.compile(
            optimizer=optimizer, loss="sparse_categorical_crossentropy", metrics=["accuracy"]
        )

    def train_batches(self, first_epoch):
        return self.train_data.batches(
            self.recipe.batch_size,
            preprocess=self._preprocess,
            shuffle=True,
            augmentation=data.Augmentation(**self.recipe.augmentation.model_dump()),
            seed=self.recipe.seed,
            first_epoch=first_epoch,
            epochs=self.recipe.epochs - first_epoch,
        )

    def shown(self, first_epoch):
        """Returns augmented pixels of one batch, and no boxes."""
        augmentation = data.Augmentation(**self.recipe.augmentation.model_dump())
        batches = self.train_data.batches(
            16,
            shuffle=True,
            augmentation=augmentation,
            seed=self.recipe.seed,
            first_epoch=first_epoch,
        )
        images, _ = next(iter(batches))
        return keras.ops.convert_to_numpy(images), None

    def validation_batches(self):
        return self.test_data.batches(self.recipe.batch_size, preprocess=self._preprocess)

    def callbacks(self, folder):
        del folder
        return []

    def score(self, model, folder):
        del folder
        model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
        metrics = model.evaluate(self.validation_batches(), return_dict=True, verbose=0)
        return {
            "test_images": self.test_data.num_images,
            "test_accuracy": metrics["accuracy"],
            "test_loss": metrics["loss"],
        }
