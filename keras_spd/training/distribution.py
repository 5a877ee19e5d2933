"""Training on several devices and machines.

TensorFlow uses `MirroredStrategy`, or `MultiWorkerMirroredStrategy` if the environment variable
`TF_CONFIG` names several workers. JAX uses `keras.distribution.DataParallel`. The recipe's batch is
split among the devices. Batch norms are synchronized, and the positives of a detector are counted
over all devices, so the loss is the same as on one device.
"""

import contextlib
import dataclasses
import functools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import keras

from keras_spd import keras_internals
from keras_spd.typing import Tensor


@dataclasses.dataclass(frozen=True)
class Distribution:
    """The devices that train a model.

    Args:
        replicas: Number of devices that share a batch.
        worker: Index of this process; worker 0 writes the run folder.
        workers: Number of processes.
        strategy: `tf.distribute.Strategy`, `keras.distribution.DataParallel`, or `None`.
    """

    replicas: int = 1
    worker: int = 0
    workers: int = 1
    strategy: Any = None

    @property
    def is_chief(self) -> bool:
        """Whether this process writes the run folder."""
        return self.worker == 0

    def scope(self) -> AbstractContextManager[Any]:
        """Returns the context in which a model is built, compiled and restored."""
        return contextlib.nullcontext() if self.strategy is None else self.strategy.scope()

    def fit_scope(self) -> AbstractContextManager[Any]:
        """Returns the context of `fit`.

        TensorFlow models know their strategy. They train outside its scope, because a variable that
        a callback of one worker creates inside it makes the other workers wait forever.
        """
        return self.scope() if keras.backend.backend() == "jax" else contextlib.nullcontext()

    def check_batch_size(self, batch_size: int) -> None:
        """Raises a `ValueError` unless the batch can be split evenly."""
        if batch_size % self.replicas:
            raise ValueError(
                f"`batch_size` is the total over all devices, and must be a multiple of their "
                f"number, {self.replicas}. Received: batch_size={batch_size}."
            )

    def check_accumulation(self, batches: int) -> None:
        """Raises a `ValueError` if gradients would be accumulated on several devices."""
        if batches > 1 and self.replicas > 1:
            raise ValueError(
                "`optimizer.accumulate_batches` is for one device. Received: "
                f"accumulate_batches={batches} and {self.replicas} devices. Set it to 1, or train "
                "on one device."
            )

    def check_images(self, images: int, batch_size: int) -> None:
        """Raises a `ValueError` unless the only batch of a small dataset can be split evenly."""
        if images < batch_size and images % self.replicas:
            raise ValueError(
                f"The only batch has all {images} images, which {self.replicas} devices cannot "
                f"share evenly. Received: batch_size={batch_size}. Pass a `batch_size` of at most "
                f"{images - images % self.replicas}, or train on one device."
            )

    def check_stopping(
        self, patience: int | None, callbacks: Sequence[keras.callbacks.Callback]
    ) -> None:
        """Raises a `ValueError` if several workers would have to stop early: only one evaluates."""
        if self.workers == 1:
            return
        if patience is not None:
            raise ValueError(
                "`patience` is for training on one machine. Received: "
                f"patience={patience} and {self.workers} workers. Remove it from the recipe."
            )
        if any(isinstance(each, keras.callbacks.EarlyStopping) for each in callbacks):
            raise ValueError(
                "`EarlyStopping` is for training on one machine: only the first of the "
                f"{self.workers} workers evaluates, and the others would wait for it. Remove it."
            )

    def prepare(self, model: keras.Model, batches: Iterable[Any]) -> None:
        """Makes a compiled model compute the same on several devices as on one.

        Args:
            model: Compiled Keras model, built in `scope`.
            batches: Iterable of `(images, targets)`, as passed to `fit`.
        """
        if keras.backend.backend() != "tensorflow":
            return
        if self.replicas == 1:
            _build_metrics(model, next(iter(batches)))
            return
        for layer in keras_internals.nested_layers(model):
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.synchronized = True
        keras_internals.check_gradients_of_all_replicas(model.optimizer)
        keras_internals.sum_gradients_before_clipping(model.optimizer)
        if self.workers > 1:
            _prepare_for_workers(model, next(iter(batches)))


