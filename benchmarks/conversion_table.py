"""Converts the networks of keras.applications with `to_spd`: the table in docs/conversion.md.

    python benchmarks/conversion_table.py [--float32] [NAME ...]

Weights are random, and batch norm statistics are those of random images. Features
(`include_top=False`) before and after conversion are compared by relative norm, on images of even
and odd sizes. Random networks amplify rounding, some by more than ten million, so everything is
computed in float64. "Noise" is the change of the features if relative noise of 1e-16 (with
`--float32`, 1e-7), as large as a rounding error, is added to the input. "Swapped" is the difference
after swapping two phases of the first converted kernel: what an error in their order looks like.
"""

import gc
import sys

import keras_spd
from keras_spd.layers import SPDConv
from keras_spd.surgery import SPDDepthwiseConv, count_multiply_adds, plan

import keras
import numpy as np

NETWORKS = [
    "VGG16",
    "VGG19",
    "ResNet50",
    "ResNet101",
    "ResNet152",
    "ResNet50V2",
    "ResNet101V2",
    "ResNet152V2",
    "MobileNet",
    "MobileNetV2",
    "MobileNetV3Small",
    "MobileNetV3Large",
    "DenseNet121",
    "DenseNet169",
    "DenseNet201",
    "EfficientNetB0",
    "EfficientNetB1",
    "EfficientNetB2",
    "EfficientNetB3",
    "EfficientNetB4",
    "EfficientNetB5",
    "EfficientNetB6",
    "EfficientNetB7",
    "EfficientNetV2B0",
    "EfficientNetV2B1",
    "EfficientNetV2B2",
    "EfficientNetV2B3",
    "EfficientNetV2S",
    "EfficientNetV2M",
    "EfficientNetV2L",
    "Xception",
    "InceptionV3",
    "InceptionResNetV2",
    "NASNetMobile",
    "NASNetLarge",
    "ConvNeXtTiny",
    "ConvNeXtSmall",
    "ConvNeXtBase",
    "ConvNeXtLarge",
    "ConvNeXtXLarge",
]
SIZES = (96, 128), (97, 107)


def shake(model, images, random):
    """Gives batch norms the statistics of a trained network, different in every channel.

    With the statistics they are built with, signals fade from layer to layer, features hardly
    depend on the image, and every conversion looks right.
    """
    norms = [
        layer
        for layer in model._flatten_layers()
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    for layer in norms:
        if layer.gamma is not None:
            layer.gamma.assign(random.uniform(0.5, 1.5, layer.gamma.shape))
        layer.beta.assign(random.normal(0, 0.2, layer.beta.shape))
        layer.momentum = 0.0
    model(images, training=True)


def relative(expected, received):
    expected, received = np.array(expected), np.array(received)
    return float(np.linalg.norm(received - expected) / np.linalg.norm(expected))


def swap_phases(model):
    """Swaps two phases in the first SPD-Conv; returns whether there is one."""
    for layer in model._flatten_layers():
        if isinstance(layer, (SPDConv, SPDDepthwiseConv)):
            kernel = keras.ops.convert_to_numpy(layer.conv.kernel).copy()
            channels = kernel.shape[2] // layer.space_to_depth.scale**2
            kernel[:, :, : 2 * channels] = np.roll(kernel[:, :, : 2 * channels], channels, axis=2)
            layer.conv.kernel.assign(kernel)
            return True
    return False


def build(name, sides):
    constructor = getattr(keras.applications, name)
    return constructor(weights=None, include_top=False, input_shape=(*sides, 3))


def main(names):
    dtype, rounding = ("float32", 1e-7) if "--float32" in names else ("float64", 1e-16)
    names = [name for name in names if name != "--float32"]
    if unknown := [name for name in names if not hasattr(keras.applications, name)]:
        raise SystemExit(f"keras.applications has no {', '.join(unknown)}. Choose from {NETWORKS}.")
    keras.config.set_dtype_policy(dtype)
    keras.config.set_floatx(dtype)
    print(
        "| network | converted | kept | parameters | multiply-adds at 224x224 "
        "| difference (noise), even sizes | odd sizes | swapped |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    random = np.random.default_rng(0)
    for name in names or NETWORKS:
        # NASNet itself fails on these images if it is built for unknown sizes.
        sides = SIZES if name.startswith("NASNet") else [(None, None)] * 2
        models = [build(name, side) for side in dict.fromkeys(sides)]
        images = [random.uniform(-1, 1, (2, *size, 3)).astype(dtype) for size in SIZES]
        if any(isinstance(layer, keras.layers.Rescaling) for layer in models[0].layers):
            images = [127.5 * image + 127.5 for image in images]  # they rescale pixels themselves
        shake(models[0], images[0], random)
        models[-1].set_weights(models[0].get_weights())
        differences = []
        for model, image in zip([models[0], models[-1]], images, strict=True):
            features = model(image, training=False)
            converted = keras_spd.to_spd(model, pooling="exact")
            noise = (1 + rounding * random.standard_normal(image.shape)).astype(dtype)
            noisy = relative(features, model(image * noise, training=False))
            difference = relative(features, converted(image, training=False))
            differences.append(f"{difference:.0e} ({noisy:.0e})")
        swapped = "no kernel"
        if swap_phases(converted):
            swapped = f"{relative(features, converted(image, training=False)):.2g}"
        del converted
        what = plan(models[0], pooling="exact")
        resized = build(name, (224, 224))
        layers = plan(resized, pooling="exact").layers
        try:
            before = count_multiply_adds(resized)
            after = before + sum(
                layer.multiply_adds[1] - layer.multiply_adds[0] for layer in layers
            )
            cost = f"{before / 1e9:.2f} G → {after / 1e9:.2f} G"
        except ValueError:  # nested models of unknown size
            cost = "?"
        old, new = what.parameters
        kept = [
            layer for layer in what.kept if layer.note not in ("no stride", "global, no window")
        ]
        print(
            f"| {name} | {len(what.converted)} | {len(kept)} | {old / 1e6:.1f} M → "
            f"{new / 1e6:.1f} M | {cost} | "
            f"{differences[0]} | {differences[1]} | {swapped} |",
            flush=True,
        )
        del models, model, resized
        keras.backend.clear_session()
        gc.collect()


if __name__ == "__main__":
    main(sys.argv[1:])
