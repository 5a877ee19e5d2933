"""Videos: frames that are written are read back upright, with their times, in constant memory."""

import json
import struct
import weakref

import numpy as np
import pytest
from bright import BrightBox

import keras_spd
from keras_spd.images import VideoWriter, read_video, read_webcam, video
from keras_spd.predict import predict_files

av = pytest.importorskip("av")

TIMES = [0, 0.1, 0.15, 0.4, 1.0]


def write_video(path, size=(48, 64)):
    """A white square of 12 pixels that moves right by 4 per frame, on black."""
    with VideoWriter(path) as writer:
        for index, time in enumerate(TIMES):
            pixels = np.zeros((*size, 3), "uint8")
            pixels[20:32, 4 * index : 4 * index + 12] = 255
            writer.write(pixels, time)
    return path


def test_written_and_read_again(tmp_path):
    frames = list(read_video(write_video(tmp_path / "square.mp4")))
    assert [frame.index for frame in frames] == [0, 1, 2, 3, 4]
    assert [frame.time for frame in frames] == pytest.approx(TIMES, abs=1e-4)
    for index, frame in enumerate(frames):
        assert frame.pixels.shape == (48, 64, 3) and frame.pixels.dtype == np.uint8
        rows, columns = np.nonzero(frame.pixels[..., 1] > 128)
        assert abs(columns.min() - 4 * index) <= 1 and abs(rows.min() - 20) <= 1


def test_frames_of_another_size_are_refused(tmp_path):
    with VideoWriter(tmp_path / "odd.mp4") as writer:
        writer.write(np.zeros((48, 64, 3), "uint8"), 0.0)
        with pytest.raises(ValueError, match="same size. Received: 48x80 after 48x64"):
            writer.write(np.zeros((48, 80, 3), "uint8"), 0.1)


def test_odd_sides_get_an_even_video(tmp_path):
    write_video(tmp_path / "odd.mp4", size=(47, 63))
    assert next(read_video(tmp_path / "odd.mp4")).pixels.shape == (48, 64, 3)


def test_turned_as_a_phone_says(tmp_path):
    """Phones store the rotation as a matrix in the track's header."""
    content = write_video(tmp_path / "square.mp4").read_bytes()
    one, last = 0x10000, 0x40000000
    straight = struct.pack(">9i", one, 0, 0, 0, one, 0, 0, 0, last)
    clockwise = struct.pack(">9i", 0, one, 0, -one, 0, 0, 0, 0, last)
    place = content.index(straight, content.index(b"tkhd"))
    turned = content[:place] + clockwise + content[place + len(clockwise) :]
    (tmp_path / "turned.mp4").write_bytes(turned)
    [straight_frame, turned_frame] = (
        next(read_video(tmp_path / name)).pixels for name in ("square.mp4", "turned.mp4")
    )
    np.testing.assert_array_equal(turned_frame, np.rot90(straight_frame, -1))


def test_files_that_are_not_videos(tmp_path):
    (tmp_path / "text.mp4").write_text("words " * 100)
    content = write_video(tmp_path / "square.mp4").read_bytes()
    (tmp_path / "half.mp4").write_bytes(content[: len(content) // 2])
    for name in ("text.mp4", "half.mp4", "missing.mp4"):
        reason = "(cannot be opened as a video|the file contains no video)"
        with pytest.raises(video.VideoError, match=f"{name}: {reason}"):
            next(read_video(tmp_path / name))
    with pytest.raises(video.VideoError, match="webcam 63: cannot be opened"):
        next(read_webcam(63))


def test_webcam(monkeypatch):
    """FFmpeg's virtual camera, which shows a test picture."""
    monkeypatch.setitem(
        video._CAMERAS, video.sys.platform, ("lavfi", "testsrc=size=64x48:rate=10:duration=1")
    )
    frames = list(read_webcam(0))
    assert len(frames) == 10 and frames[3].time == pytest.approx(0.3)
    assert frames[0].pixels.shape == (48, 64, 3) and frames[0].pixels.std() > 50


def test_predicted_frame_by_frame(tmp_path):
    write_video(tmp_path / "square.mp4")
    predictor = keras_spd.Predictor(BrightBox(), (64, 64), batch_size=2)
    assert predict_files(predictor, [tmp_path / "square.mp4"], tmp_path / "out") == 0
    entries = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert [entry["frame"] for entry in entries] == [0, 1, 2, 3, 4]
    assert [entry["time"] for entry in entries] == pytest.approx(TIMES, abs=1e-3)
    for index, entry in enumerate(entries):
        [found] = entry["detections"]
        expected = [4 * index, 20, 4 * index + 12, 32]
        assert found["box"] == pytest.approx(expected, abs=1.5)
    lines = (tmp_path / "out" / "detections.csv").read_text().splitlines()
    assert lines[0] == "file,frame,time,x1,y1,x2,y2,confidence,class,name"
    assert lines[4].startswith(f"{tmp_path / 'square.mp4'},3,0.4,") and lines[4].endswith("bright")

    frames = list(read_video(tmp_path / "out" / entries[0]["picture"]))
    assert [frame.time for frame in frames] == pytest.approx(TIMES, abs=1e-4)
    corner = frames[2].pixels[32, 8:20].astype(int)  # the box's lower side, below the square
    assert (corner.max(axis=-1) - corner.min(axis=-1)).mean() > 40  # is coloured


def test_memory_does_not_grow_with_the_video(tmp_path, monkeypatch):
    alive, most = 0, 0

    def frames(path):
        nonlocal alive, most
        for index in range(30):
            frame = video.Frame(index, index / 10, np.zeros((32, 32, 3), "uint8"))
            alive += 1
            weakref.finalize(frame, lost)
            most = max(most, alive)
            yield frame
            del frame

    def lost():
        nonlocal alive
        alive -= 1

    monkeypatch.setattr(video, "read_video", frames)
    predictor = keras_spd.Predictor(BrightBox(), 32, batch_size=4)
    assert predict_files(predictor, [tmp_path / "long.mp4"], tmp_path / "out") == 0
    assert 4 <= most <= 2 * 4


def test_a_video_that_breaks_off_keeps_its_frames(tmp_path, monkeypatch, caplog):
    def frames(path):
        for index in range(5):
            yield video.Frame(index, index / 10, np.zeros((32, 32, 3), "uint8"))
        raise video.VideoError(f"{path}: broken after frame 4.")

    monkeypatch.setattr(video, "read_video", frames)
    predictor = keras_spd.Predictor(BrightBox(), 32, batch_size=4)
    assert predict_files(predictor, [tmp_path / "bad.mp4"], tmp_path / "out") == 1
    assert "bad.mp4: broken after frame 4" in caplog.text
    assert len(json.loads((tmp_path / "out" / "detections.json").read_text())) == 5
