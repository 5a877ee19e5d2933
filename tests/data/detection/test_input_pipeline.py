"""The same batches from any number of threads, images read once, bounded memory."""

import threading

import keras
import numpy as np
import pytest
from PIL import Image

from keras_spd.data import BoxedImage, DetectionAugmentation, DetectionBatches, DetectionData
from keras_spd.data.detection import batches as batches_module
from keras_spd.data.detection.augmentation import place
from keras_spd.data.detection.image_cache import ImageCache
from keras_spd.data.detection.tf_stream import _Calls
from keras_spd.images.read import ImageError

SIZE = (64, 64)
AUGMENTATION = DetectionAugmentation(mosaic=0.8, mixup=0.3, scale=0.5, hue=0.1, vertical_flip=0.5)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder, rng, images = tmp_path_factory.mktemp("images"), np.random.default_rng(0), []
    for number in range(24):
        path = folder / f"{number}.png"
        Image.fromarray(rng.integers(0, 256, (48, 64, 3), "uint8")).save(path)
        boxes = np.array([[4, 4, 40, 40]], "float32")
        images.append(
            BoxedImage(
                number, path.name, path, (48, 64), boxes, np.zeros(1, int), np.zeros(1, bool)
            )
        )
    return DetectionData(tuple(images), ("thing",), (1,))


def test_batches_do_not_depend_on_workers_or_order(data, monkeypatch):
    monkeypatch.setattr(batches_module, "WINDOW", 8)
    options = {"shuffle": True, "augmentation": AUGMENTATION, "seed": 3}
    one, four = (DetectionBatches(data, 5, SIZE, workers=n, **options) for n in (1, 4))
    assert len(one) == 4
    expected = {(epoch, batch): one.load(epoch, batch) for epoch in (2, 3) for batch in range(4)}
    for key in reversed(expected):  # a resumed run starts anywhere
        for left, right in zip(expected[key], four.load(*key), strict=True):
            np.testing.assert_array_equal(left, right)


def test_images_are_read_once_per_epoch_in_bounded_memory(data, monkeypatch):
    reads, image_bytes = [], 48 * 64 * 3
    monkeypatch.setattr(batches_module, "WINDOW", 6)
    monkeypatch.setattr(batches_module, "_CACHE_BYTES", 9 * image_bytes)
    read = BoxedImage.read
    monkeypatch.setattr(
        BoxedImage, "read", lambda image: reads.append(image.image_id) or read(image)
    )
    mosaic = DetectionAugmentation(mosaic=1.0)
    made = DetectionBatches(data, 2, SIZE, shuffle=True, augmentation=mosaic, workers=2)
    for batch in range(len(made)):
        made.load(0, batch)
        assert made._pixels.bytes <= 9 * image_bytes
    assert len(reads) <= len(set(reads)) + 2, "a mosaic has four images, each is read once"


def test_partners_come_from_the_whole_dataset_without_shuffle(data, monkeypatch):
    monkeypatch.setattr(batches_module, "WINDOW", 4)
    mosaic = DetectionAugmentation(mosaic=1.0)
    made = DetectionBatches(data, 2, SIZE, augmentation=mosaic, workers=1)
    for batch in range(3):
        made.load(0, batch)
    read = {image.image_id for image in made._pixels._images}
    assert len(read) > 12 and max(read) > 18


@pytest.mark.parametrize("workers", [1, 2])
def test_the_error_of_a_broken_image_names_the_file(workers, data, tmp_path):
    broken = tmp_path / "half.jpg"
    broken.write_bytes(b"\xff\xd8\xff not an image")
    bad = BoxedImage(
        99,
        str(broken),
        broken,
        (48, 64),
        np.zeros((0, 4), "float32"),
        np.zeros(0, int),
        np.zeros(0, bool),
    )
    made = DetectionData((*data.images[:3], bad), ("thing",), (1,))
    with pytest.raises(ImageError, match=r"half\.jpg"):
        DetectionBatches(made, 4, SIZE, workers=workers).load(0, 0)
    with pytest.raises(Exception, match=r"half\.jpg"):
        list(made.batches(4, SIZE, workers=workers))


def test_pixels_stay_uint8_until_the_model(data):
    batches = data.batches(4, SIZE)
    images, _ = next(iter(batches)) if hasattr(batches, "element_spec") else batches[0]
    assert keras.backend.standardize_dtype(images.dtype) == "uint8"
    scaled = DetectionBatches(data, 4, SIZE, preprocess=lambda pixels: pixels / 255)
    assert scaled.load(0, 0)[0].dtype == "float32"