def distribute(devices: Any = None) -> Distribution:
    """Finds the devices, and connects to the other workers, if any.

    With several workers, call this before TensorFlow computes anything.

    Args:
        devices: `None` for one device, `"all"` for all devices of this machine, or a
            `tf.distribute.Strategy` such as `TPUStrategy`. If `TF_CONFIG` names several workers,
            all devices of all workers are used.

    Returns:
        `Distribution`.

    Raises:
        ValueError: If `devices` is invalid, or the backend cannot use several devices.
    """
    backend = keras.backend.backend()
    config = _worker_config()
    if devices is None and config is None:
        return Distribution()
    if hasattr(devices, "num_replicas_in_sync"):
        return Distribution(
            replicas=devices.num_replicas_in_sync,
            worker=0 if config is None else config["task"]["index"],
            workers=1 if config is None else len(config["cluster"]["worker"]),
            strategy=devices,
        )
    if devices not in (None, "all"):
        raise ValueError(
            '`devices` must be "all", `None` for one device, or a `tf.distribute.Strategy`. '
            f"Received: devices={devices!r}."
        )
    if backend == "jax" and config is None:
        import jax

        strategy = keras.distribution.DataParallel(devices=keras.distribution.list_devices())
        return Distribution(replicas=jax.device_count(), strategy=strategy)
    if backend != "tensorflow":
        raise ValueError(
            f"Training on several devices needs TensorFlow{'' if config else ' or JAX'} "
            f"(KERAS_BACKEND=tensorflow). Received: the backend {backend}."
        )
    if config is None:
        import tensorflow as tf

        kind = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
        names = [device.name for device in tf.config.list_logical_devices(kind)]
        strategy = tf.distribute.MirroredStrategy(names)
        return Distribution(replicas=len(names), strategy=strategy)
    strategy = _connect_workers()
    resolver = strategy.cluster_resolver
    return Distribution(
        replicas=strategy.num_replicas_in_sync,
        worker=resolver.task_id,
        workers=len(config["cluster"]["worker"]),
        strategy=strategy,
    )


@functools.cache  # the command line connects before it loads a model, and `train` asks again
def _connect_workers() -> Any:
    import tensorflow as tf

    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except RuntimeError as error:
        if "program startup" not in str(error):
            raise
        raise ValueError(
            "Several workers (TF_CONFIG) must connect before TensorFlow computes anything, but a "
            "model or a tensor exists already. Pass the path of a saved model as `model`, and call "
            "`train` first."
        ) from error


@contextlib.contextmanager
def on_one_device(model: keras.Model, twin: keras.Model | None) -> Iterator[keras.Model]:
    """Yields the model to evaluate: the model itself, or its twin with the same weights.

    Several devices cannot split a last batch with fewer images, and would each predict all images.

    Args:
        model: Keras model in training.
        twin: The same network on one device, compiled; `None` for the model itself.
    """
    if twin is None:
        yield model
        return
    twin.set_weights(model.get_weights())
    former = keras.distribution.distribution()
    keras.distribution.set_distribution(None)
    try:
        yield twin
    finally:
        keras.distribution.set_distribution(former)


def _worker_config() -> dict[str, Any] | None:
    """Returns the content of `TF_CONFIG` if it names several workers, otherwise `None`."""
    text = os.environ.get("TF_CONFIG", "").strip()
    if not text:
        return None
    try:
        config = json.loads(text)
        workers, index = config["cluster"]["worker"], int(config["task"]["index"])
        config["task"]["index"] = index  # TensorFlow also accepts a string
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            'TF_CONFIG must be like {"cluster": {"worker": ["host1:2222", "host2:2222"]}, '
            f'"task": {{"type": "worker", "index": 0}}}}. Received: {text!r}.'
        ) from error
    if config["task"].get("type") != "worker" or not 0 <= index < len(workers):
        raise ValueError(
            f"The task of TF_CONFIG must be a worker with an index below {len(workers)}. Received: "
            f"{config['task']!r}."
        )
    return config if len(workers) > 1 else None


def _prepare_for_workers(model: keras.Model, batch: Any) -> None:
    """Works around two bugs in Keras 3.15 under `MultiWorkerMirroredStrategy`.

    `fit` fails to build the metrics from a batch that is spread over the workers, so they are built
    here. It also averages the logs of the workers along an axis that scalars lack, so the steps
    return logs with one. See
    https://github.com/keras-team/keras/issues/20585.
    """
    _build_metrics(model, batch)
    keras_internals.skip_metric_build_in_fit(model)
    for name in ("train_step", "test_step"):
        setattr(model, name, _with_an_axis(getattr(model, name)))


def _build_metrics(model: keras.Model, batch: Any) -> None:
    """Creates the variables of loss, metrics and optimizer.

    `fit` would create them in the first trace of its step. TensorFlow traces a function twice if
    it creates variables, which doubles the time until the first step.
    """
    symbolic = keras.tree.map_structure(
        lambda array: keras.KerasTensor((None, *array.shape[1:]), array.dtype), batch
    )
    with model.distribute_strategy.scope():
        keras_internals.build_metrics(model, symbolic)


def _with_an_axis(step: Callable[[Any], dict[str, Tensor]]) -> Callable[[Any], dict[str, Tensor]]:
    def wrapped(data: Any) -> dict[str, Tensor]:
        logs = step(data)
        return keras.tree.map_structure(lambda value: keras.ops.reshape(value, (1,)), logs)

    return wrapped
