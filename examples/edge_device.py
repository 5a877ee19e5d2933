"""Runs a detector on a device with LiteRT, NumPy and Pillow, without TensorFlow and keras_spd.

    python examples/edge_device.py                          # exports the shipped detector first
    python examples/edge_device.py board.tflite photo.jpg   # yours, from `keras-spd export`
    python examples/edge_device.py board.onnx photo.jpg     # with ONNX Runtime instead of LiteRT
    python examples/edge_device.py --compiled board.tflite photo.jpg   # with LiteRT's CompiledModel

A device only needs `detect`, `letterbox`, `read_record` and `load_tflite`; `load_compiled` is for
LiteRT's newer interface, CompiledModel. Class names, image size and thresholds are in the .tflite
file, which is also a ZIP archive. Files that Ultralytics exported return raw predictions, which
`decode` turns into boxes.

It printed:

    found 22 objects: {'Platelets': 6, 'RBC': 14, 'WBC': 2}
      RBC 0.89 at [133, 362, 213, 444]
      RBC 0.88 at [24, 27, 96, 97]
      RBC 0.88 at [471, 17, 555, 95]
      ...
    without TensorFlow and Keras
"""

import argparse
import json
import pathlib
import subprocess
import sys
import zipfile

import numpy as np
from PIL import Image, ImageOps


def letterbox(image, size):
    """Fits an image into a gray one, in the middle and as large as possible."""
    if image.mode[0] in "IF":  # Pillow would cut off the values above 255
        raise SystemExit(f"the image has more than 8 bits ({image.mode}); convert it first")
    height, width = size
    scale = min(height / image.height, width / image.width)
    sides = round(image.width * scale), round(image.height * scale)
    left, top = (width - sides[0]) // 2, (height - sides[1]) // 2
    canvas = Image.new("RGB", (width, height), (114, 114, 114))
    canvas.paste(image.convert("RGB").resize(sides, Image.Resampling.BILINEAR), (left, top))
    return np.asarray(canvas), scale, (left, top)


def read_record(model):
    """Returns the metadata that keras_spd wrote into a .tflite file; {} for other files."""
    try:
        with zipfile.ZipFile(model) as archive:
            return json.loads(archive.read("keras_spd.json"))
    except (zipfile.BadZipFile, KeyError):
        return {}


def load_tflite(model):
    """Returns keras_spd's record or {}, (height, width), and a function from pixels to outputs."""
    from ai_edge_litert.interpreter import Interpreter

    record = read_record(model)
    interpreter = Interpreter(str(model), num_threads=2)
    interpreter.allocate_tensors()
    [taken] = interpreter.get_input_details()
    outputs = {output["name"]: output for output in interpreter.get_output_details()}

    def run(pixels):
        if record:
            # Files for several sizes have a signature for each; this is the first.
            signature = interpreter.get_signature_runner(
                next(iter(interpreter.get_signature_list()))
            )
            ((argument, details),) = signature.get_input_details().items()
            return signature(**{argument: pixels[None].astype(details["dtype"])})
        values, (scale, zero) = pixels[None], taken["quantization"]
        if scale or taken["dtype"] != np.uint8:  # else it takes the pixels as they are
            values = values / 255
        if scale:
            values = np.round(values / scale + zero)
        interpreter.set_tensor(taken["index"], values.astype(taken["dtype"]))
        interpreter.invoke()
        found = {}
        for name, output in outputs.items():
            array, (scale, zero) = interpreter.get_tensor(output["index"]), output["quantization"]
            found[name] = (array.astype("float32") - zero) * scale if scale else array
        return found

    return record, tuple(taken["shape"][1:3]), run


def load_compiled(model):
    """Like `load_tflite`, with LiteRT's CompiledModel, for a file that keras_spd exported."""
    from ai_edge_litert.compiled_model import CompiledModel, CpuOptions, Options

    record = read_record(model)
    if not record:
        raise SystemExit(f"--compiled is for files of `keras-spd export`. Received: {model}")
    compiled = CompiledModel.from_file(str(model), options=Options(cpu_options=CpuOptions(2)))
    signature, names = next(iter(compiled.get_signature_list().items()))
    [argument] = names["inputs"]
    taken = compiled.get_input_tensor_details(signature)[argument]
    returned = compiled.get_output_tensor_details(signature)
    inputs = {argument: compiled.create_input_buffer_by_name(signature, argument)}
    outputs = {name: compiled.create_output_buffer_by_name(signature, name) for name in returned}

    def run(pixels):
        inputs[argument].write(pixels[None].astype(taken["dtype"]))
        compiled.run_by_name(signature, inputs, outputs)
        found = {}
        for name, details in returned.items():
            values = outputs[name].read(int(np.prod(details["shape"])), np.dtype(details["dtype"]))
            found[name] = values.reshape(details["shape"])
        return found

    return record, tuple(taken["shape"][1:3]), run