def test_bad_workers(data):
    with pytest.raises(ValueError, match="`workers` must be an integer >= 1. Received: workers="):
        data.batches(1, SIZE, workers=0)


class Picture:
    """Counts how often it is read."""

    def __init__(self, read=lambda: np.zeros(10, "uint8"), size_hw=(1, 1)):
        self.reads, self._read, self.size_hw = 0, read, size_hw

    def read(self):
        self.reads += 1
        return self._read()


def in_threads(function, arguments):
    threads = [threading.Thread(target=function, args=(one,)) for one in arguments]
    for thread in threads:
        thread.start()
    return threads


def test_cache_reads_an_image_once_for_several_threads():
    gate, found = threading.Event(), []
    picture = Picture(lambda: gate.wait(5) and np.zeros(4, "uint8"))
    cache = ImageCache(100)
    threads = in_threads(lambda one: found.append(cache(one)), [picture] * 4)
    gate.set()
    for thread in threads:
        thread.join()
    assert picture.reads == 1 and len(found) == 4 and cache.bytes == 4


def test_cache_drops_the_image_that_was_not_used_for_the_longest_time():
    cache, (first, second, third) = ImageCache(20), (Picture(), Picture(), Picture())
    for picture in (first, second, first, third, first, second):
        cache(picture)
    assert [first.reads, second.reads, third.reads] == [1, 2, 1] and cache.bytes == 20


def test_cache_does_not_keep_files_open(tmp_path):
    """A mapped image holds an open file, of which a process may only have about a thousand."""
    (tmp_path / "pixels").write_bytes(bytes(4))
    picture = Picture(lambda: np.memmap(tmp_path / "pixels", "uint8", "r"))
    cache = ImageCache(100)
    assert cache(picture).tolist() == cache(picture).tolist() == [0] * 4
    assert picture.reads == 2 and cache.bytes == 0 and not cache._images


def test_large_images_are_read_one_by_one():
    at_once, most, lock = [], [], threading.Lock()

    def read():
        with lock:
            at_once.append(1)
            most.append(len(at_once))
        threading.Event().wait(0.01)
        at_once.pop()
        return np.zeros(1, "uint8")

    cache = ImageCache(100)
    for thread in in_threads(cache, [Picture(read, (12_000, 12_000)) for _ in range(4)]):
        thread.join()
    assert len(most) == 4 and max(most) == 1


def test_cache_does_not_keep_errors():
    def fail():
        raise ImageError("a.jpg: gone")

    cache, picture = ImageCache(100), Picture(fail)
    for _ in range(2):
        with pytest.raises(ImageError, match=r"a\.jpg"):
            cache(picture)
    assert picture.reads == 2 and not cache._images


@pytest.mark.parametrize("scale", [0.09, 0.3, 0.5, 0.77, 1.0, 1.9])
def test_place_maps_boxes_as_it_draws_and_skips_no_pixel(scale):
    """The mean of fine stripes is kept, and the edges of a square are those of its box."""
    pixels = np.zeros((300, 300, 3), "uint8")
    pixels[::2] = 255
    canvas = np.zeros((200, 200, 3), "uint8")
    place(canvas, pixels, [], scale, np.array([-3.3, 5.6]))
    inside = canvas[10 : 5 + int(290 * scale), 4 : int(250 * scale)]
    assert abs(inside.mean() - 127.5) < 20
    pixels[:] = 0
    pixels[50:200, 40:160] = 255
    canvas[:] = 0
    [box] = place(canvas, pixels, [[40, 50, 160, 200]], scale, np.array([-3.3, 5.6]))
    white = canvas[..., 0] > 127
    found = [
        side for line in (white.any(0), white.any(1)) for side in np.flatnonzero(line)[[0, -1]]
    ]
    expected = np.clip(box[[0, 2, 1, 3]], 0, 200) - [0, 1, 0, 1]
    np.testing.assert_allclose(found, expected, atol=1.01)
    ideal = np.array([40, 50, 160, 200]) * scale + np.array([-3.3, 5.6] * 2)
    np.testing.assert_allclose(box, ideal, atol=1.5)


def test_calls_from_tensorflow_are_over_when_the_program_ends():
    calls, started, gate, done = _Calls(), threading.Event(), threading.Event(), []

    def work():
        started.set()
        gate.wait(5)
        done.append(1)

    [thread] = in_threads(calls, [work])
    started.wait(5)
    threading.Timer(0.05, gate.set).start()
    calls.end()
    assert done == [1]
    with pytest.raises(RuntimeError, match="is shutting down"):
        calls(work)
    thread.join()
