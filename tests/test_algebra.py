"""The phase order of the authors against ours, and strided convolutions as SPD-Conv."""

import itertools

import numpy as np
import pytest

from keras_spd.algebra import (
    columns_to_rows,
    repeat_for_phases,
    spd_inputs_to_strided,
    spd_to_strided,
    strided_inputs_to_spd,
    strided_to_spd,
)


@pytest.mark.parametrize("scale", [2, 3])
@pytest.mark.parametrize("axis", [0, 2, -1])
def test_columns_to_rows(scale, axis):
    channels = 3
    columns = [(y, x, c) for x in range(scale) for y in range(scale) for c in range(channels)]
    rows = [(y, x, c) for y in range(scale) for x in range(scale) for c in range(channels)]
    codes = np.array([y * 100 + x * 10 + c for y, x, c in columns])
    expected = np.array([y * 100 + x * 10 + c for y, x, c in rows])
    other = np.arange(5)[:, None, None] * 1000 + np.zeros((5, 4, codes.size), int)
    array = np.moveaxis(other + codes, -1, axis)
    result = columns_to_rows(array, axis=axis, scale=scale)
    np.testing.assert_array_equal(np.moveaxis(result, axis, -1), other + expected)
    np.testing.assert_array_equal(columns_to_rows(result, axis=axis, scale=scale), array)


def test_authors_order_is_by_columns():
    """`torch.cat([x[::2, ::2], x[1::2, ::2], x[::2, 1::2], x[1::2, 1::2]])` of their code."""
    patch = np.array([["00", "01"], ["10", "11"]])
    authors = [patch[0, 0], patch[1, 0], patch[0, 1], patch[1, 1]]
    assert list(columns_to_rows(np.array(authors), axis=0)) == ["00", "01", "10", "11"]


def test_bad_length():
    with pytest.raises(ValueError, match="multiple of scale\\*\\*2 = 4.*shape=\\(6,\\)"):
        columns_to_rows(np.zeros(6), axis=0)


def convolve(x, kernel, stride=1):
    """A convolution as a sum over kernel positions; `padding` zeros on each side, as in PyTorch."""
    (height, width), padding = kernel.shape[:2], (kernel.shape[0] - 1) // 2
    x = np.pad(x, [(padding, padding), (padding, padding), (0, 0)])
    rows, columns = (
        (side - k) // stride + 1 for side, k in zip(x.shape[:2], (height, width), strict=True)
    )
    result = np.zeros((rows, columns, kernel.shape[3]))
    for i, j in itertools.product(range(height), range(width)):
        pixels = x[i : i + stride * rows : stride, j : j + stride * columns : stride]
        result += pixels[:rows, :columns] @ kernel[i, j]
    return result


def space_to_depth(x, scale):
    phases = itertools.product(range(scale), repeat=2)
    return np.concatenate([x[row::scale, column::scale] for row, column in phases], axis=-1)


def test_the_stem_of_yolov5(rng):
    """A 6x6 convolution of stride 2 and padding 2 is a 3x3 SPD-Conv, weight by weight."""
    k6 = rng.normal(size=(6, 6, 3, 5))
    kernel = strided_to_spd(k6, 2)
    for i, j, r, c in itertools.product(range(3), range(3), range(2), range(2)):
        phase = 2 * r + c
        np.testing.assert_array_equal(
            kernel[i, j, 3 * phase : 3 * phase + 3], k6[2 * i + r, 2 * j + c]
        )
    x = rng.normal(size=(8, 12, 3))
    np.testing.assert_allclose(
        convolve(space_to_depth(x, 2), kernel), convolve(x, k6, stride=2), atol=1e-12
    )
    np.testing.assert_array_equal(spd_to_strided(kernel, 2), k6)


@pytest.mark.parametrize("scale", [2, 3])
@pytest.mark.parametrize("extra", [0, 4])
@pytest.mark.parametrize("size", [1, 3])
def test_what_reads_a_strided_convolution_reads_phase_0_0(rng, scale, extra, size):
    """Batch norm and activation may come before the space-to-depth, a lateral after it."""
    x = rng.normal(size=(2 * 6, 6, 3))
    first = rng.normal(size=(3, 3, 3, 5))
    second = rng.normal(size=(size, size, 5 + extra, 7))
    scaled = {stride: np.tanh(2 * convolve(x, first, stride) + 1) for stride in (1, scale)}
    lateral = rng.normal(size=(*scaled[scale].shape[:2], extra))
    expected = convolve(np.concatenate([scaled[scale], lateral], axis=-1), second)
    widened = strided_inputs_to_spd(second, channels=5, scale=scale)
    assert widened.shape == (size, size, 5 * scale**2 + extra, 7)
    stacked = np.concatenate([space_to_depth(scaled[1], scale), lateral], axis=-1)
    np.testing.assert_allclose(convolve(stacked, widened), expected, atol=1e-12)
    np.testing.assert_array_equal(spd_inputs_to_strided(widened, 5, scale), second)


def test_a_kernel_that_reads_skipped_pixels_has_no_strided_twin():
    kernel = strided_inputs_to_spd(np.ones((1, 1, 8, 2), "float32"))
    assert kernel.shape == (1, 1, 32, 2) and kernel.dtype == "float32"
    assert spd_inputs_to_strided(kernel).shape == (1, 1, 8, 2)
    kernel[0, 0, 8, 1] = 1e-9
    with pytest.raises(ValueError, match="reads pixels that a stride skips"):
        spd_inputs_to_strided(kernel)


@pytest.mark.parametrize("function", [strided_inputs_to_spd, spd_inputs_to_strided])
def test_more_channels_than_inputs(function):
    with pytest.raises(ValueError, match=r"inputs. Received: kernel.shape=\(1, 1, 8, 2\)"):
        function(np.ones((1, 1, 8, 2)), channels=9)


@pytest.mark.parametrize("scale", [2, 3])
@pytest.mark.parametrize("size", [1, 3])
def test_a_residual_branch_of_resnet_spd(rng, scale, size):
    """Convolution, space-to-depth, batch norm, ReLU, convolution; strided beside it."""
    x = rng.normal(size=(12, 6, 3))
    first, second = rng.normal(size=(3, 3, 3, 4)), rng.normal(size=(size, size, 4, 5))
    gain, offset, mean = norm = rng.normal(size=(3, 4))
    expected = np.maximum((convolve(x, first, scale) - mean) * gain + offset, 0)
    gain, offset, mean = (repeat_for_phases(values, scale) for values in norm)
    stacked = space_to_depth(convolve(x, first), scale)
    ours = np.maximum((stacked - mean) * gain + offset, 0)
    np.testing.assert_allclose(
        convolve(ours, strided_inputs_to_spd(second, scale=scale)),
        convolve(expected, second),
        atol=1e-12,
    )
