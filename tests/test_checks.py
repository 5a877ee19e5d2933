import numpy as np
import pytest

from keras_spd import checks


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3), np.array(3)])
def test_integers_become_ints(value):
    found = checks.check_integer("top", value)
    assert type(found) is int and found == 3


@pytest.mark.parametrize(
    "value", [True, np.True_, 3.0, np.float32(3), "3", None, [3], np.array([3]), np.nan, 1]
)
def test_other_values_are_refused(value):
    with pytest.raises(ValueError, match=r"`scale` must be an integer >= 2. Received: scale="):
        checks.check_integer("scale", value, smallest=2)


def test_choices():
    checks.check_choice("stride", None, (None, 1, 2))
    with pytest.raises(ValueError, match="`stride` must be one of None, 1, 2. Received: stride=3"):
        checks.check_choice("stride", 3, (None, 1, 2))
