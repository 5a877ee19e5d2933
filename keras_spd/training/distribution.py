"""Training on several devices and machines, by the means of the frameworks.

On TensorFlow `MirroredStrategy`, or `MultiWorkerMirroredStrategy` where the environment variable
`TF_CONFIG` names several workers; on JAX `keras.distribution.DataParallel`. A batch of the recipe
is split among the devices. Batch norms are synchronized and the positives of a detector counted
over all devices, so the loss is that of one device.
"""

import contextlib
import dataclasses
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import keras

from keras_spd import keras_internals
from keras_spd.typing import Tensor


@dataclasses.dataclass(frozen=True)
class Distribution:
    """Where a model is trained.

    Args:
        replicas: Integer, the number of devices that share a batch.
        worker: Integer, the number of this process; worker 0 writes the run folder.
        workers: Integer, the number of processes.
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

        On TensorFlow the model knows its strategy, and variables that a callback of one worker
        makes in its scope would keep the others waiting.
        """
        return self.scope() if keras.backend.backend() == "jax" else contextlib.nullcontext()

    def check_batch_size(self, batch_size: int) -> None:
        """Raises a `ValueError` unless the batch can be split evenly."""
        if batch_size % self.replicas:
            raise ValueError(
                f"`batch_size` is that of all devices together, and must be a multiple of their "
                f"number, {self.replicas}. Received: batch_size={batch_size}."
            )

    def prepare(self, model: keras.Model, batches: Iterable[Any]) -> None:
        """Makes a compiled model compute on several devices what it computes on one.

        Args:
            model: Compiled Keras model, built in `scope`.
            batches: Iterable of `(images, targets)` as the model will see them.
        """
        if keras.backend.backend() != "tensorflow":
            return
        if self.replicas == 1:
            _build_metrics(model, next(iter(batches)))
            return
        for layer in keras_internals.nested_layers(model):
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.synchronized = True
        if self.workers > 1:
            _prepare_for_workers(model, next(iter(batches)))


def distribute(devices: Any = None) -> Distribution:
    """Meets the other workers, if there are any, and finds the devices.

    With several workers this must come before TensorFlow has computed anything.

    Args:
        devices: `None` for one device, `"all"` for all of this machine, or a
            `tf.distribute.Strategy` such as `TPUStrategy`. Under `TF_CONFIG` with several workers,
            all devices of all workers in any case.

    Returns:
        `Distribution`.

    Raises:
        ValueError: If `devices` is something else, or the backend cannot use several.
    """
    backend = keras.backend.backend()
    config = _worker_config()
    if devices is None and config is None:
        return Distribution()
    if hasattr(devices, "num_replicas_in_sync"):
        return Distribution(replicas=devices.num_replicas_in_sync, strategy=devices)
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
    import tensorflow as tf

    if config is None:
        kind = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
        names = [device.name for device in tf.config.list_logical_devices(kind)]
        strategy = tf.distribute.MirroredStrategy(names)
        return Distribution(replicas=len(names), strategy=strategy)
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    resolver = strategy.cluster_resolver
    return Distribution(
        replicas=strategy.num_replicas_in_sync,
        worker=resolver.task_id,
        workers=len(config["cluster"]["worker"]),
        strategy=strategy,
    )


@contextlib.contextmanager
def on_one_device(model: keras.Model, twin: keras.Model | None) -> Iterator[keras.Model]:
    """Yields what is to be evaluated: the model, or its twin on one device, with its weights.

    Several devices cannot share a last batch of fewer images, and would each predict all images.

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
    """Returns what `TF_CONFIG` says, if it names several workers."""
    text = os.environ.get("TF_CONFIG", "").strip()
    if not text:
        return None
    try:
        config = json.loads(text)
        workers, index = config["cluster"]["worker"], config["task"]["index"]
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
    """Works around what keeps Keras 3.15 from training under `MultiWorkerMirroredStrategy`.

    `fit` builds the metrics from a batch that is spread over the workers, which fails: here they
    are built before. And it averages the logs of the workers along an axis that scalars lack. See
    https://github.com/keras-team/keras/issues/20585.
    """
    _build_metrics(model, batch)
    keras_internals.build_no_metrics_in_fit(model)
    for name in ("train_step", "test_step"):
        setattr(model, name, _with_an_axis(getattr(model, name)))


def _build_metrics(model: keras.Model, batch: Any) -> None:
    """Makes the variables of loss, metrics and optimizer.

    `fit` leaves that to the first trace of its step, and TensorFlow traces a function that has
    made variables once more, which doubles the time until the first step.
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
