"""Reads the outputs of the authors' PyTorch code that are stored in `fixtures/`; NumPy only.

They were computed with LabSAINT/SPD-Conv, commit c09f792, PyTorch 2.13, float32, on a CPU.
Convolution weights, biases and batch-norm gains follow from each key's name and shape; the
batch-norm statistics are stored, so that activations stay in a realistic range.
"""

import json
import pathlib
import zlib

import numpy as np

FIXTURES = pathlib.Path(__file__).parent / "fixtures"


def seeded_tensor(key, shape, salt):
    """Returns the array of one state-dict entry; the same arguments give the same values."""
    rng = np.random.default_rng([zlib.crc32(key.encode()), salt])
    if key.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    if len(shape) == 1 and key.endswith("weight"):  # batch-norm gain
        return rng.uniform(0.3, 0.9, shape).astype(np.float32)
    if len(shape) == 1:
        return (0.1 * rng.standard_normal(shape)).astype(np.float32)
    fan_in = int(np.prod(shape[1:]))
    return (rng.standard_normal(shape) * np.sqrt(2.0 / fan_in)).astype(np.float32)


def load(name):
    """Returns the state dict (PyTorch layout), NHWC images and the expected outputs."""
    folder = FIXTURES / name.split("_")[0].removesuffix("18").removesuffix("50")
    spec = json.loads((folder / f"{name}.json").read_text())
    state_dict = {
        key: seeded_tensor(key, tuple(shape), spec["salt"]) for key, shape in spec["shapes"].items()
    }
    state_dict.update(np.load(folder / f"{name}.batch_norm.npz"))
    images = np.random.default_rng(spec["input_seed"]).random(
        spec["input_shape_nchw"], dtype=np.float32
    )
    return state_dict, images.transpose(0, 2, 3, 1), dict(np.load(folder / f"{name}.npz"))


def relative_norm(difference, reference):
    return np.linalg.norm(difference) / np.linalg.norm(reference)
