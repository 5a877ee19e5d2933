"""Trains a classifier or detector from a recipe."""

import contextlib
import logging
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import keras

from keras_spd import keras_internals, registered  # noqa: F401 (registers saved classes)
from keras_spd.data.classification.dataset import ClassificationData
from keras_spd.data.detection.dataset import DetectionData
from keras_spd.files import remove_unfinished, shorten, whole_file, write_json
from keras_spd.surgery.quantize_aware import is_quantize_aware, quantize_aware
from keras_spd.training.announce import (
    log_cost,
    log_splits,
    warn_of_missing_onednn,
    warn_of_schedule,
)
from keras_spd.training.best_epoch import describe_best, has_stopped, known_scores
from keras_spd.training.callbacks import (
    AcrossParts,
    PrintProgress,
    StopAfter,
    Task,
    check_callbacks,
    last_change,
    make_callbacks,
)
from keras_spd.training.checks import check_quantize_aware, check_recipe, check_updates
from keras_spd.training.classification import ClassificationTask
from keras_spd.training.copies import copy_model, float32_policy
from keras_spd.training.detection import DetectionTask
from keras_spd.training.distribution import Distribution, distribute
from keras_spd.training.environment import name_code
from keras_spd.training.errors import explained
from keras_spd.training.fields import Recipe
from keras_spd.training.freezing import carry_over, freeze, warn_of_initial_weights
from keras_spd.training.given import (
    check_resumed,
    find_given,
    has_start,
    name_data,
    name_given,
    without_start,
)
from keras_spd.training.lock import locked
from keras_spd.training.optimizer import make_optimizer
from keras_spd.training.paths import with_absolute_paths
from keras_spd.training.run_folder import RunFolder
from keras_spd.training.run_plots import draw_learning_curves, draw_training_images
from keras_spd.training.run_recipe import find_recipe
from keras_spd.training.saved_state import restore_state, saved_epochs, saved_seconds
from keras_spd.typing import Path

_log = logging.getLogger(__name__)
_TASKS: dict[str, Callable[..., Task]] = {
    "classification": ClassificationTask,
    "detection": DetectionTask,
}


def train(
    recipe: Recipe | None,
    run_folder: Path,
    *,
    model: keras.Model | Path | None = None,
    train_data: ClassificationData | DetectionData | None = None,
    test_data: ClassificationData | DetectionData | None = None,
    validation_data: ClassificationData | DetectionData | None = None,
    resume: bool = False,
    epochs: int | None = None,
    devices: Any = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    transform: Callable[..., Any] | None = None,
    verbose: str | int = "auto",
) -> Any:
    """Trains a model from a recipe, with `model.fit`.

    Args:
        recipe: `Recipe`; or `None` to resume with the recipe in the run folder. If one is given
            with `resume`, it must equal the stored one.
        run_folder: Path of the folder for logs, weights and results.
            `keras_spd/training/run_folder.py` lists its files.
        model: Model to train instead of the recipe's network: a `Detector` (converted by `to_spd`,
            on your own backbone, ...), a functional or Sequential classifier, or a path that
            `keras_spd.predict.load_model` reads. The model is copied, and saved in the run folder
            as `start.keras`. If the data has other classes, outputs of classes with the same name
            are kept; `recipe.model.class_map` maps names that differ.
        train_data: `ClassificationData` or `DetectionData` to use instead of the recipe's training
            data.
        test_data: The same for the test data, on which the trained model is scored.
        validation_data: The same for the validation data, on which the best epoch is chosen;
            defaults to `recipe.data.validation`. Without either, the best epoch is chosen on the
            test data, so the test scores are optimistic.
        resume: Whether to resume a stopped run in the same folder. Schedule, order of the data and
            augmentation are the same as in an uninterrupted run.
        epochs: With `resume`, to train a run for longer: the total number of epochs, instead of
            the recipe's. The learning rate continues as in a run of that many epochs, so it rises
            again if its schedule had ended.
        devices: `None` for one device, `"all"` for all devices of this machine, or a
            `tf.distribute.Strategy`, such as `TPUStrategy`. On several machines, start the same
            training on each. TensorFlow's environment variable `TF_CONFIG` must name them all, and
            all need access to the same run folder; the first one writes to it.
        callbacks: Your own `keras.callbacks.Callback`s. They are called after each evaluation, on
            the first worker; training begins and ends once for them. Metrics that they add to
            `logs` are written to `log.csv`, and, on one machine, `model.stop_training = True` ends
            the run. `resume` does not restore their state.
        transform: Detectors: your own augmentation, as in `DetectionData.batches`, after the
            recipe's. To resume exactly, pass the same function.
        verbose: As in `keras.Model.fit`; 2 also prints a line every half minute of an epoch.

    Returns:
        The trained `ImageModel` or `Detector` in float32, with the weights of the best epoch. It is
        also saved in the run folder as `model.keras`. `None` on workers other than the first.

    Raises:
        ValueError: If the recipe names anything that does not exist; if the folder already holds a
            run, and `resume` is false or the recipe differs; if another training is writing to it;
            or if the loss becomes NaN or infinite.
        TypeError: If `recipe` is not a `Recipe`, one of `callbacks` is not a Keras callback, or
            `transform` is not a function of four arguments.

    Example:

    >>> recipe = keras_spd.training.load_recipe("short", dataset="cifar10")
    >>> model = keras_spd.training.train(recipe, "runs/first")
    >>> converted = keras_spd.to_spd(model)
    >>> keras_spd.training.train(recipe, "runs/converted", model=converted)
    """
    callbacks = check_callbacks(callbacks)
    check_recipe(recipe)
    distribution = distribute(devices)  # first: workers must meet before anything is computed
    folder = RunFolder(run_folder)
    with contextlib.ExitStack() as stack:
        if distribution.is_chief:
            stack.enter_context(locked(folder.lock))
            remove_unfinished(folder.path)
        passed_alone = model if recipe is None else None
        recipe, model = name_given(recipe, model)
        recipe = name_data(recipe, train=train_data, validation=validation_data, test=test_data)
        recipe = find_recipe(recipe, folder, resume, epochs)
        # A resumed run does not need the weights it started from: the run folder has its model.
        kept = folder.start_model if resume and folder.start_model.is_file() else None
        if resume:
            check_resumed(folder, recipe, validation_data, passed_alone, kept)
        given = find_given(recipe, model, kept)
        task_recipe = without_start(recipe) if kept else recipe
        check_quantize_aware(recipe)
        distribution.check_batch_size(recipe.batch_size)
        distribution.check_stopping(recipe.patience, callbacks)
        distribution.check_accumulation(recipe.optimizer.accumulate_batches)
        stack.enter_context(explained(folder, recipe.batch_size))
        task = _TASKS[recipe.task](
            task_recipe, train_data, test_data, validation_data, given, transform
        )
        distribution.check_images(task.train_data.num_images, recipe.batch_size)
        keras.utils.set_random_seed(recipe.seed)
        start = build(task)
        resumes = resume and folder.state.is_file()
        if distribution.is_chief:
            folder.start(
                with_absolute_paths(recipe),
                task.splits.num_images,
                resumes,
                **name_code(transform, callbacks),
            )
            if kept is None:
                folder.start_model.unlink(missing_ok=True)  # of a run that saved no epoch
                if has_start(recipe):
                    with whole_file(folder.start_model) as unfinished:
                        start.save(unfinished)
        _train(task, start, folder, distribution, resumes, verbose, callbacks)
        return _finish(task, start, folder) if distribution.is_chief else None


