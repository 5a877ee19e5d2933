"""A detector on a device with only LiteRT, NumPy and Pillow: no TensorFlow, Keras or keras_spd.

    python examples/edge_device.py                          # exports the packaged detector first
    python examples/edge_device.py board.tflite photo.jpg   # your own, of `keras-spd export`

`detect` and `letterbox` are all that a device needs. Class names, image size and thresholds are in
the .tflite file, which is a ZIP archive too. A YOLO file that others exported (Ultralytics')
returns raw predictions instead, which `detect_raw` decodes.

It printed:

    found 22 objects: {'Platelets': 6, 'RBC': 14, 'WBC': 2}
      RBC 0.89 at [133, 362, 213, 444]
      RBC 0.88 at [24, 27, 96, 97]
      RBC 0.88 at [471, 17, 555, 95]
    without TensorFlow and Keras
"""

import argparse
import json
import pathlib
import subprocess
import sys
import zipfile

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image


def letterbox(image, size):
    """Puts an image into the middle of a gray one, as large as it fits."""
    height, width = size
    scale = min(height / image.height, width / image.width)
    sides = round(image.width * scale), round(image.height * scale)
    left, top = (width - sides[0]) // 2, (height - sides[1]) // 2
    canvas = Image.new("RGB", (width, height), (114, 114, 114))
    canvas.paste(image.convert("RGB").resize(sides, Image.Resampling.BILINEAR), (left, top))
    return np.asarray(canvas), scale, (left, top)


def detect(model, image):
    """Returns class names, confidences and xyxy boxes in pixels of the image."""
    interpreter = Interpreter(str(model), num_threads=2)
    try:
        with zipfile.ZipFile(model) as archive:
            record = json.loads(archive.read("keras_spd.json"))
            names = archive.read("labels.txt").decode().splitlines()
    except (zipfile.BadZipFile, KeyError):  # not exported by keras_spd
        return detect_raw(interpreter, image)
    run = interpreter.get_signature_runner()
    ((argument, details),) = run.get_input_details().items()
    pixels, scale, corner = letterbox(image, record["image_size"])
    found = run(**{argument: pixels[None].astype(details["dtype"])})
    count = int(found["num_detections"][0])
    boxes = (found["boxes"][0, :count] - np.tile(corner, 2)) / scale
    classes = found["classes"][0, :count].astype(int)
    return [names[label] for label in classes], found["confidence"][0, :count], boxes


def detect_raw(interpreter, image, confidence=0.25, iou=0.45):
    """Does the same with a file of YOLOv5 (1, predictions, 5 + classes) or YOLOv8 and later
    (1, 4 + classes, predictions)."""
    interpreter.allocate_tensors()
    taken, outputs = interpreter.get_input_details()[0], interpreter.get_output_details()
    height, width = taken["shape"][1:3]
    pixels, size, corner = letterbox(image, (height, width))
    values, (scale, zero) = pixels[None] / 255, taken["quantization"]
    if scale:
        values = np.round(values / scale + zero)
    interpreter.set_tensor(taken["index"], values.astype(taken["dtype"]))
    interpreter.invoke()
    rows, (scale, zero) = interpreter.get_tensor(outputs[0]["index"])[0], outputs[0]["quantization"]
    if scale:
        rows = (rows.astype("float32") - zero) * scale
    cells = sum((height // stride) * (width // stride) for stride in (8, 16, 32))
    if len(outputs) == 1 and rows.ndim == 2 and rows.shape[0] == 3 * cells:
        scores = rows[:, 5:] * rows[:, 4:5]
    elif len(outputs) == 1 and rows.ndim == 2 and rows.shape[1] == cells:
        rows = rows.T
        scores = rows[:, 4:]
    else:
        shapes = [tuple(output["shape"].tolist()) for output in outputs]
        raise SystemExit(f"neither a file of keras_spd nor of YOLO: its outputs are {shapes}")
    if rows[:, :2].max() <= 2:  # fractions of the image
        rows = rows * np.array([width, height] * 2 + [1] * (rows.shape[1] - 4))
    labels, best = scores.argmax(1), scores.max(1)
    boxes = np.concatenate([rows[:, :2] - rows[:, 2:4] / 2, rows[:, :2] + rows[:, 2:4] / 2], 1)
    left, kept = np.argsort(-best), []
    left = left[best[left] > confidence]
    while left.size:
        first, left = left[0], left[1:]
        kept.append(first)
        sides = np.minimum(boxes[first, 2:], boxes[left, 2:])
        sides = np.maximum(sides - np.maximum(boxes[first, :2], boxes[left, :2]), 0)
        both, areas = sides.prod(1), (boxes[:, 2:] - boxes[:, :2]).prod(1)
        overlap = both / (areas[first] + areas[left] - both)
        left = left[(overlap <= iou) | (labels[left] != labels[first])]
    return (
        [f"class {labels[i]}" for i in kept],
        best[kept],
        (boxes[kept] - np.tile(corner, 2)) / size,
    )


def prepare(folder):
    """On the computer where keras_spd is installed: a .tflite file and an image."""
    folder.mkdir(parents=True, exist_ok=True)
    model, image = folder / "bccd.tflite", folder / "slide.png"
    export = [sys.executable, "-m", "keras_spd", "export", "bccd", str(model)]
    subprocess.run(export, check=True, stdout=subprocess.DEVNULL)
    detect = [sys.executable, str(pathlib.Path(__file__).with_name("detect.py"))]
    subprocess.run([*detect, "--output", str(folder)], check=True, stdout=subprocess.DEVNULL)
    return model, image


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", type=pathlib.Path, help=".tflite file of a detector")
    parser.add_argument("image", nargs="?", type=pathlib.Path)
    parser.add_argument("--smoke", action="store_true", help="for tests; it is short as it is")
    arguments = parser.parse_args()
    model, image = arguments.model, arguments.image
    if model is None or image is None:
        model, image = prepare(pathlib.Path("edge_device"))

    names, confidence, boxes = detect(model, Image.open(image))
    print(f"found {len(names)} objects:", {name: names.count(name) for name in sorted(set(names))})
    for name, score, box in list(zip(names, confidence, boxes, strict=True))[:3]:
        print(f"  {name} {score:.2f} at {box.round().astype(int).tolist()}")
    if {"tensorflow", "keras", "keras_spd"} & set(sys.modules):
        raise SystemExit("a device would have needed more than LiteRT, NumPy and Pillow")
    print("without TensorFlow and Keras")


if __name__ == "__main__":
    main()
