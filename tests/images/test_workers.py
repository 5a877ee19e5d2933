"""Reading ahead in threads: the order is kept, memory is bounded, errors are in their place."""

import threading
import time

import pytest

from keras_spd.images.workers import default_workers, map_ahead


def test_order_is_kept_and_memory_bounded():
    lock, taken, most = threading.Lock(), [], 0

    def items():
        for number in range(40):
            taken.append(number)
            yield number

    def slow(number):
        time.sleep(0.002 * (number % 3))
        return number

    for count, result in enumerate(map_ahead(slow, items(), workers=3)):
        assert result == count
        with lock:
            most = max(most, len(taken) - count)
    assert count == 39 and 3 < most <= 6


def test_errors_come_after_the_results_before_them():
    def items():
        yield from (1, 2)
        raise OSError("the camera is gone")

    results = map_ahead(lambda number: number, items(), workers=2)
    assert [next(results), next(results)] == [1, 2]
    with pytest.raises(OSError, match="camera"):
        next(results)
    results = map_ahead(lambda number: 6 // number, [1, 0, 3], workers=2)
    assert next(results) == 6
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_stopping_early_ends_the_threads():
    before = threading.active_count()
    results = map_ahead(str, range(100), workers=2)
    assert next(results) == "0"
    results.close()
    assert threading.active_count() == before


def test_number_of_workers():
    assert 1 <= default_workers() <= 16
    with pytest.raises(ValueError, match="Received: workers=0"):
        list(map_ahead(str, [1], workers=0))
