"""Runs ONNX files with ONNX Runtime."""

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_spd.export.metadata import parse
from keras_spd.images.batching import run_in_batches

RECORD = "keras_spd"  # key of our record in a file's metadata
DTYPES = {  # of inputs
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(uint8)": "uint8",
}
_UNKNOWN = 640  # pixels, for files that take any size and do not record one


def recorded_size(metadata: Mapping[str, str]) -> tuple[int, int] | None:
    """Returns the `(height, width)` that a file's metadata records, ours or Ultralytics'."""
    own = json.loads(metadata[RECORD]) if RECORD in metadata else {}
    size = own.get("image_size") or parse(metadata.get("imgsz", ""))
    return tuple(size) if isinstance(size, (list, tuple)) and len(size) == 2 else None


class ONNXFile:
    """An ONNX file that takes images, with the interface of `TFLiteFile`.

    Images are `(images, height, width, channels)`, also for files that take channels first.

    Args:
        path: Path of the file.
        threads: Number of CPU threads.

    Attributes:
        path: Path of the file.
        record: Dictionary, the metadata that `export_onnx` wrote; empty for other files.
        foreign_record: Dictionary, the metadata that Ultralytics' exporters write.
        image_sizes: Tuple with the `(height, width)` that the file takes. Files that take any size
            are run at the size they record, or 640.

    Raises:
        ImportError: If ONNX Runtime is not installed.
        ValueError: If it is not an ONNX file, or its input is not a single batch of images.
    """

    def __init__(self, path: str | os.PathLike, threads: int = 2) -> None:
        self.path = pathlib.Path(path)
        try:
            import onnxruntime
        except ImportError as error:
            raise ImportError(
                'Running ONNX files needs `pip install "keras_spd[onnx]"`.'
            ) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime's own classes have no common base
            raise ValueError(f"Cannot load an ONNX model from {path}: {error}") from error
        metadata = self._session.get_modelmeta().custom_metadata_map
        self.record = json.loads(metadata[RECORD]) if RECORD in metadata else {}
        self.foreign_record = {} if self.record else {k: parse(v) for k, v in metadata.items()}
        taken = self._session.get_inputs()
        if len(taken) != 1 or len(taken[0].shape) != 4 or taken[0].type not in DTYPES:
            raise ValueError(
                f"Cannot load an ONNX model from {path}: it must have one input, a batch of "
                f"images, but has {[(entry.type, entry.shape) for entry in taken]}."
            )
        self._name, self._dtype = taken[0].name, DTYPES[taken[0].type]
        self._batch, *sides = taken[0].shape
        self._channels_first = sides[0] in (1, 3) and sides[2] not in (1, 3)
        self.channels = sides[0] if self._channels_first else sides[2]
        sides = sides[1:] if self._channels_first else sides[:2]
        recorded = recorded_size(metadata) or (_UNKNOWN, _UNKNOWN)
        height, width = (
            side if isinstance(side, int) else int(other)
            for side, other in zip(sides, recorded, strict=True)
        )
        self.image_sizes = ((height, width),)

    @property
    def takes_bytes(self) -> bool:
        """Whether the input is integers 0..255 instead of floats."""
        return self._dtype == "uint8"

    @property
    def output_shapes(self) -> list[tuple[int, ...]]:
        """Output shapes; if the file does not record them, those for one black image."""
        shapes = [tuple(entry.shape) for entry in self._session.get_outputs()]
        if all(isinstance(side, int) for shape in shapes for side in shape):
            return shapes
        return [array.shape for array in self(np.zeros((1, *self.image_sizes[0], 3))).values()]

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Runs any number of images of the size in `image_sizes`.

        Args:
            images: Array of shape `(images, height, width, channels)`, in the file's input range.

        Returns:
            Dictionary of arrays, the file's outputs for all images.

        Raises:
            ValueError: If the file does not take images of this size.
        """
        images = np.asarray(images)
        if images.shape[1:3] != self.image_sizes[0]:
            raise ValueError(
                f"{self.path} takes images of {self.image_sizes[0]} (height, width). Received: "
                f"{images.shape[1:3]}."
            )
        count = self._batch if isinstance(self._batch, int) else len(images)
        return run_in_batches(self._run, images, [count])

    def _run(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        if self._channels_first:
            batch = np.transpose(batch, (0, 3, 1, 2))
        batch = np.ascontiguousarray(batch, self._dtype)
        outputs: list[Any] = self._session.run(None, {self._name: batch})
        names = [entry.name for entry in self._session.get_outputs()]
        return dict(zip(names, outputs, strict=True))
