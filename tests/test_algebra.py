"""The phase order of the authors against ours."""

import numpy as np
import pytest

from keras_spd.algebra import columns_to_rows


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
