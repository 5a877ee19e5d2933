"""`keras-spd predict` as a user meets it."""

import json
import sys

import pytest
from PIL import Image

from keras_spd.cli import main


def run(monkeypatch, *arguments):
    """Runs the command in this process, and returns its exit code."""
    monkeypatch.setattr(sys, "argv", ["keras-spd", *map(str, arguments)])
    with pytest.raises(SystemExit) as error:
        main()
    return error.value.code or 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Give images, videos or folders to predict, or `--webcam 0`."),
        (["missing.jpg"], "missing.jpg: there is no such file or folder."),
        (["*.jpg"], "There is no image or video that matches *.jpg."),
        (["."], "There is no image or video in the folder ."),
        ([".", "--overlap", "0.3"], "`--overlap` is the overlap of tiles and needs `--tile`."),
        (["--webcam", "0", "--engine", "ray"], "`--engine ray` predicts images, not videos"),
        (["--webcam", "0", "--workers", "2"], "`--address` and `--workers` are for"),
        (["--webcam", "0", "--weights", "none"], "There is no file none"),
    ],
)
def test_errors_are_one_line(monkeypatch, capsys, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    weights = [] if "--weights" in arguments else ["--weights", "bccd"]
    assert run(monkeypatch, "predict", *arguments, *weights) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"keras-spd: {message}") and error.count("\n") == 1


@pytest.mark.slow
def test_folder_with_a_video_and_a_broken_image(keras_spd, tmp_path):
    pytest.importorskip("av")
    from keras_spd.images import VideoWriter

    folder = tmp_path / "in"
    folder.mkdir()
    image = Image.effect_noise((96, 64), 80).convert("RGB")
    image.save(folder / "a.png")
    (folder / "b.png").write_bytes(b"broken")
    with VideoWriter(folder / "c.mp4") as video:
        import numpy as np

        for index in range(3):
            video.write(np.asarray(image), index / 10)
    result = keras_spd("predict", "in", "--weights", "bccd", "--image-size", "64")
    assert result.returncode == 1, result.stderr
    assert "b.png: cannot be read as an image" in result.stderr
    assert "1 of 3 sources could not be read to the end." in result.stderr
    assert "Traceback" not in result.stderr
    entries = json.loads((tmp_path / "predictions" / "detections.json").read_text())
    assert [entry.get("frame") for entry in entries] == [None, 0, 1, 2]
    assert (tmp_path / "predictions" / "00002_c.mp4").stat().st_size > 500
