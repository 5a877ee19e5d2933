"""Writes the cards of the shipped weights in `docs/zoo`, from their records.

    python tools/write_cards.py

The part of a page from the marker on is written by hand and kept. Facts that a record lacks are
"not recorded". `tests/test_docs.py` fails if a card is not up to date.
"""

import json
import pathlib
import re
import shlex
import tomllib

ROOT = pathlib.Path(__file__).parents[1]
RECORDS = ROOT / "keras_spd" / "weights" / "presets"
ZOO = ROOT / "docs" / "zoo"
MARKER = "<!-- The part above is written by tools/write_cards.py. -->\n"


def pages():
    """Returns `{path of a card: its text}`."""
    records = {path.stem: tomllib.loads(path.read_text("utf-8")) for path in RECORDS.glob("*.toml")}
    cards, taken = {}, set()
    for stem, record in sorted(records.items()):
        name = stem if record["name"] in taken else record["name"]  # `Preset.short_name`
        taken.add(name)
        page = ZOO / f"{name}.md"
        text = page.read_text(encoding="utf-8") if page.is_file() else ""
        cards[page] = _card(record, name) + MARKER + text.partition(MARKER)[2]
    return cards


def _card(record, name):
    facts = {**dict.fromkeys(FACTS, "not recorded"), **record.get("card", {})}
    detects = record["architecture"] == "YOLOV5SPD"
    rows = {
        "Network": f"{_network(record)}, {len(record['class_names'])} classes",
        "Parameters": _number(facts["parameters"], 1e6, "M"),
        "Multiply-adds": _number(facts["multiply_adds"], 1e9, "G", 3) + f", at {_size(record)}",
        "Latency": facts["latency"],
        "File": f"{record['size'] / 1e6:.1f} MB, {facts['precision']}; SHA-256 checked on loading",
        "Input": _detector_input(record) if detects else _classifier_input(record),
        "On the command line": f"`--weights {name}`" + _namesake(record["name"], name),
        "Output": f"{'boxes, confidence and classes' if detects else 'probabilities of'}: "
        + ", ".join(record["class_names"]),
        "Training data": f"{record['dataset']}, {facts['training_images']}",
        "Recipe": f"{_recipe(record)}, {facts['epochs']}",
        "Command": f"`{record['command']}`",
        "Hardware": facts["hardware"],
        "Training time": facts["training_time"],
        "Test scores": f"{_scores(record)}, {facts['test_data']}",
        "Spread": facts["spread"],
        "Epoch": facts["chosen"],
        "Licence": record["license"],
    }
    limits = facts["limits"]
    limits = limits if isinstance(limits, str) else "\n".join(f"- {limit}" for limit in limits)
    table = "\n".join(f"| {row} | {value} |" for row, value in rows.items())
    return (
        f"# Weights: `{name}`\n\n```python\nfrom keras_spd.applications import "
        f"{record['architecture']}\n\nmodel = {_call(record)}\n"
        f"print(model.info.class_names, model.info.image_size)\n```\n\n"
        f"| | |\n| --- | --- |\n{table}\n\n## Not suited for\n\n{limits}\n\n"
    )


FACTS = (
    "parameters",
    "multiply_adds",
    "latency",
    "precision",
    "training_images",
    "epochs",
    "hardware",
    "training_time",
    "test_data",
    "spread",
    "chosen",
    "limits",
)


def _namesake(shared, name):
    """Returns what the name that several networks share means, on a card with a unique name."""
    return "" if name == shared else f"; `{shared}` is [another network's]({shared}.md)"


def _call(record):
    arguments = [f'weights="{record["name"]}"']
    if record["architecture"] == "YOLOV5SPD":
        arguments.insert(0, f'"{record["options"]["size"]}"')
    else:
        height, width = record["image_size"]
        arguments.append(f"input_shape=({height}, {width}, 3)")
    defaults = {"downsampling": "spd", "shortcut": "strided", "size": None}
    for name, value in record["options"].items():
        if value != defaults.get(name, "") and name != "size":
            arguments.append(f"{name}={json.dumps(value)}")
    return f"{record['architecture']}({', '.join(arguments)})"


def _network(record):
    if record["architecture"] == "YOLOV5SPD":
        size = record["options"]["size"]
        return f"[YOLOv5-SPD-{size}](yolov5.md#yolov5spd{size})"
    depth = re.search(r"\d+", record["architecture"])[0]
    strided = record["options"]["downsampling"] == "strided"
    name = f"ResNet{depth}" if strided else f"ResNet{depth}-SPD"
    return f"[{name}](resnet.md#resnet{depth}spd)"


def _size(record):
    height, width = record["image_size"]
    return f"{height}x{width}"


def _detector_input(record):
    return (
        f"RGB pixels from 0 to 255, trained at {_size(record)}; `keras_spd.Predictor` letterboxes "
        "images of any size"
    )


def _classifier_input(record):
    return (
        f'RGB, {_size(record)}, normalised: `preprocess_input(pixels, "{record["statistics"]}")`; '
        "`keras_spd.predict.Classifier` resizes images of any size"
    )


def _scores(record):
    scores = record["scores"]
    if "test_accuracy" in scores:
        return f"accuracy **{100 * scores['test_accuracy']:.2f} %**"
    parts = [f"{name} {100 * scores[name]:.1f}" for name in ("AP", "AP50", "AP_small")]
    return ", ".join([f"**{parts[0]}**", *parts[1:]])


def _recipe(record):
    """Returns the recipe of a run; without `--recipe`, the one that `train` chooses."""
    words = shlex.split(record["command"])
    options = [word.partition("=")[0] for word in words]
    if "--recipe" in options:
        place = options.index("--recipe")
        name = words[place].partition("=")[2] or words[place + 1]
    elif not {"--weights", "--model"} & set(options):
        name = "short"
    else:
        name = "finetune" if record["architecture"] == "YOLOV5SPD" else "few_images"
    return f"`{name}`{' with the changes in the command' if '--set' in options else ''}"


def _number(value, unit, letter, digits=1):
    return value if isinstance(value, str) else f"{value / unit:.{digits}f} {letter}"


def main():
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
        print(f"wrote {path.name}: {len(text.splitlines())} lines")


if __name__ == "__main__":
    main()