def _train(
    task: Task,
    start: keras.Model,
    folder: RunFolder,
    distribution: Distribution,
    resumes: bool,
    verbose: str | int,
    user_callbacks: Sequence[keras.callbacks.Callback],
) -> None:
    """Fits a copy of the model `start`, from its weights or from the state in the folder."""
    recipe = task.recipe
    steps_per_epoch = task.train_data.steps_per_epoch(recipe.batch_size)
    check_updates(recipe, steps_per_epoch)
    first_epoch = saved_epochs(folder.state) if resumes else 0
    unfreeze_at = recipe.freeze.until(recipe.epochs)
    with distribution.scope():
        model = _copy_to_train(start, task)
        frozen = freeze(model, recipe.freeze.layers) if first_epoch <= unfreeze_at else []
        task.compile(model, make_optimizer(recipe, steps_per_epoch))
        if resumes:
            restore_state(model, folder.state)
    if resumes and _has_ended(task, folder, first_epoch):
        return
    if resumes:
        _log.info("Resuming %s after epoch %d of %d.", folder.path, first_epoch, recipe.epochs)
    if distribution.is_chief:
        if not resumes:
            log_cost(start, recipe)
            warn_of_schedule(recipe, steps_per_epoch)
            warn_of_initial_weights(start, frozen, folder.start_model.is_file())
        log_splits(task)
        warn_of_missing_onednn()
        folder.forget_epochs(first_epoch)
        _draw_preview(task, folder, first_epoch)
    # `fit` ends where the trained layers or the size of the images change.
    ends = {unfreeze_at, *task.size_changes, recipe.epochs} - set(range(first_epoch + 1))
    users = [AcrossParts(callback) for callback in user_callbacks]
    for last_epoch in sorted(ends):
        if frozen and first_epoch == unfreeze_at:
            with distribution.scope():
                _unfreeze(task, model, frozen, steps_per_epoch)
        callbacks = make_callbacks(task, start, folder, distribution, last_epoch, users)
        with distribution.fit_scope():
            distribution.prepare(model, task.train_batches(first_epoch, last_epoch))
            stopped = _fit(
                model, task, first_epoch, last_epoch, steps_per_epoch, callbacks, verbose
            )
        if stopped or has_stopped(folder, task.best_by, recipe.patience, last_change(task)):
            break
        first_epoch = last_epoch
        if last_epoch in task.size_changes:  # a graph for the new size, with the same optimizer
            with distribution.scope():
                task.compile(model, model.optimizer)
    for user in users:
        user.end()