def load_onnx(model):
    """Like `load_tflite`, for an ONNX file."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(model))
    metadata = session.get_modelmeta().custom_metadata_map
    record = json.loads(metadata.get("keras_spd", "{}"))
    [taken] = session.get_inputs()
    size = taken.shape[1:3] if record else taken.shape[2:4]
    if not all(isinstance(side, int) for side in size):
        size = json.loads(metadata.get("imgsz", "[640, 640]"))

    def run(pixels):
        values = pixels[None] if record else pixels[None].transpose(0, 3, 1, 2)
        dtypes = {"tensor(uint8)": "uint8", "tensor(float16)": "float16"}
        dtype = dtypes.get(taken.type, "float32")
        if not record and dtype != "uint8":
            values = values / 255
        names = [output.name for output in session.get_outputs()]
        found = session.run(None, {taken.name: values.astype(dtype)})
        return dict(zip(names, found, strict=True))

    return record, tuple(size), run


def detect(model, image, load=load_tflite):
    """Returns class names, confidences and xyxy boxes in pixels of the image."""
    record, size, run = (load_onnx if model.suffix == ".onnx" else load)(model)
    pixels, scale, corner = letterbox(image, size)
    found = run(pixels)
    if not record:
        labels, confidence, boxes = decode(list(found.values()), size)
        names = [f"class {label}" for label in labels]
    elif record.get("bounding_box_format") != "xyxy":
        kind = record.get("bounding_box_format", "none, as it is a classifier")
        raise SystemExit(f"The file must be a detector with xyxy boxes. {model} has {kind}.")
    else:
        count = int(found["num_detections"][0])
        confidence, boxes = found["confidence"][0, :count], found["boxes"][0, :count]
        labels, known = found["classes"][0, :count].astype(int), record["class_names"]
        names = [known[label] if known else f"class {label}" for label in labels]
    return names, confidence, (boxes - np.tile(corner, 2)) / scale


def decode(outputs, size, confidence=0.25, iou=0.45):
    """Returns classes, confidences and boxes from the output of YOLOv5 (1, predictions, 5 +
    classes), YOLOv8 (1, 4 + classes, predictions) or of files with NMS (1, detections, 6)."""
    rows, (height, width) = outputs[0][0].astype("float32"), size
    cells = sum((height // stride) * (width // stride) for stride in (8, 16, 32))
    if len(outputs) == 1 and rows.ndim == 2 and rows.shape[0] == 3 * cells:
        scores = rows[:, 5:] * rows[:, 4:5]
    elif len(outputs) == 1 and rows.ndim == 2 and rows.shape[1] == cells:
        rows = rows.T
        scores = rows[:, 4:]
    elif len(outputs) == 1 and rows.ndim == 2 and rows.shape[1] == 6:
        rows = rows[rows[:, 4] > confidence]
        boxes = rows[:, :4] * ([width, height] * 2 if (rows[:, :4] <= 2).all() else 1)
        return rows[:, 5].astype(int), rows[:, 4], boxes
    else:
        shapes = [output.shape for output in outputs]
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
    return labels[kept], best[kept], boxes[kept]


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
    parser.add_argument(
        "model", nargs="?", type=pathlib.Path, help=".tflite or .onnx file of a detector"
    )
    parser.add_argument("image", nargs="?", type=pathlib.Path)
    parser.add_argument("--compiled", action="store_true", help="use LiteRT's CompiledModel")
    parser.add_argument("--smoke", action="store_true", help="for tests; it is short as it is")
    arguments = parser.parse_args()
    model, image = arguments.model, arguments.image
    if model is not None and image is None:
        parser.error("pass an image as well")
    if arguments.compiled and model is not None and model.suffix != ".tflite":
        parser.error(f"--compiled is for .tflite files of `keras-spd export`. Received: {model}")
    if model is None:
        model, image = prepare(pathlib.Path("edge_device"))
    for path in (model, image):
        if not path.is_file():
            parser.error(f"there is no file {path}")

    names, confidence, boxes = detect(
        model,
        ImageOps.exif_transpose(Image.open(image)),
        load_compiled if arguments.compiled else load_tflite,
    )
    print(f"found {len(names)} objects:", {name: names.count(name) for name in sorted(set(names))})
    for name, score, box in list(zip(names, confidence, boxes, strict=True))[:3]:
        print(f"  {name} {score:.2f} at {box.round().astype(int).tolist()}")
    if len(names) > 3:
        print("  ...")
    if {"tensorflow", "keras", "keras_spd"} & set(sys.modules):
        raise SystemExit("a device would have needed more than LiteRT, NumPy and Pillow")
    print("without TensorFlow and Keras")


if __name__ == "__main__":
    main()
