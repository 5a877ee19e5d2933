"""The one path from a recipe to a trained model."""

import dataclasses
import functools
import importlib.util
import logging
import time

import keras

from keras_spd import applications, data
from keras_spd.training.optimizers import CoupledSGD, MultiStepDecay
from keras_spd.training.recipe import load_recipe
from keras_spd.training.run_folder import RunFolder, SaveState, restore_state, write_json

_log = logging.getLogger(__name__)


def train(recipe, run_folder, *, train_data=None, test_data=None, resume=False, verbose="auto"):
    """Trains a classifier as a recipe says, with `model.fit`.

    Args:
        recipe: `Recipe`; or `None` to resume with the one in the run folder.
        run_folder: Path of the folder for logs, weights and results; see
            `keras_spd/training/run_folder.py` for what is in it.
        train_data: `ClassificationData` in place of the recipe's TFDS training split.
        test_data: `ClassificationData` in place of the recipe's TFDS test split.
        resume: Boolean, whether to go on where a run in the same folder was stopped. The schedule,
            the order of the data and the augmentation are those of an unbroken run.
        verbose: As in `keras.Model.fit`.

    Returns:
        The trained `ImageModel`, float32, with the weights of the best epoch; it is also in
        `model.keras` in the run folder.

    Raises:
        ValueError: If the recipe names what does not exist, the folder already holds a run and
            `resume` is false, or the loss is not a number.

    Example:

    >>> recipe = keras_spd.training.load_recipe("short", dataset="cifar10")
    >>> model = keras_spd.training.train(recipe, "runs/first")
    """
    folder = RunFolder(run_folder)
    if folder.state.is_file() and not resume:
        raise ValueError(
            f"{folder.path} already holds a run. Resume it (`--resume`, or `resume=True`), or "
            "choose another folder."
        )
    if resume and folder.recipe.is_file():
        recipe = load_recipe(folder.recipe)
    if recipe is None:
        raise ValueError(f"There is no run to resume in {folder.path}.")
    build = model_builder(recipe)
    if train_data is None:
        train_data = _read_split(recipe, recipe.data.train_split)
    if test_data is None:
        test_data = _read_split(recipe, recipe.data.test_split)
    folder.start(recipe)

    keras.utils.set_random_seed(recipe.seed)
    model = build(train_data, precision=recipe.precision)
    steps_per_epoch = train_data.steps_per_epoch(recipe.batch_size)
    compile_model(model, recipe, steps_per_epoch)
    first_epoch = 0
    if resume and folder.state.is_file():
        first_epoch = restore_state(model, folder.state) // steps_per_epoch
        folder.forget_epochs(first_epoch)

    if first_epoch < recipe.epochs:
        _fit(model, recipe, folder, train_data, test_data, first_epoch, steps_per_epoch, verbose)

    trained = build(train_data, precision="float32")
    trained.load_weights(folder.best)
    trained.save(folder.model)
    write_json(folder.results, _results(trained, recipe, folder, test_data))
    return trained


def model_builder(recipe):
    """Returns a function that builds the recipe's model for a data set, in a given precision."""
    name = recipe.model.name
    if name not in applications.CLASSIFIERS:
        raise ValueError(
            f"There is no model {name!r}. Those that can be trained as classifiers are: "
            f"{', '.join(applications.CLASSIFIERS)}."
        )

    def build(train_data, precision):
        policy = keras.config.dtype_policy()
        keras.config.set_dtype_policy(precision)
        try:
            model = applications.CLASSIFIERS[name](
                weights=None,
                classes=len(train_data.class_names),
                input_shape=train_data.image_shape,
                **recipe.model.options,
            )
        except TypeError as error:
            raise ValueError(f"`model.options` of the recipe: {error}") from error
        finally:
            keras.config.set_dtype_policy(policy)
        model.info = dataclasses.replace(
            model.info,
            class_names=train_data.class_names,
            statistics=applications.get_statistics(recipe.data.statistics),
        )
        return model

    return build


