"""The detector class: a functional network, its head and NMS."""

import collections.abc
import dataclasses
import itertools
from collections.abc import Iterable, Mapping
from typing import Any, Self

import keras

from keras_spd.boxes import check_box_format
from keras_spd.detection.anchors import Anchors, level_stride
from keras_spd.detection.base_loss import DetectionLoss, count_images, num_replicas
from keras_spd.detection.decoding import Decoder, image_size
from keras_spd.detection.evaluation import average_precision, split_into_batches
from keras_spd.detection.heads import Head, find_head
from keras_spd.detection.image_size import check_image_sides
from keras_spd.image_model import ModelInfo, build_optimizer, list_names
from keras_spd.optimizers import paper_optimizer
from keras_spd.typing import Shape, Tensor


@keras.saving.register_keras_serializable(package="keras_spd")
class Detector(keras.Model):
    """A detector, as built by `YOLOV5SPD`.

    Calling it returns raw predictions, `{level: (batch, rows, columns, anchors, outputs)}`. Its
    `Head` defines what they mean. `predict` returns keras-cv's detection dictionary; see `Decoder`.
    Class names, box format, head and thresholds are part of the config, so they survive saving and
    cloning.

    Args:
        network: Functional Keras model from images to raw predictions.
        head: `keras_spd.detection.Head`, or its name or config. For YOLOv5's head, pass only its
            anchors, `{level: ((width, height), ...)}` in pixels, or `None` for the default anchors.
        bounding_box_format: Format of the ground truth and of the boxes that `predict` returns.
        info: `ModelInfo`, class names and preprocessing.
        decoder: `Decoder`, which turns predictions into boxes.
        name: Name of the model.

    Input shape:
        `(batch, height, width, 3)`. The largest stride must divide height and width.

    Output shape:
        `{level: (batch, rows, columns, anchors, outputs)}`: with YOLOv5's head, the logits of box,
        objectness and classes.

    Raises:
        ValueError: If anchors or `bounding_box_format` are not as described, or the class names do
            not match the number of classes.

    Example:

    >>> model = keras_spd.applications.YOLOV5SPD("n", classes=3, input_shape=(320, 320, 3))
    >>> model.compile()
    >>> model.predict(np.zeros((1, 320, 320, 3)))["boxes"].shape
    (1, 300, 4)
    """

    predict_function: Any  # Keras'

    def __init__(
        self,
        network: keras.Model,
        head: Head | Mapping[str, Any] | str | None = None,
        bounding_box_format: str = "xyxy",
        info: ModelInfo | None = None,
        decoder: Decoder | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        self.network = network
        self._head = find_head(head, self.levels)
        self._check_anchors(self._head)
        self.bounding_box_format = check_box_format(bounding_box_format)
        self.info = info or ModelInfo()
        self._decoder = decoder or Decoder()
        self._former_decoder, self._former_predict_function = self._decoder, None
        self.initialised_parts: tuple[str, ...] = ()  # on transfer: parts that got no weights
        self._trackers = [keras.metrics.Mean(name=part) for part in self._head.loss_type.parts]
        self.build(network.input_shape)

    def build(self, input_shape: Shape) -> None:
        del input_shape  # the network is already built
        self.built = True

    @property
    def levels(self) -> tuple[str, ...]:
        """Names of the levels, finest first."""
        return tuple(sorted(self.network.output, key=level_stride))

    @property
    def num_classes(self) -> int:
        """Integer, the number of classes."""
        outputs = self.network.output[self.levels[0]].shape[-1]
        return outputs - self.head.loss_type.box_outputs

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

        Images are always letterboxed. If the info defines no normalisation, the network takes
        pixels 0..255.
        """
        return self._info

    @info.setter
    def info(self, info: ModelInfo) -> None:
        if not isinstance(info, ModelInfo):
            raise ValueError(f"`info` must be a `ModelInfo`. Received: info={info!r}.")
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
        if decoder == self._decoder:
            return
        # A predict function is traced with its thresholds. The former one is kept, because an
        # evaluation during training sets its own thresholds and then these again.
        former = self._decoder, self.predict_function
        known, function = self._former_decoder, self._former_predict_function
        self._decoder, self.predict_function = decoder, function if known == decoder else None
        self._former_decoder, self._former_predict_function = former

    def _forget_predict_functions(self) -> None:
        self.predict_function = self._former_predict_function = None

    def with_decoder(self, decoder: Decoder) -> Self:
        """Returns a detector with another `Decoder` and the same network, whose weights it shares.

        This one keeps its decoder, and what it has compiled for predictions.
        """
        return type(self)(
            self.network, self.head, self.bounding_box_format, self.info, decoder, self.name
        )

    @property
    def head(self) -> Head:
        """The `Head`, which defines raw predictions. Assign another one of the same kind."""
        return self._head

    @head.setter
    def head(self, head: Head) -> None:
        if head != self._head:
            self._check_anchors(head)
            self._head = head
            self._forget_predict_functions()  # traced with the old head

    def _check_anchors(self, head: Head) -> None:
        """Raises a `ValueError` if the network has outputs for another number of anchors."""
        for level, output in self.network.output.items():
            expected, given = output.shape[-2], len(head.sides(level))
            if given != expected:
                raise ValueError(
                    f"The network predicts boxes for {expected} anchors per cell at {level}. "
                    f"Received: {given}. Build it with them: `YOLOV5SPD(size, anchors=...)`."
                )

    @property
    def anchors(self) -> Anchors:
        """`{level: ((width, height), ...)}` in pixels, empty if the head has none. Assignable."""
        return self.head.anchors

    @anchors.setter
    def anchors(self, anchors: Any) -> None:
        checked = self.head.build(self.levels, anchors).anchors
        self.head = dataclasses.replace(self.head, anchors=checked)

    def call(self, inputs: Tensor, training: bool | None = None) -> dict[str, Tensor]:
        check_image_sides(inputs.shape, self.stride)
        return self.network(inputs, training=training)

    def compute_output_shape(self, input_shape: Shape) -> dict[str, Shape]:
        return self.network.compute_output_shape(input_shape)

    def decode(self, raw: dict[str, Tensor]) -> dict[str, Tensor]:
        """Turns raw predictions into the detection dictionary that `predict` returns."""
        decoded = self.head.decode(raw)
        return self.decoder.detections(
            decoded, image_size(raw), self.bounding_box_format, jit_compile=self.jit_compile
        )

    def predict_step(self, *args: Any) -> Any:
        outputs = super().predict_step(*args)
        if isinstance(outputs, tuple):  # JAX also returns its state
            return self.decode(outputs[0]), *outputs[1:]
        return self.decode(outputs)

    def compile(
        self, optimizer: Any = None, loss: DetectionLoss | None = None, **kwargs: Any
    ) -> None:
        """Configures the model for training.

        Args:
            optimizer: As in `keras.Model.compile`. Defaults to the paper's: `CoupledSGD` with
                Nesterov momentum 0.937, weight decay 5e-4 on kernels only, learning rate 0.01 and
                a warm-up of 1000 steps, during which the rate of biases falls from 0.1. Gradients
                are clipped to the head's `clip_norm`.
            loss: The loss of the model's head, such as `YOLOV5Loss`. Defaults to one for the
                model's classes, anchors and box format.
            **kwargs: Further arguments of `keras.Model.compile`.

        Raises:
            ValueError: If the loss belongs to another head, or its number of classes, its
                box format or its anchors differ from the model's.
        """
        if loss is None:
            loss = self.head.loss(self.num_classes, self.bounding_box_format)
        self.head.check_loss(loss, self.num_classes, self.bounding_box_format)
        optimizer = optimizer or paper_optimizer(global_clipnorm=self.head.clip_norm)
        self._forget_predict_functions()
        super().compile(optimizer=optimizer, loss=loss, **kwargs)

    def fit(self, x: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Trains as `keras.Model.fit` does, and records class names and image size.

        Batches of `DetectionData.batches` have both: a model without class names takes theirs,
        and `info.image_size` becomes the size of their images, which prediction and exports use by
        default. Such batches are not shuffled again, unless `shuffle=True` is passed.

        Raises:
            ValueError: If class names or box format of the batches differ from the model's: class
                0 of the data would be trained as class 0 of the model. If the model's anchors were
                changed after `compile`.
        """
        self._check_batches(x)
        self._check_batches(kwargs.get("validation_data"))
        names = getattr(x, "class_names", None)
        if names is not None:
            facts: dict[str, Any] = {"image_size": getattr(x, "image_size", self.info.image_size)}
            self.info = dataclasses.replace(self.info, class_names=tuple(names), **facts)
            if not args:
                kwargs.setdefault("shuffle", False)  # these batches are shuffled, if at all
        return super().fit(x, *args, **kwargs)

    def _check_batches(self, batches: Any) -> None:
        """Raises a `ValueError` if batches of `DetectionData` do not fit the model."""
        names, known = getattr(batches, "class_names", None), self.info.class_names
        if names is not None and (
            len(names) != self.num_classes or known not in (None, tuple(names))
        ):
            raise ValueError(
                f"The data has other classes than the model: {len(names)} ({list_names(names)}), "
                f"not {self.num_classes} ({list_names(known or ('no names',))}). Build it with "
                "the classes of the data: `YOLOV5SPD(size, weights=FILE, class_names=...)` keeps "
                "the outputs of classes with the same name; or read the data with the model's, "
                "`class_names=model.info.class_names`."
            )
        box_format = getattr(batches, "bounding_box_format", self.bounding_box_format)
        if box_format != self.bounding_box_format:
            raise ValueError(
                f"The boxes of the data are in {box_format!r}, those of the model in "
                f"{self.bounding_box_format!r}. Make the batches with "
                f'`bounding_box_format="{self.bounding_box_format}"`.'
            )

    def make_train_function(self, force: bool = False) -> Any:
        self.head.check_loss(self.loss, self.num_classes, self.bounding_box_format)
        self.head = self.head.trained()
        build_optimizer(self)
        return super().make_train_function(force)

    def compile_from_config(self, config: dict[str, Any]) -> None:
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

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
        images = count_images(y_pred)
        for tracker in self._trackers:
            tracker.update_state(parts[tracker.name], sample_weight=images)
        penalties = sum(keras.ops.sum(loss) for loss in self.losses)  # of regularisers
        return self.loss.total(parts, images) + penalties / num_replicas()

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

        Raises:
            ValueError: If class names or box format of the batches differ from the model's.
        """
        self._check_batches(x)
        batches: Iterable[tuple[Any, Any]] | None = None
        if not kwargs and isinstance(x, collections.abc.Iterator):  # can be read once
            batches = held = list(itertools.islice(x, steps))
            x, steps = (batch for batch in held), len(held)
        results = super().evaluate(
            x, y, batch_size, verbose, sample_weight, steps, callbacks, return_dict=True, **kwargs
        )
        if not kwargs:  # `fit` passes one, and its validation must be quick
            if batches is None:
                batches = split_into_batches(x, y, batch_size or 32, steps)
            results |= average_precision(self, batches)
        return results if return_dict else list(results.values())

    def get_config(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "network": keras.saving.serialize_keras_object(self.network),
            "head": self.head.get_config(),
            "bounding_box_format": self.bounding_box_format,
            "info": dataclasses.asdict(self.info),
            "decoder": dataclasses.asdict(self.decoder),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        config = dict(config)
        config["network"] = keras.saving.deserialize_keras_object(config["network"])
        config["info"] = ModelInfo.from_config(config["info"])
        config["decoder"] = Decoder(**config["decoder"])
        if "anchors" in config:  # files from before there were other heads
            former = {key: config.pop(key) for key in ("anchors", "single_class_logit")}
            config["head"] = {"name": "yolov5", **former}
        return cls(**config)
