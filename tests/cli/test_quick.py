"""What the command line and `import keras_spd` import: Keras only if it is needed."""

import subprocess
import sys

import pytest

COMMAND = """
import sys
sys.argv = ["keras-spd", *sys.argv[1:]]
from keras_spd.cli import main
try:
    main()
finally:
    print("loaded", sorted({"keras", "tensorflow", "torch", "jax"} & set(sys.modules)))
"""


def run(code, *arguments):
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("--help", 0),
        ("--version", 0),
        ("list", 0),
        ("train --help", 0),
        ("predict --nonsense", 2),
        ("predict --weights bccd", 1),
        ("predict image.jpg --weights nowhere.keras", 1),
        ("predict image.jpg --weights bccd --image-size big", 1),
        ("predict image.jpg --weights bccd --overlap 0.1", 1),
        ("predict image.jpg --weights bccd --workers 2", 1),
        ("export nowhere.keras", 1),
        ("export bccd --quantize int8", 1),
        ("evaluate data.json --weights nowhere.keras", 1),
        ("evaluate data.json --weights bccd --overlap 0.1", 1),
        ("benchmark nowhere.tflite", 1),
        ("convert nowhere.pt out.keras", 1),
        ("convert weights.pt out.h5", 1),
        ("check-data data.json --image-size big", 1),
        ("check-data data.json --overlap 0.1", 1),
        ("explain image.jpg --weights nowhere.keras", 1),
        ("demo --port 7000", 1),
    ],
)
def test_answers_without_keras(line, code):
    result = run(COMMAND, *line.split())
    assert result.returncode == code, result.stderr
    assert result.stdout.splitlines()[-1] == "loaded []"
    if code:
        assert "Traceback" not in result.stderr
    if code == 1:
        assert len(result.stderr.splitlines()) == 1, result.stderr


def test_list_names_all():
    result = run(COMMAND, "list")
    for name in ("resnet18_spd", "yolov5_spd_n", "short_detection", "bccd", "cifar10"):
        assert name in result.stdout


def test_public_names_are_listed_and_unknown_ones_refused():
    import keras_spd

    assert {"Predictor", "applications", "fold", "training"} <= set(dir(keras_spd))
    for name in dir(keras_spd):
        getattr(keras_spd, name)
    assert callable(keras_spd.fold) and callable(keras_spd.to_spd)
    with pytest.raises(AttributeError, match="no attribute 'Predictors'"):
        keras_spd.Predictors  # noqa: B018
