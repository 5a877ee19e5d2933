"""Measures the accuracy of a shipped CIFAR-10 classifier as exported files and with fewer bits.

    python benchmarks/shipped_classifier.py files --data-dir DIR
    python benchmarks/shipped_classifier.py bits --preset RUN/model.keras --data-dir DIR

`files` exports it to TFLite in all formats, calibrated on 300 training images, and scores each file
on the test images. `bits` packs the weights of a run with 8 to 5 bits, and scores the unpacked
ones; shipped weights are packed already.
Both print the rows of a table.
"""

import argparse
import json
import pathlib
import tempfile

import keras_spd
from keras_spd import data
from keras_spd.applications import preprocess_input
from keras_spd.export import export_tflite, run_tflite
from keras_spd.weights.packing import pack, unpack

import keras
import numpy as np

BATCH = 100
FORMATS = {"float32": None, "float16": "float16", "dynamic range": "dynamic"}
FORMATS |= {"int8": "int8", "int16x8": "int16x8"}
REFERENCE_KERNELS = 1_000  # images for int16x8, which LiteRT computes without fast kernels


def run_files(arguments):
    model, images, labels = load(arguments)
    calibration, _ = read(arguments, "train[:300]")
    classes = predict(model, images)
    rows = [row("Keras", None, classes, classes, labels)]
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.formats:
            kind = FORMATS[name]
            calibrated = kind in ("int8", "int16x8")
            file = export_tflite(
                model,
                pathlib.Path(folder, "model.tflite"),
                quantization=kind,
                representative_data=calibration if calibrated else None,
                batch_size=1 if calibrated else BATCH,  # outliers are found among single images
            )
            given = images[:REFERENCE_KERNELS] if kind == "int16x8" else images
            found = run_tflite(file, given).argmax(-1)
            rows.append(row(name, file.stat().st_size, found, classes, labels))
    return rows


def run_bits(arguments):
    model, images, labels = load(arguments)
    arrays = {variable.path: keras.ops.convert_to_numpy(variable) for variable in model.variables}
    classes, rows = predict(model, images), []
    for bits in arguments.bits:
        content = pack(arrays, bits)
        packed = unpack(content)
        for variable in model.variables:
            variable.assign(packed[variable.path])
        rows.append(row(f"{bits} bits", len(content), predict(model, images), classes, labels))
    return rows


def load(arguments):
    model = keras_spd.predict.load_model(arguments.preset)
    return model, *read(arguments, arguments.test)


def read(arguments, split):
    """Returns pixels 0..255 and labels."""
    source = data.from_tfds("cifar10", split, data_dir=arguments.data_dir)
    images, labels = zip(*source.batches(500), strict=True)
    return np.concatenate(images).astype("float32"), np.concatenate(labels).ravel()


def predict(model, images):
    parts = [
        model.predict_on_batch(preprocess_input(images[i : i + BATCH], model.info.statistics))
        for i in range(0, len(images), BATCH)
    ]
    return np.concatenate(parts).argmax(-1)


def row(name, size, found, classes, labels):
    count = len(found)
    result = {
        "name": name,
        "bytes": size,
        "images": count,
        "accuracy": float(np.mean(found == labels[:count])),
        "accuracy_of_keras": float(np.mean(classes[:count] == labels[:count])),
        "same_class": float(np.mean(found == classes[:count])),
    }
    shown = "-" if size is None else f"{size / 1e6:.1f} MB"
    print(
        f"| {name} | {shown} | {count:,} | {100 * result['accuracy']:.2f} % | "
        f"{100 * result['same_class']:.2f} % |",
        flush=True,
    )
    return result


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("measure", choices=("files", "bits"))
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--preset", default="cifar10")
    parser.add_argument("--test", default="test", help="split, such as test[:1000]")
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=list(FORMATS))
    parser.add_argument("--bits", nargs="+", type=int, default=[8, 7, 6, 5])
    parser.add_argument("--out", type=pathlib.Path, help="JSON file")
    arguments = parser.parse_args()
    rows = {"files": run_files, "bits": run_bits}[arguments.measure](arguments)
    if arguments.out:
        arguments.out.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
