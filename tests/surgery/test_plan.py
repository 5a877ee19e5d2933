"""The plan of a conversion: what is listed, chosen and counted."""

import keras
import pytest
from keras import layers

import keras_spd
from keras_spd.surgery import plan, to_spd


@pytest.fixture
def model():
    """Two strided convolutions, one of them in a nested model, and poolings."""
    inner = keras.Sequential(
        [keras.Input((16, 16, 4)), layers.Conv2D(8, 3, 2, padding="same", name="conv")],
        name="encoder",
    )
    inputs = keras.Input((32, 32, 3))
    x = layers.Conv2D(4, 3, 2, padding="same", name="stem")(inputs)
    x = layers.MaxPooling2D(2, name="pool")(inner(x))
    x = layers.GlobalAveragePooling2D(name="average")(x)
    return keras.Model(inputs, layers.Dense(2)(x), name="small")


def test_layers_in_the_order_of_the_network(model):
    found = plan(model)
    assert [layer.path for layer in found.layers] == ["stem", "encoder/conv", "pool", "average"]
    assert [layer.path for layer in found.converted] == ["stem", "encoder/conv"]
    assert [layer.note for layer in found.kept][1] == "global, no window"


def test_numbers_are_those_of_the_conversion(model):
    found, converted = plan(model), to_spd(model)
    assert found.parameters == (model.count_params(), converted.count_params())
    stem = found.layers[0]
    assert stem.parameters[0] == 3 * 3 * 3 * 4 + 4
    assert stem.multiply_adds[0] == 16 * 16 * 3 * 3 * 3 * 4  # one kernel for each output


@pytest.mark.parametrize(
    ("options", "converted"),
    [
        ({"layers": "stem"}, ["stem"]),
        ({"layers": ["encoder"]}, ["encoder/conv"]),
        ({"layers": ["encoder/conv"]}, ["encoder/conv"]),
        ({"layers": lambda layer: layer.name == "conv"}, ["encoder/conv"]),
        ({"first_n": 1}, ["stem"]),
        ({"first_n": 0}, []),
    ],
)
def test_which_layers_are_chosen(model, options, converted):
    found = plan(model, **options)
    assert [layer.path for layer in found.converted] == converted
    notes = {layer.path: layer.note for layer in found.kept}
    for path in {"stem", "encoder/conv"} - set(converted):
        assert notes[path] in ("not among `layers`", f"`first_n={options.get('first_n')}`")


def test_the_table(model):
    lines = str(plan(model, layers="stem")).splitlines()
    assert lines[0].split() == ["layer", "is", "becomes", "parameters", "multiply-adds", "note"]
    assert lines[2].startswith("encoder/conv  Conv2D")
    assert "kept" in lines[2] and lines[2].endswith("not among `layers`")
    assert lines[-1].startswith("small: 1 layer is converted, 3 kept; ")


def test_unknown_sizes_have_no_costs():
    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, layers.Conv2D(4, 3, 2, name="stem")(inputs), name="any")
    found = plan(model)
    assert found.layers[0].multiply_adds is None
    assert "?: depends on the size of the image; pass `input_shape`." in str(found)
    assert plan(model, input_shape=(32, 32, 3)).layers[0].multiply_adds is not None


def test_a_slice_that_skips_pixels_is_listed():
    inputs = keras.Input((8, 8, 3))
    found = plan(keras.Model(inputs, inputs[:, ::2, ::2]))
    [kept] = found.kept
    assert kept.note == "a slice with steps [2], which skips pixels"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": "steam"}, r"names \['steam'\], which are not strided layers of `small`"),
        ({"first_n": True}, "`first_n` must be an integer >= 0. Received: first_n=True"),
        ({"first_n": -1}, "`first_n` must be an integer >= 0. Received: first_n=-1"),
        ({"layers": "pool"}, "`pool` cannot be converted"),
        ({"layers": iter(["pool"])}, "`pool` cannot be converted"),
    ],
)
def test_bad_choices(model, options, message):
    with pytest.raises(ValueError, match=message):
        plan(model, **options)


def test_pooling_by_an_operation_is_listed():
    inputs = keras.Input((8, 8, 3))
    [kept] = plan(keras.Model(inputs, keras.ops.max_pool(inputs, 2))).kept
    assert kept.note.startswith("an operation of `keras.ops`")


def test_a_function_gets_the_layers_of_the_model_itself():
    """Also if they are planned for another size of the image."""
    inputs = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(4, 3, 2, name="one")(inputs)
    model = keras.Model(inputs, keras.layers.Conv2D(4, 3, 2, name="two")(x))
    chosen = model.get_layer("two")
    found = keras_spd.surgery.plan(
        model, layers=lambda layer: layer is chosen, input_shape=(32, 32, 3)
    )
    assert [layer.path for layer in found.converted] == ["two"]
    with pytest.raises(ValueError, match=r"must be \(height, width, channels\). Received: .*=32"):
        keras_spd.to_spd(model, input_shape=32)