def compile_model(model, recipe, steps_per_epoch):
    """Compiles a classifier with the recipe's optimizer and schedule."""
    options = recipe.optimizer
    warmup_steps = round(recipe.schedule.warmup_epochs * steps_per_epoch)
    if recipe.schedule.name == "multistep":
        schedule = MultiStepDecay(
            options.learning_rate,
            [(epoch - 1) * steps_per_epoch for epoch in recipe.schedule.milestones],
            recipe.schedule.factor,
            warmup_steps,
        )
    else:
        schedule = keras.optimizers.schedules.CosineDecay(
            0.0 if warmup_steps else options.learning_rate,
            max(recipe.epochs * steps_per_epoch - warmup_steps, 1),
            warmup_target=options.learning_rate if warmup_steps else None,
            warmup_steps=warmup_steps,
        )
    model.compile(
        optimizer=CoupledSGD(
            schedule,
            momentum=options.momentum,
            nesterov=options.nesterov,
            weight_decay=options.weight_decay,
        ),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )


def _fit(model, recipe, folder, train_data, test_data, first_epoch, steps_per_epoch, verbose):
    preprocess = _preprocess(recipe)
    batches = train_data.batches(
        recipe.batch_size,
        preprocess=preprocess,
        shuffle=True,
        augmentation=data.Augmentation(**recipe.augmentation.model_dump()),
        seed=recipe.seed,
        first_epoch=first_epoch,
        epochs=recipe.epochs - first_epoch,
    )
    best = max((row["val_accuracy"] for row in folder.read_log()), default=None)
    callbacks = [
        keras.callbacks.TerminateOnNaN(),
        keras.callbacks.CSVLogger(folder.log, append=first_epoch > 0),
        keras.callbacks.ModelCheckpoint(
            folder.best,
            monitor="val_accuracy",
            mode="max",
            save_best_only=True,
            save_weights_only=True,
            initial_value_threshold=best,
        ),
        *_tensorboard(folder),
        SaveState(folder.state),  # last: what it counts as done must be logged
    ]
    history = model.fit(
        batches,
        epochs=recipe.epochs,
        initial_epoch=first_epoch,
        # A `tf.data` stream goes through all epochs; arrays are iterated once an epoch.
        steps_per_epoch=None if isinstance(batches, data.ArrayBatches) else steps_per_epoch,
        validation_data=test_data.batches(recipe.batch_size, preprocess=preprocess),
        callbacks=callbacks,
        shuffle=False,  # `batches` are; Keras would shuffle them once more, by a state of its own
        verbose=verbose,
    )
    if any(loss != loss for loss in history.history.get("loss", [float("nan")])):
        raise ValueError(
            f"The loss became NaN in epoch {first_epoch + len(history.epoch)}. Lower "
            "`optimizer.learning_rate`, or lengthen `schedule.warmup_epochs`."
        )


def _tensorboard(folder):
    for package in ("tensorflow", "tensorboard"):  # Keras' callback needs both
        if importlib.util.find_spec(package) is None:
            _log.warning("No TensorBoard log is written: that needs `pip install %s`.", package)
            return []
    return [keras.callbacks.TensorBoard(folder.tensorboard)]


def _results(model, recipe, folder, test_data):
    model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    batches = test_data.batches(recipe.batch_size, preprocess=_preprocess(recipe))
    start = time.perf_counter()
    metrics = model.evaluate(batches, return_dict=True, verbose=0)
    log = folder.read_log()
    return {
        "model": model.name,
        "parameters": model.count_params(),
        "test_images": test_data.num_images,
        "test_accuracy": metrics["accuracy"],
        "test_loss": metrics["loss"],
        "last_epoch": log[-1] if log else None,
        "evaluation_seconds": time.perf_counter() - start,
    }


def _read_split(recipe, split):
    if recipe.data.name == "blood_cells":
        return data.load_blood_cells(split)
    return data.from_tfds(
        recipe.data.name,
        split,
        data_dir=recipe.data.data_dir,
        image_size=recipe.data.image_size,
    )


def _preprocess(recipe):
    return functools.partial(applications.preprocess_input, statistics=recipe.data.statistics)
