"""Traverses functional models, and rebuilds them with other layers."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras

from keras_spd import keras_internals
from keras_spd.image_model import ImageModel, find_info
from keras_spd.typing import Shape, Tensor


def check_graph(model: Any, function: str) -> None:
    """Raises a `ValueError` unless `model` is a built functional or Sequential model."""
    if not is_graph(model):
        raise ValueError(
            f"`{function}` takes a functional or Sequential Keras model, whose layers and "
            f"connections are known. Received: model={model!r}. Of a subclassed model, pass the "
            "functional models inside it."
        )
    if not model.built:
        raise ValueError(
            f"`{function}` takes a built model. Add a `keras.Input(shape)` to `{model.name}`, or "
            "call it on an image first."
        )


def is_graph(layer: Any) -> bool:
    """Returns whether a layer is a functional or Sequential model."""
    plain = isinstance(layer, keras.Sequential) and type(layer).call is keras.Sequential.call
    return plain or keras_internals.is_functional(layer)


def operations(model: keras.Model) -> list[Any]:
    """Returns the layers and plain operations of a model, in call order."""
    return model.layers if isinstance(model, keras.Sequential) else model.operations


def graphs(model: keras.Model) -> list[keras.Model]:
    """Returns the model and the functional and Sequential models nested in it, each once."""
    found = {id(model): model}
    for layer in operations(model):
        if is_graph(layer):
            found |= {id(part): part for part in graphs(layer)}
    return list(found.values())


def walk(model: keras.Model) -> Iterator[tuple[str, Any]]:
    """Yields `(path, layer)` for each layer and operation, including those of nested models.

    A layer that is called several times is yielded once. A path joins names: `"encoder/conv1"`.
    """
    yield from _walk(model, "", set())


def _walk(model: keras.Model, prefix: str, seen: set[int]) -> Iterator[tuple[str, Any]]:
    for layer in operations(model):
        if id(layer) in seen or isinstance(layer, keras.layers.InputLayer):
            continue
        seen.add(id(layer))
        if is_graph(layer):
            yield from _walk(layer, f"{prefix}{layer.name}/", seen)
        else:
            yield prefix + layer.name, layer


def input_shapes(layer: Any) -> list[Shape]:
    """Returns the shape of the first input tensor of each call of a layer."""
    return [tuple(node.input_tensors[0].shape) for node in keras_internals.calls(layer)]


def output_shapes(layer: Any) -> list[Shape]:
    """Returns the shape of the first output tensor of each call of a layer."""
    return [tuple(node.outputs[0].shape) for node in keras_internals.calls(layer)]


class Connections:
    """The connections between the layers of a model, without looking into nested models.

    Args:
        model: Functional or Sequential model.
    """

    def __init__(self, model: keras.Model) -> None:
        self._nodes = keras_internals.graph_calls(model)
        self._outputs = {id(tensor) for tensor in model.outputs}

    def calls(self, layer: Any) -> list[Any]:
        """Returns the nodes at which a layer is called."""
        return [node for node in self._nodes if node.operation is layer]

    def producer(self, layer: Any) -> Any:
        """Returns the layer before `layer`, or `None`.

        `None` if `layer` is called several times or has several inputs.
        """
        calls = self.calls(layer)
        if len(calls) != 1 or len(calls[0].input_tensors) != 1:
            return None
        operation, _ = keras_internals.origin(calls[0].input_tensors[0])
        return operation

    def all_consumers(self, layer: Any) -> list[Any]:
        """Returns the layers that take the outputs of `layer`, once for each of their calls."""
        results = {id(tensor) for node in self.calls(layer) for tensor in node.outputs}
        return [
            node.operation
            for node in self._nodes
            if any(id(tensor) in results for tensor in node.input_tensors)
        ]

    def consumers(self, layer: Any) -> list[Any]:
        """Returns the layers after `layer`.

        Empty if `layer` is called several times or is an output of the model, or if one of the
        layers after it is called several times or has several inputs.
        """
        calls = self.calls(layer)
        if len(calls) != 1 or any(id(tensor) in self._outputs for tensor in calls[0].outputs):
            return []
        takers = self.all_consumers(layer)
        return takers if all(self.producer(taker) is layer for taker in takers) else []

    def only_consumer(self, layer: Any) -> Any:
        """Returns the layer after `layer` if there is exactly one, as in `consumers`, or `None`."""
        consumers = self.consumers(layer)
        return consumers[0] if len(consumers) == 1 else None


def rebuild(
    model: keras.Model,
    sequences: Mapping[int, Sequence[keras.layers.Layer]] | None = None,
    inputs: Tensor = None,
) -> keras.Model:
    """Rebuilds a model and replaces some of its layers.

    Args:
        model: Functional or Sequential model; nested models are also rebuilt.
        sequences: `{id(layer): new layers}`, to be called one after another instead of the layer.
            An empty sequence removes the layer.
        inputs: `keras.Input` tensors of another size, in the structure of `model.input`.

    Returns:
        An uncompiled model of new layers with the weights, names and trainable flags of the old
        ones. Layers in `sequences` get the trainable flag but no weights; if the name of one is
        taken, a number is appended.

    Raises:
        ValueError: If the weights of a layer do not fit the new input size.
    """
    sequences = sequences or {}
    for part in graphs(model):
        _make_names_unique(part, sequences)
    rebuilding = _Rebuilding(sequences)
    copy = rebuilding.model(model, inputs)
    rebuilding.copy_state(model, copy)
    info = find_info(model)
    if info is not None and find_info(copy) is None:
        copy.info = info  # an attribute of a plain model; an `ImageModel` has it already
    return copy


def _make_names_unique(
    model: keras.Model, sequences: Mapping[int, Sequence[keras.layers.Layer]]
) -> None:
    """Renames new layers, not yet called, if another layer of the graph has their name."""
    taken = {layer.name for layer in operations(model)}
    for layer in operations(model):
        for new in sequences.get(id(layer), ()):
            if new.name != layer.name:
                new.name = unique_name(new.name, taken)
                taken.add(new.name)


def unique_name(name: str, taken: set[str]) -> str:
    """Returns `name`, with a number appended if it is taken."""
    candidates = itertools.chain([name], (f"{name}_{number}" for number in itertools.count(1)))
    return next(candidate for candidate in candidates if candidate not in taken)


def resize(model: keras.Model, input_shape: Sequence[int | None]) -> keras.Model:
    """Rebuilds a model for inputs of another size, `(height, width, channels)`.

    Raises:
        ValueError: If the model has several inputs, or the size does not fit it.
    """
    if not isinstance(input_shape, Sequence):
        raise ValueError(
            "`input_shape` must be (height, width, channels). "
            f"Received: input_shape={input_shape!r}."
        )
    input_shape = tuple(input_shape)
    if len(model.inputs) > 1:
        raise ValueError(
            f"`input_shape` is for models with one input. `{model.name}` has {len(model.inputs)}."
        )
    [tensor] = model.inputs
    if len(input_shape) != len(tensor.shape) - 1:
        raise ValueError(
            f"`input_shape` must have the rank of the model's, {tuple(tensor.shape[1:])}. "
            f"Received: input_shape={input_shape}."
        )
    inputs = keras.Input(input_shape, dtype=tensor.dtype, name=tensor.name)
    if not isinstance(model, keras.Sequential):
        inputs = keras.tree.map_structure(lambda _: inputs, model.input)
    return rebuild(model, inputs=inputs)


class _Sequence:
    """Layers that are called one after another."""

    def __init__(self, layers: Sequence[keras.layers.Layer]) -> None:
        self.layers = tuple(layers)

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        x = args[0] if args else kwargs["inputs"]  # not: a mask, and whether it is training
        for layer in self.layers:
            x = layer(x)
        return x


class _Rebuilding:
    def __init__(self, sequences: Mapping[int, Sequence[keras.layers.Layer]]) -> None:
        self.copies = {key: _Sequence(layers) for key, layers in sequences.items()}

    def model(self, model: keras.Model, inputs: Tensor = None) -> keras.Model:
        if isinstance(model, keras.Sequential):
            return self._sequential(model, inputs)
        copy = keras.models.clone_model(
            keras.Model(model.input, model.output),  # uncompiled: a custom loss may be missing
            input_tensors=inputs,
            clone_function=self.copy,
            call_function=lambda layer, *args, **kwargs: layer(*args, **kwargs),
        )
        if isinstance(model, ImageModel):
            return ImageModel(
                copy.input,
                copy.output,
                name=model.name,
                info=model.info,
                pyramid_level_inputs={
                    level: self._new_name(model, name)
                    for level, name in model.pyramid_level_inputs.items()
                },
            )
        return keras.Model(copy.input, copy.output, name=model.name)

    def _new_name(self, model: ImageModel, name: str) -> str:
        """Returns the name of the new layer that returns what a layer of the model returned."""
        connections, layer = Connections(model), model.get_layer(name)
        while True:
            new = self.copies.get(id(layer))
            if not isinstance(new, _Sequence):
                return layer.name
            if new.layers:
                return new.layers[-1].name
            layer = connections.producer(layer)  # the layer was removed

    def _sequential(self, model: keras.Sequential, inputs: Tensor) -> keras.Sequential:
        if inputs is None:
            tensor = model.inputs[0]
            inputs = keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=tensor.name)
        layers: list = []
        for layer in map(self.copy, model.layers):
            layers += layer.layers if isinstance(layer, _Sequence) else [layer]
        return keras.Sequential([inputs, *layers], name=model.name)

    def copy(self, layer: Any) -> Any:
        """Returns the new layer, or sequence of layers, that replaces an old layer."""
        if id(layer) not in self.copies:
            self.copies[id(layer)] = (
                self.model(layer) if is_graph(layer) else keras_internals.copy_layer(layer)
            )
        return self.copies[id(layer)]

    def copy_state(self, model: keras.Model, copy: keras.Model) -> None:
        copy.trainable = model.trainable  # also sets its layers, which are set individually below
        for layer in operations(model):
            new = self.copies.get(id(layer))
            if new is None or not isinstance(layer, keras.layers.Layer):
                continue
            if is_graph(layer):
                self.copy_state(layer, new)
            elif isinstance(new, _Sequence):
                for part in new.layers:
                    part.trainable = layer.trainable
            else:
                pairs = zip(*map(keras_internals.nested_layers, (layer, new)), strict=False)
                for old_part, new_part in pairs:  # the layer first, then those inside it
                    new_part.trainable = old_part.trainable
                _copy_weights(layer, new)


def _copy_weights(layer: keras.layers.Layer, new: keras.layers.Layer) -> None:
    old_shapes = [weight.shape for weight in layer.weights]
    new_shapes = [weight.shape for weight in new.weights]
    if old_shapes != new_shapes:
        raise ValueError(
            f"`{layer.name}` has weights of shape {old_shapes}, but this input size needs "
            f"{new_shapes}. Cut the model before this layer, e.g. with `include_top=False`."
        )
    new.set_weights(layer.get_weights())
    keras_internals.finalize_state(new)
