"""From pixels to what a network was trained on, and from its outputs to names."""

import dataclasses

import numpy as np
from keras import ops


@dataclasses.dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation of a data set, by RGB channel, of pixels scaled to 0..1."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    source: str = ""

    def __post_init__(self):
        for name in ("mean", "std"):  # lists, where a config was read from JSON
            object.__setattr__(self, name, tuple(float(value) for value in getattr(self, name)))
        if len(self.mean) != 3 or len(self.std) != 3 or not min(self.std) > 0:
            raise ValueError(
                "`mean` and `std` must have a value for each of the three RGB channels, and `std` "
                f"be positive. Received: mean={self.mean}, std={self.std}."
            )


def _from_255(values):
    return tuple(value / 255 for value in values)


STATISTICS = {
    # CIFAR-100's: the authors normalise CIFAR-10 with them, and so do their checkpoints.
    "cifar10": Statistics(
        mean=(0.5070751592371323, 0.48654887331495095, 0.4409178433670343),
        std=(0.2673342858792401, 0.2564384629170883, 0.27615047132568404),
        source="CIFAR100_TRAIN_MEAN/STD, ResNet50-SPD/conf/global_settings.py of LabSAINT/SPD-Conv",
    ),
    "tiny_imagenet": Statistics(
        mean=_from_255((122.4786, 114.2755, 101.3963)),
        std=_from_255((70.4924, 68.5679, 71.8127)),
        source="transform, ResNet18-SPD/tiny_imagenet_loader.py of LabSAINT/SPD-Conv",
    ),
    "imagenet": Statistics(
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        source="torchvision.models; the usual choice for photographs",
    ),
}


def get_statistics(statistics):
    """Returns the `Statistics` of a name in `STATISTICS`, or the `Statistics` passed in."""
    if isinstance(statistics, Statistics):
        return statistics
    if not isinstance(statistics, str) or statistics not in STATISTICS:
        raise ValueError(
            f"`statistics` must be one of {sorted(STATISTICS)} or a `Statistics(mean, std)`. "
            f"Received: statistics={statistics!r}."
        )
    return STATISTICS[statistics]


def preprocess_input(x, statistics="cifar10"):
    """Normalises RGB images, as the networks expect them: nothing is normalised inside.

    Args:
        x: Array or tensor with RGB values 0..255 in its last axis. Integers become float32.
        statistics: A name in `keras_spd.applications.STATISTICS` (`"cifar10"`,
            `"tiny_imagenet"`, `"imagenet"`) or a `Statistics(mean, std)`, e.g.
            `model.info.statistics`.

    Returns:
        `(x / 255 - mean) / std`, of the same shape: a NumPy array for a NumPy array, else a
        tensor.

    Raises:
        ValueError: If `statistics` is unknown or the last axis of `x` is not RGB.

    Example:

    >>> x = keras_spd.applications.preprocess_input(images, statistics="cifar10")
    """
    statistics = get_statistics(statistics)
    if not hasattr(x, "shape"):
        x = np.asarray(x)
    if not len(x.shape) or x.shape[-1] != 3:
        raise ValueError(
            "`preprocess_input` takes RGB images, with 3 channels in the last axis. "
            f"Received: x.shape={tuple(x.shape)}."
        )
    if isinstance(x, np.ndarray):
        x = x.astype("float32")
    elif "float" not in str(x.dtype):
        x = ops.cast(x, "float32")
    mean = np.array(statistics.mean, "float32") * 255
    std = np.array(statistics.std, "float32") * 255
    if not isinstance(x, np.ndarray):
        # As arithmetic of the tensor's own framework, so that it also works inside `tf.data`
        # where Keras computes with another backend.
        mean, std = mean.tolist(), std.tolist()
        if hasattr(x, "new_tensor"):  # PyTorch takes no lists
            mean, std = x.new_tensor(mean), x.new_tensor(std)
    return (x - mean) / std


def decode_predictions(predictions, class_names, top=5):
    """Names the most probable classes of each image.

    Args:
        predictions: Array of shape `(images, classes)`, as `model.predict` returns it.
        class_names: One name for each class, in order, e.g. `model.info.class_names`.
        top: Integer, how many classes to return for each image.

    Returns:
        For each image a list of `top` tuples `(class_index, class_name, score)`, best first.

    Raises:
        ValueError: If the names do not fit the predictions.

    Example:

    >>> decode_predictions(np.array([[0.1, 0.9]]), ["cat", "dog"], top=1)
    [[(1, 'dog', 0.9)]]
    """
    predictions = np.asarray(predictions)
    if predictions.ndim != 2 or predictions.shape[1] != len(class_names):
        raise ValueError(
            "`predictions` must have the shape (images, classes) with one class for each of "
            f"`class_names`. Received: predictions.shape={predictions.shape} and "
            f"{len(class_names)} class names."
        )
    best = np.argsort(-predictions, axis=1, kind="stable")[:, :top]
    return [
        [(int(index), class_names[index], float(scores[index])) for index in indices]
        for scores, indices in zip(predictions, best, strict=True)
    ]
