"""The layers, a ResNet and a detector compute the same on TensorFlow, JAX and PyTorch."""

import os
import pathlib
import subprocess
import sys

import backend_outputs
import keras
import numpy as np
import pytest
import reference
from thin import make_thin

SCRIPT = pathlib.Path(__file__).parent / "backend_outputs.py"


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """Returns a function from a backend to its outputs and whether TensorFlow was imported.

    The first backend writes `.keras` files, which the others load.
    """
    done = {}
    models = tmp_path_factory.mktemp("backends") / "models"

    def compute(backend):
        if backend not in done:
            path = tmp_path_factory.mktemp(backend) / "outputs.npz"
            if backend == keras.backend.backend():  # here, without a process of its own
                with pytest.MonkeyPatch.context() as patch:
                    make_thin(patch)
                    backend_outputs.main(path, models)
                done[backend] = dict(np.load(path)), True
                return done[backend]
            result = subprocess.run(
                [sys.executable, SCRIPT, path, models],
                env={
                    **os.environ,
                    "KERAS_BACKEND": backend,
                    "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",  # JAX compiles in half the time
                },
                capture_output=True,
                text=True,
            )
            assert result.returncode == 0, result.stderr
            done[backend] = (dict(np.load(path)), result.stdout.split()[-1] == "True")
        return done[backend]

    return compute


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_same_outputs_as_tensorflow(outputs, backend):
    """Also from files that TensorFlow, the first backend, has written."""
    expected, _ = outputs("tensorflow")
    actual, imported_tensorflow = outputs(backend)
    assert not imported_tensorflow
    assert expected.keys() == actual.keys()
    for name, value in expected.items():
        assert np.abs(value).max() > 0.01, f"{name} says nothing"
        error = reference.relative_norm(1.0 * actual[name] - value, 1.0 * value)
        assert error <= 1e-5, f"{name}: {error}"
