"""TFLite files of `keras-spd export` in the LiteRT interpreter."""

import pathlib

import numpy as np

from keras_spd.images.batching import run_in_batches


class TFLiteFile:
    """Runs a file of `keras_spd.export.export_tflite` with the LiteRT interpreter.

    Args:
        path: Path of the file.
        threads: Integer, CPU threads.

    Attributes:
        path: Path of the file.
        record: Dictionary, what `export_tflite` noted in the file; empty for another one's file.
        runners: Dictionary from the shape of a signature's images to its runner, in the order of
            the file.

    Raises:
        ImportError: If the LiteRT interpreter is not installed.
        ValueError: If it is not a TFLite file with one input.
    """

    def __init__(self, path, threads=2):
        from keras_spd.export.metadata import read_metadata

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
            interpreter = Interpreter(model_content=content, num_threads=threads)
            interpreter.allocate_tensors()
            runners = map(interpreter.get_signature_runner, interpreter.get_signature_list())
            self.runners = {_input(runner)[1]: runner for runner in runners}
        except Exception as error:  # flatbuffers raise what struct and numpy raise
            raise ValueError(f"Cannot load a TFLite model from {path}: {error}") from error
        if not self.runners:
            raise ValueError(f"Cannot load a TFLite model from {path}: it has no signature.")

    @property
    def image_sizes(self):
        """Tuple of `(height, width)`, the sizes of images that the file takes."""
        return tuple(dict.fromkeys(shape[1:3] for shape in self.runners))

    def batch_sizes(self, image_size):
        """Returns how many images of a size the file takes at once: a list of integers.

        Raises:
            ValueError: If it takes no images of this size.
        """
        sizes = [shape[0] for shape in self.runners if shape[1:3] == tuple(image_size)]
        if not sizes:
            raise ValueError(
                f"{self.path} takes images of {' or '.join(map(str, self.image_sizes))} (height, "
                f"width). Received: {tuple(image_size)}."
            )
        return sizes

    def __call__(self, images, batch_sizes=None):
        """Runs images of one size, as many as there are.

        Args:
            images: Array of shape `(images, height, width, channels)`, as the file takes them.
            batch_sizes: List of integers, those of `batch_sizes` to use; by default all of them.

        Returns:
            Dictionary of arrays, the file's outputs.

        Raises:
            ValueError: If the file takes no images of this size.
        """
        images = np.asarray(images)
        sizes = self.batch_sizes(images.shape[1:3])
        return run_in_batches(self._run, images, batch_sizes or sizes)

    def _run(self, batch):
        runner = self.runners[batch.shape]
        name, _, dtype = _input(runner)
        if dtype == np.uint8:  # pixels, with a scale of 1
            batch = np.clip(np.round(batch), 0, 255)
        return runner(**{name: batch.astype(dtype)})


def _input(runner):
    """Returns name, shape and dtype of the only input of a signature."""
    ((name, details),) = runner.get_input_details().items()
    return name, tuple(map(int, details["shape"])), details["dtype"]
