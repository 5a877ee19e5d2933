"""The detector class: a functional network with anchors, NMS and the loss."""

import collections.abc
import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Self

import keras

from keras_spd.boxes import check_box_format
from keras_spd.detection.anchors import Anchors, level_stride, standardize_anchors
from keras_spd.detection.decoding import Decoder
from keras_spd.detection.losses import YOLOV5Loss, num_replicas
from keras_spd.image_model import ModelInfo, build_optimizer
from keras_spd.optimizers import CoupledSGD, MultiStepDecay
from keras_spd.typing import Shape, Tensor

_LOSSES = ("box_loss", "objectness_loss", "class_loss")


@keras.saving.register_keras_serializable(package="keras_spd")
class Detector(keras.Model):
    """A detector with YOLOv5's head, as built by `YOLOV5SPD`.

    Calling it returns raw predictions, `{level: (batch, rows, columns, anchors, 5 + classes)}`.
    `predict` returns keras-cv's detection dictionary; see `Decoder`. Class names, box format,
    anchors and thresholds are part of its config and survive saving and cloning.

    Args:
        network: Functional Keras model from images to raw predictions.
        anchors: `{level: ((width, height), ...)}` in pixels.
        bounding_box_format: Format of the ground truth and of the boxes that `predict` returns.
        info: `ModelInfo`, class names and preprocessing.
        decoder: `Decoder`, how predictions become boxes.
        single_class_logit: Boolean, whether a detector with one class multiplies objectness by
            the class probability, as the authors' code does, or only reports objectness, as
            YOLOv7 does. The loss does not train the class logit of a single class, so this is off
            for networks built and trained here. Loading weights with a trained class logit (the
            authors' files, or one class of a larger detector) turns it on; training turns it off.
            Ignored with several classes.
        name: Name of the model.

    Input shape:
        `(batch, height, width, 3)`, sides divisible by the largest stride.

    Output shape:
        `{level: (batch, rows, columns, anchors, 5 + classes)}`: the logits of box, objectness and
        classes.

    Raises:
        ValueError: If `anchors` or `bounding_box_format` are not as described, or the class names
            do not match the number of classes.

    Example:

    >>> model = keras_spd.applications.YOLOV5SPD("n", classes=3, input_shape=(320, 320, 3))
    >>> model.compile()
    >>> model.predict(np.zeros((1, 320, 320, 3)))["boxes"].shape
    (1, 300, 4)
    """

    def __init__(
        self,
        network: keras.Model,
        anchors: Anchors | None,
        bounding_box_format: str = "xyxy",
        info: ModelInfo | None = None,
        decoder: Decoder | None = None,
        single_class_logit: bool = False,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        self.network = network
        levels = sorted(network.output, key=level_stride)
        self.anchors = standardize_anchors(anchors, levels)
        self.bounding_box_format = check_box_format(bounding_box_format)
        self.info = info or ModelInfo()
        self._decoder = decoder or Decoder()
        self._single_class_logit = bool(single_class_logit)
        self._trackers = [keras.metrics.Mean(name=loss) for loss in _LOSSES]
        self.build(network.input_shape)

    def build(self, input_shape: Shape) -> None:
        del input_shape  # the network is already built
        self.built = True

    @property
    def levels(self) -> tuple[str, ...]:
        """Names of the levels, finest first."""
        return tuple(self.anchors)

    @property
    def num_classes(self) -> int:
        """Integer, the number of classes."""
        return self.network.output[self.levels[0]].shape[-1] - 5

    @property
    def image_sizes(self) -> tuple[tuple[int, int], ...] | None:
        """The accepted size, `((height, width),)`; `None` if any size is accepted."""
        size = self.network.input_shape[1:3]
        return None if None in size else (size,)

    @property
    def stride(self) -> int:
        """Integer, the largest stride, by which the sides of images must be divisible."""
        return level_stride(self.levels[-1])

    @property
    def info(self) -> ModelInfo:
        """The model's `ModelInfo`. Assign a new one, e.g. from `dataclasses.replace`.

        Images are always letterboxed. Unless the info says otherwise, the network takes pixels
        0..255.
        """
        return self._info

    @info.setter
    def info(self, info: ModelInfo) -> None:
        if info.class_names is not None and len(info.class_names) != self.num_classes:
            raise ValueError(
                f"`class_names` must name each of the {self.num_classes} classes of the model. "
                f"Received: {len(info.class_names)} names."
            )
        facts: dict[str, Any] = {"resize": "letterbox"}
        if not info.preprocessing.is_known:
            facts["input_range"] = (0.0, 255.0)
        self._info = dataclasses.replace(info, **facts)

    @property
    def decoder(self) -> Decoder:
        """The model's `Decoder`. Assign a new one, e.g. from `dataclasses.replace`."""
        return self._decoder

    @decoder.setter
    def decoder(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self.predict_function = None  # it holds the thresholds

    @property
    def single_class_logit(self) -> bool:
        """Whether the confidence uses the logit of a single class; `fit` sets it to `False`."""
        return self._single_class_logit

    @single_class_logit.setter
    def single_class_logit(self, value: bool) -> None:
        if value != self._single_class_logit:
            self._single_class_logit = bool(value)
            self.predict_function = None  # it holds the old value

    def call(self, inputs: Tensor, training: bool | None = None) -> dict[str, Tensor]:
        check_image_sides(inputs.shape, self.stride)
        return self.network(inputs, training=training)

    def compute_output_shape(self, input_shape: Shape) -> dict[str, Shape]:
        return self.network.compute_output_shape(input_shape)

    def decode(self, raw: dict[str, Tensor]) -> dict[str, Tensor]:
        """Turns raw predictions into the detection dictionary that `predict` returns."""
        return self.decoder(raw, self.anchors, self.bounding_box_format, self.single_class_logit)

    def predict_step(self, *args: Any) -> Any:
        outputs = super().predict_step(*args)
        if isinstance(outputs, tuple):  # JAX also returns its state
            return self.decode(outputs[0]), *outputs[1:]
        return self.decode(outputs)

    def compile(self, optimizer: Any = None, loss: YOLOV5Loss | None = None, **kwargs: Any) -> None:
        """Configures the model for training.

        Args:
            optimizer: As in `keras.Model.compile`. Defaults to the paper's: `CoupledSGD` with
                Nesterov momentum 0.937, weight decay 5e-4 on kernels only, learning rate 0.01 and
                a warm-up of 1000 steps, during which the rate of biases falls from 0.1.
            loss: `YOLOV5Loss`. Defaults to one for this model's classes, anchors and box format.
            **kwargs: Further arguments of `keras.Model.compile`.

        Raises:
            ValueError: If the loss is not a `YOLOV5Loss`, or has other classes or anchors than
                the model.
        """
        if loss is None:
            loss = YOLOV5Loss(self.num_classes, self.bounding_box_format, anchors=self.anchors)
        self._check_loss(loss)
        super().compile(optimizer=optimizer or paper_optimizer(), loss=loss, **kwargs)

    def make_train_function(self, force: bool = False) -> Any:
        # Training changes the features but not the logit, so it must no longer be used.
        self.single_class_logit = False
        build_optimizer(self)
        return super().make_train_function(force)

    def compile_from_config(self, config: dict[str, Any]) -> None:
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def _check_loss(self, loss: Any) -> None:
        if not isinstance(loss, YOLOV5Loss):
            raise ValueError(
                "`loss` must be a `keras_spd.detection.YOLOV5Loss`, or `None` for the one that "
                f"fits the model. Received: loss={loss!r}."
            )
        if loss.num_classes != self.num_classes:
            raise ValueError(
                f"The model has {self.num_classes} classes, but the loss has num_classes="
                f"{loss.num_classes}."
            )
        if standardize_anchors(loss.anchors, self.levels) != self.anchors:
            raise ValueError(
                "The loss has other anchors than the model. Pass it `anchors=model.anchors`."
            )

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Tensor:
        del x, training
        if sample_weight is not None:
            raise ValueError("`sample_weight` is not supported; remove boxes or images instead.")
        parts = self.loss.components(y, y_pred)
        images = keras.ops.cast(keras.ops.shape(y_pred[self.levels[0]])[0], "float32")
        for tracker in self._trackers:
            tracker.update_state(parts[tracker.name], sample_weight=images)
        penalties = sum(keras.ops.sum(loss) for loss in self.losses)  # of regularisers
        return images * sum(parts[name] for name in _LOSSES) + penalties / num_replicas()

    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        verbose: Any = "auto",
        sample_weight: Any = None,
        steps: int | None = None,
        callbacks: Any = None,
        return_dict: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Computes the losses and COCO's `AP`, `AP50` and `AP_small`, in network pixels.

        The data must be finite. It is read twice, so the batches of a generator are kept in
        memory. `keras_spd.evaluate` computes the scores that papers report, in original pixels.

        Args:
            x, y, batch_size, verbose, sample_weight, steps, callbacks, return_dict: As in
                `keras.Model.evaluate`.
            **kwargs: Further arguments of `keras.Model.evaluate`.

        Returns:
            List of the values, or a dictionary with `return_dict=True`.
        """
        batches: Iterable[tuple[Any, Any]] | None = None
        if not kwargs and isinstance(x, collections.abc.Iterator):  # can be read once
            batches = held = list(itertools.islice(x, steps))
            x, steps = (batch for batch in held), len(held)
        results = super().evaluate(
            x, y, batch_size, verbose, sample_weight, steps, callbacks, return_dict=True, **kwargs
        )
        if not kwargs:  # `fit` passes one, and its validation must be quick
            if batches is None:
                batches = _batches(x, y, batch_size or 32, steps)
            results |= self._average_precision(batches)
        return results if return_dict else list(results.values())

    def _average_precision(self, batches: Iterable[tuple[Any, Any]]) -> dict[str, float]:
        from keras_spd.metrics.batch_evaluation import evaluate_batches

        former, self.decoder = self.decoder, Decoder(0.001, 0.65)
        try:
            scores = evaluate_batches(
                ((self.predict_on_batch(images), truth, images.shape) for images, truth in batches),
                self.num_classes,
                self.bounding_box_format,
            )
        finally:
            self.decoder = former
        return {name: scores.metrics[name] for name in ("AP", "AP50", "AP_small")}

    def get_config(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "network": keras.saving.serialize_keras_object(self.network),
            "anchors": self.anchors,
            "bounding_box_format": self.bounding_box_format,
            "info": dataclasses.asdict(self.info),
            "decoder": dataclasses.asdict(self.decoder),
            "single_class_logit": self.single_class_logit,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        config = dict(config)
        config["network"] = keras.saving.deserialize_keras_object(config["network"])
        config["info"] = ModelInfo.from_config(config["info"])
        config["decoder"] = Decoder(**config["decoder"])
        return cls(**config)


def _batches(x: Any, y: Any, batch_size: int, steps: int | None) -> Iterator[tuple[Any, Any]]:
    """Yields `(images, ground truth)` batches from the data of `evaluate`: arrays or iterables."""
    if y is not None:
        for start in range(0, len(x), batch_size):
            rows = slice(start, start + batch_size)
            yield x[rows], {key: value[rows] for key, value in y.items()}
        return
    count = len(x) if isinstance(x, keras.utils.PyDataset) else None
    batches = (x[index] for index in range(count)) if count is not None else x
    yield from itertools.islice(batches, steps)


def paper_optimizer(
    learning_rate: float = 0.01, *, weight_decay: float = 5e-4, warmup_steps: int = 1000
) -> CoupledSGD:
    """The paper's optimizer: SGD with Nesterov momentum, decay on kernels only, bias warm-up.

    Args:
        learning_rate: Number, the rate after the warm-up.
        weight_decay: Number, coupled as in PyTorch.
        warmup_steps: Integer.

    Returns:
        `CoupledSGD`.

    Example:

    >>> model.compile(keras_spd.detection.paper_optimizer(0.001))

    Source: section 4.1 of the paper (0.937, 5e-4, rate 0.01), `YOLOv5-SPD/train.py` of
    LabSAINT/SPD-Conv, and YOLOv5 v6.0's `hyp.scratch.yaml`, which that code needs but does not
    include.
    """
    return CoupledSGD(
        MultiStepDecay(learning_rate, [], 1.0, warmup_steps),
        momentum=0.937,
        nesterov=True,
        weight_decay=weight_decay,
        decay_kernels_only=True,
        warmup_steps=warmup_steps,
        warmup_bias_rate=0.1,
        warmup_momentum=0.8,
    )


def check_image_sides(shape: Shape, stride: int) -> None:
    """Raises a `ValueError` unless known height and width are multiples of the largest stride."""
    if any(side is not None and side % stride for side in shape[1:3]):
        raise ValueError(
            f"Height and width must be multiples of {stride}, the largest stride of the detector. "
            f"Received: images of shape {tuple(shape)}. Resize them, e.g. with `image_size=` of "
            "`keras_spd.data` or with `keras_spd.Predictor`, which letterboxes images."
        )


def standardize_image_size(image_size: int | Sequence[int] | None, model: Any) -> tuple[int, int]:
    """Returns the image size for a detector as `(height, width)`, in pixels.

    Args:
        image_size: One integer, two integers, or `None` for the size the detector was trained at.
        model: `Detector`, or another object that implements `DetectorProtocol`.

    Raises:
        ValueError: If the stride does not divide both sides, or the detector does not accept the
            size.
    """
    if image_size is None:
        image_size = model.image_sizes[0] if model.image_sizes else model.info.image_size or 640
    size = check_multiples(image_size, model.stride)
    if model.image_sizes and size not in model.image_sizes:
        raise ValueError(
            f"The detector takes images of {' or '.join(map(str, model.image_sizes))} only "
            f"(height, width). Received: image_size={image_size!r}."
        )
    return size


def check_multiples(image_size: int | Sequence[int], stride: int = 32) -> tuple[int, int]:
    """Returns `(height, width)`, or raises a `ValueError` unless `stride` divides both."""
    sides: Any = image_size
    size = tuple(sides) if isinstance(sides, (tuple, list)) else (sides, sides)
    if len(size) != 2 or any(not isinstance(s, int) or s < stride or s % stride for s in size):
        raise ValueError(
            f"`image_size` must be one or two multiples of {stride}, the largest stride of the "
            f"detector, e.g. {10 * stride}. Received: image_size={image_size!r}."
        )
    return size
