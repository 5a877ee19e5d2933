"""Folds networks before export."""

from typing import Literal

import keras

from keras_spd.detection.detector import Detector
from keras_spd.surgery import fold as fold_model
from keras_spd.surgery.graph import is_graph

# Formats that folding makes faster: benchmarks/formats.md. In int16x8, the runtime has no
# space-to-depth.
_PAYS = {"SavedModel": True, "ONNX": True, "TFLite": False, "int16x8": True}


def folded(model: keras.Model, fold: bool | Literal["auto"], file_format: str) -> keras.Model:
    """Folds a model if requested, or if it makes the file faster.

    Args:
        model: Keras model.
        fold: `True`, `False`, or `"auto"` to fold where it was measured to help and the model can
            be folded.
        file_format: `"SavedModel"`, `"ONNX"`, `"TFLite"`, or `"int16x8"`, which is also TFLite.

    Returns:
        The folded model, or `model`.

    Raises:
        ValueError: If `fold` is another value, or it is `True` and the model cannot be folded.
    """
    if fold not in (True, False, "auto"):
        raise ValueError(f'`fold` must be True, False or "auto". Received: fold={fold!r}.')
    if fold == "auto":
        network = model.network if isinstance(model, Detector) else model
        fold = _PAYS[file_format] and is_graph(network)
    return fold_model(model) if fold else model
