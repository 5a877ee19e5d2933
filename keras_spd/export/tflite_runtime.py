"""Runs TFLite files with the LiteRT interpreter."""

import os
import pathlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from keras_spd.images.batching import run_in_batches


class TFLiteFile:
    """A TFLite file that takes images, with or without signatures.

    Inputs and outputs are floats; quantised tensors are converted here.

    Args:
        path: Path of the file.
        threads: Number of CPU threads.

    Attributes:
        path: Path of the file.
        record: Dictionary, the metadata that `export_tflite` wrote; empty for other files.
        foreign_record: Dictionary, the metadata that Ultralytics' exporters write.
        runners: Dictionary from input shapes to signature runners, in the order of the file.

    Raises:
        ImportError: If the LiteRT interpreter is not installed.
        ValueError: If it is not a TFLite file, or its input is not a single batch of images.
    """

    def __init__(self, path: str | os.PathLike, threads: int = 2) -> None:
        from keras_spd.export.metadata import read_foreign_metadata, read_metadata

        self.path = pathlib.Path(path)
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise ImportError(
                "Running a TFLite file needs `pip install ai-edge-litert`."
            ) from error
        try:
            content = self.path.read_bytes()
            self.record = read_metadata(content) or {}
            self.foreign_record = {} if self.record else read_foreign_metadata(content)
            interpreter = Interpreter(model_content=content, num_threads=threads)
            interpreter.allocate_tensors()
            names = interpreter.get_signature_list()
            runners: Iterable[Any] = [interpreter.get_signature_runner(name) for name in names]
            self.runners = {
                _input(runner)[1]: runner for runner in runners or [_WithoutSignature(interpreter)]
            }
        except Exception as error:  # FlatBuffers passes on errors of struct and NumPy
            raise ValueError(f"Cannot load a TFLite model from {path}: {error}") from error
        for shape in self.runners:
            if len(shape) != 4:
                raise ValueError(
                    f"Cannot load a TFLite model from {path}: its input must be images, (batch, "
                    f"height, width, channels), but has the shape {shape}."
                )

    @property
    def output_shapes(self) -> list[tuple[int, ...]]:
        """Output shapes of the first signature."""
        details = next(iter(self.runners.values())).get_output_details()
        return [tuple(map(int, entry["shape"])) for entry in details.values()]

    @property
    def takes_bytes(self) -> bool:
        """Whether the input is integers 0..255 without a scale, instead of floats."""
        _, _, details = _input(next(iter(self.runners.values())))
        return np.dtype(details["dtype"]) == "uint8" and not details["quantization"][0]

    @property
    def image_sizes(self) -> tuple[tuple[int, int], ...]:
        """The image sizes that the file takes, each `(height, width)` in pixels."""
        return tuple(dict.fromkeys((shape[1], shape[2]) for shape in self.runners))

    @property
    def channels(self) -> int:
        """Integer, the channels of the images that the file takes."""
        return next(iter(self.runners))[3]

    def batch_sizes(self, image_size: tuple[int, int]) -> list[int]:
        """Returns the batch sizes that the file takes for an image size.

        Args:
            image_size: `(height, width)` in pixels.

        Returns:
            List of integers.

        Raises:
            ValueError: If the file does not take images of this size.
        """
        sizes = [shape[0] for shape in self.runners if shape[1:3] == tuple(image_size)]
        if not sizes:
            raise ValueError(
                f"{self.path} takes images of {' or '.join(map(str, self.image_sizes))} (height, "
                f"width). Received: {tuple(image_size)}."
            )
        return sizes

    def __call__(
        self, images: np.ndarray, batch_sizes: list[int] | None = None
    ) -> dict[str, np.ndarray]:
        """Runs any number of images of one size.

        Args:
            images: Array of shape `(images, height, width, channels)`, in the file's input range.
            batch_sizes: List of integers, the batch sizes to use; defaults to all that the file
                takes.

        Returns:
            Dictionary of arrays, the file's outputs for all images.

        Raises:
            ValueError: If the file does not take images of this size.
        """
        images = np.asarray(images)
        sizes = self.batch_sizes(images.shape[1:3])
        return run_in_batches(self._run, images, batch_sizes or sizes)

    def _run(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        if batch.shape not in self.runners:
            shapes = " or ".join(map(str, self.runners))
            raise ValueError(f"{self.path} takes arrays of {shapes}. Received: {batch.shape}.")
        runner = self.runners[batch.shape]
        name, _, details = _input(runner)
        outputs = runner(**{name: _quantize(batch, details)})
        output_details = runner.get_output_details()
        return {key: _dequantize(value, output_details[key]) for key, value in outputs.items()}


class _WithoutSignature:
    """An interpreter's first subgraph, with the interface of a signature runner."""

    def __init__(self, interpreter: Any) -> None:
        self._interpreter = interpreter
        self._inputs = {entry["name"]: entry for entry in interpreter.get_input_details()}
        self._outputs = {
            f"output_{index}": entry for index, entry in enumerate(interpreter.get_output_details())
        }

    def get_input_details(self) -> dict[str, dict[str, Any]]:
        return self._inputs

    def get_output_details(self) -> dict[str, dict[str, Any]]:
        return self._outputs

    def __call__(self, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        [images] = inputs.values()
        [details] = self._inputs.values()
        self._interpreter.set_tensor(details["index"], images)
        self._interpreter.invoke()
        return {
            name: self._interpreter.get_tensor(entry["index"])
            for name, entry in self._outputs.items()
        }


def _input(runner: Any) -> tuple[str, tuple[int, ...], dict[str, Any]]:
    """Returns the name, shape and details of a signature's only input."""
    inputs = runner.get_input_details()
    if len(inputs) != 1:
        raise ValueError("it takes several inputs")
    [(name, details)] = inputs.items()
    return name, tuple(map(int, details["shape"])), details


def _quantize(values: np.ndarray, details: dict[str, Any]) -> np.ndarray:
    """Converts values to the type of an input: quantised, rounded or unchanged."""
    dtype, (scale, zero_point) = np.dtype(details["dtype"]), details["quantization"]
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        values = np.clip(np.round(values / (scale or 1) + zero_point), limits.min, limits.max)
    return values.astype(dtype)


def _dequantize(values: np.ndarray, details: dict[str, Any]) -> np.ndarray:
    """Converts quantised outputs to floats; others, such as class numbers, stay unchanged."""
    scale, zero_point = details["quantization"]
    if values.dtype.kind in "iu" and scale:
        return (values.astype("float32") - zero_point) * np.float32(scale)
    return values