def _draw_preview(task: Task, folder: RunFolder, epoch: int) -> None:
    """Draws training images with the recipe's augmentation, before they are normalised."""
    images, boxes, labels = task.preview(epoch)
    names = task.train_data.class_names
    draw_training_images(images, boxes, folder.training_images, labels=labels, class_names=names)


def _has_ended(task: Task, folder: RunFolder, first_epoch: int) -> bool:
    """Returns whether a stored run has nothing left to train, and logs how to extend it."""
    recipe = task.recipe
    if first_epoch >= recipe.epochs:
        _log.warning(
            "The run in %s is finished (%d of %d epochs). To continue, resume with more `epochs`.",
            folder.path,
            first_epoch,
            recipe.epochs,
        )
        return True
    if has_stopped(folder, task.best_by, recipe.patience, last_change(task)):
        _log.warning(
            "The run in %s stopped early. To continue, raise `patience` in %s.",
            folder.path,
            folder.recipe,
        )
        return True
    return False


def _copy_to_train(start: keras.Model, task: Task) -> keras.Model:
    if not task.size_changes:
        return copy_model(start, task.recipe.precision)
    try:
        return copy_model(start, task.recipe.precision, any_size=True)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"`progressive_resizing` needs a network that takes images of any size. `{start.name}` "
            f"does not: {shorten(error)} Set `progressive_resizing.initial_scale=1`."
        ) from error


def _unfreeze(
    task: Task, model: keras.Model, frozen: Sequence[keras.layers.Layer], steps_per_epoch: int
) -> None:
    """Makes frozen layers trainable again and keeps the optimizer's state."""
    for layer in frozen:
        layer.trainable = True
    former = model.optimizer
    task.compile(model, make_optimizer(task.recipe, steps_per_epoch))
    model.optimizer.build(model.trainable_variables)
    carry_over(former, model.optimizer, model.trainable_variables)


def _finish(task: Task, trained: keras.Model, folder: RunFolder) -> keras.Model:
    """Saves and scores a float32 model with the best weights of a run, and returns it."""
    log = folder.read_log()
    if log and not folder.best.is_file() and not known_scores(log, task.best_by):
        raise ValueError(
            f"The run in {folder.path} was stopped before its first evaluation. Resume it, or "
            "start a run with a lower `evaluate_every`."
        )
    folder.load_best(trained)
    with whole_file(folder.model) as unfinished:
        trained.save(unfinished)
    seconds = saved_seconds(folder.state)
    start = time.perf_counter()
    if log:
        draw_learning_curves(log, folder.learning_curves)
    results = {
        "model": trained.name,
        "parameters": trained.count_params(),
        **task.score(trained, folder),
        **describe_best(folder, task.best_by, task.splits.chosen_on),
        "training_seconds": None if math.isnan(seconds) else seconds,
        "evaluation_seconds": time.perf_counter() - start,
    }
    write_json(folder.results, results)
    return trained


def build(task: Task) -> keras.Model:
    """Builds the model of a task in float32."""
    with float32_policy():
        model = task.build()
        for layer in keras_internals.nested_layers(model):
            if layer.dtype_policy.name.startswith("mixed_"):  # of a given model
                layer.dtype_policy = "float32"
        if task.recipe.quantize_aware and not is_quantize_aware(model):
            model = quantize_aware(model)
        return model


def _fit(
    model: keras.Model,
    task: Task,
    first_epoch: int,
    last_epoch: int,
    steps_per_epoch: int,
    callbacks: list[keras.callbacks.Callback],
    verbose: str | int,
) -> bool:
    """Trains until `last_epoch`. Returns whether a callback stopped the run before its end."""
    if keras.backend.backend() != "torch":  # PyTorch builds no graph
        _log.info("%s: building the graph, about 20 s.", model.name)
    batches, stop = task.train_batches(first_epoch, last_epoch), StopAfter(last_epoch)
    history = model.fit(
        batches,
        epochs=task.recipe.epochs,
        initial_epoch=first_epoch,
        # A `tf.data` stream holds all epochs; a PyDataset is iterated once per epoch.
        steps_per_epoch=None if isinstance(batches, keras.utils.PyDataset) else steps_per_epoch,
        callbacks=[*callbacks, stop, *([PrintProgress()] if verbose == 2 else [])],
        shuffle=False,  # `batches` are shuffled already, reproducibly
        verbose=verbose,
    )
    stop.restore_weights()
    losses = history.history.get("loss", [math.nan])
    if diverged := [epoch for epoch, loss in enumerate(losses) if not math.isfinite(loss)]:
        raise ValueError(
            f"The loss became NaN or infinite in epoch {first_epoch + diverged[0] + 1}. Lower "
            "`optimizer.learning_rate`, or lengthen `schedule.warmup_epochs`."
        )
    return stop.was_stopped
