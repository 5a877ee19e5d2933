"""Makes shipped weights from a run folder: packs its model, scores the file, writes the card.

    python tools/make_preset.py runs/cifar10 --name cifar10 --bits 6 \\
        --dataset "CIFAR-10 (Krizhevsky, 2009)" --limit "Images of other classes." \\
        --card latency='161 ms for a batch of 128 on two CPU cores: `command`'

Writes `MODEL_NAME.toml` and `.safetensors.gz` to `keras_spd/weights/presets`, in place of those of
the same name, and all cards. The scores are those of the model that the constructor builds with
`weights=NAME`, on the test data of the run's recipe. Costs, epochs, command, hardware and training
time are those of the run; if it started from the shipped weights of the same name, their commands
come first. A run does not record the licence of the data (`--dataset`), what the
weights are not suited for (`--limit`, once for each sentence), latency, and spread over seeds
(`--card spread=...`); `--card` also replaces any other fact. The package must be installed with
`pip install -e .`. All weights together must be smaller than 40 MB; the script prints the size of
these.
"""

import argparse
import hashlib
import json
import math
import pathlib
import re
import shlex
import tempfile
import tomllib

import keras_spd
import write_cards
from keras_spd import applications
from keras_spd.surgery import count_multiply_adds
from keras_spd.training import load_recipe
from keras_spd.training.classification import ClassificationTask
from keras_spd.training.detection import DetectionTask
from keras_spd.training.given import without_start
from keras_spd.training.run_folder import RunFolder
from keras_spd.weights import presets
from keras_spd.weights.packing import pack
from keras_spd.weights.paths import variables_by_path
from keras_spd.weights.presets import FOLDER

import keras
import numpy as np
import tomli_w

_OPTIONS = ("downsampling", "shortcut", "stem_stride")


def check_run(recipe, trained):
    """Ends the script if a preset cannot describe the network of a run, or its best epoch."""
    model = recipe.model
    named = model.name in {**applications.CLASSIFIERS, **applications.DETECTORS}
    if not named or model.backbone or set(model.options) - set(_OPTIONS):
        raise SystemExit(
            f"Presets are of networks built by name, with the options {', '.join(_OPTIONS)} at "
            f"most. The run trained name={model.name!r}, backbone={model.backbone!r}, "
            f"options={model.options}."
        )
    if trained["best_epoch"] is None:
        raise SystemExit("The run's log.csv lacks the best epoch, so its card cannot be written.")


def describe(model, recipe):
    """Returns the part of a record that describes the network."""
    options = dict(recipe.model.options)
    options.setdefault("downsampling", "spd")
    if isinstance(model, applications.Detector):
        options["size"] = applications.DETECTORS[recipe.model.name]
        return model.network, {"architecture": "YOLOV5SPD", "options": options}
    options.setdefault("shortcut", "strided")
    if options["downsampling"] == "strided":
        options.setdefault("stem_stride", 1)
    # Trained weights bring their own statistics, whatever `data.statistics` is.
    used = model.info.statistics or applications.get_statistics(recipe.data.statistics)
    names = [name for name, known in applications.STATISTICS.items() if known == used]
    if not names:
        raise SystemExit(f"The statistics must be among `STATISTICS`. The model has {used}.")
    record = {"architecture": model.info.architecture, "options": options}
    return model, record | {"statistics": names[0]}


def describe_command(environment):
    """Returns the commands of a run without the folders of the machine.

    These are the first one, and those that resumed the run for more epochs.
    """
    longer = [part["command"] for part in environment.get("resumed", ())]
    longer = [words for words in longer if any(word.startswith("--epochs") for word in words)]
    commands = [shlex.join(_portable(words)) for words in (environment["command"], *longer)]
    return " && ".join(dict.fromkeys(commands))  # an interrupted one was repeated


def follow(former, command, name):
    """Returns the commands of a run that started from the weights `name`, after `former`.

    Those of earlier runs write to `RUN1`, `RUN2`, and so on.
    """
    former = former if "--run" in former else f"{former} --run=RUN"
    runs = set(re.findall(r"--run=(\S+)", former))
    former = re.sub(r"--run=RUN(?!\S)", f"--run=RUN{len(runs)}", former)
    start = rf"(--weights[ =]){re.escape(name)}(?!\S)"
    command = re.sub(start, rf"\g<1>RUN{len(runs)}/model.keras", command)
    return f"{former} && {command}"


def _portable(words):
    program = pathlib.Path(words[0])
    own = program.stem == "keras-spd" or program.parts[-2:] == ("keras_spd", "__main__.py")
    yield from ["keras-spd"] if own else ["python", program.name]
    words = iter(words[1:])
    for word in words:
        option, _, value = word.partition("=")
        if option not in ("--run", "--data-dir"):
            path = pathlib.PurePath(value or word)
            yield word.replace(str(path), "/".join(path.parts[-2:])) if path.is_absolute() else word
            continue
        value = value or next(words)
        if option == "--run":
            yield "--run=RUN"


def describe_machines(environment):
    """Returns the machines of a run, in the order in which it was resumed on them."""
    machines = {}
    for part in (environment, *environment.get("resumed", ())):
        cores = f"{part['cpus']} CPU cores ({part['processor']})"
        machines[", ".join(part["accelerators"]) or cores] = None
    return ", then ".join(machines)


def describe_time(seconds):
    """Returns a training time as text."""
    if seconds is None:
        return "not recorded"
    minutes = seconds / 60
    return f"{minutes / 60:.1f} hours" if minutes >= 90 else f"{minutes:.0f} minutes"


def describe_choice(trained, images):
    """Returns how the epoch was chosen, from `results.json` and the number of images."""
    best, evaluations = int(trained["best_epoch"]["epoch"]) + 1, trained["evaluations"]
    if evaluations == 1:
        return f"{best}, the only one that was evaluated"
    return (
        f"{best}, the best of {evaluations} evaluations on {images:,} {trained['chosen_on']} images"
    )


def describe_run(task, recipe, trained, environment, sized, bits):
    """Returns the facts about a run that the card lists.

    Args:
        task: The run's data.
        recipe: The run's recipe.
        trained: Content of the run's `results.json`.
        environment: Content of its `environment.json`.
        sized: The network with the image size that it was trained at.
        bits: Bits of each weight.
    """
    network = getattr(sized, "network", sized)
    parameters = sum(math.prod(variable.shape) for variable in network.trainable_variables)
    last = int(trained["last_epoch"]["epoch"]) + 1
    return {
        "parameters": parameters,
        "multiply_adds": count_multiply_adds(network),
        "precision": ("float16" if bits == 16 else f"{bits} bits per weight") + ", compressed",
        "training_images": f"{task.train_data.num_images:,} training images",
        "epochs": f"{last} epochs, from {_describe_start(recipe)}",
        "hardware": f"{describe_machines(environment)}, {recipe.precision}",
        "training_time": describe_time(trained["training_seconds"]),
        "test_data": f"{task.test_data.num_images:,} test images, with the shipped file",
        "spread": "not known: one seed",
        "chosen": describe_choice(trained, task.splits.evaluated.num_images),
    }


def _describe_start(recipe):
    weights = recipe.model.weights
    return f"the weights `{weights}`" if weights else "random weights"


def _license(given, recipe):
    """Returns the licence of the weights, which that of the weights they started from decides."""
    if given is None and recipe.model.weights is not None:
        raise SystemExit(f"The run started from {recipe.model.weights}: pass --license.")
    return given or "Apache-2.0"


def check_start(start, preset):
    """Ends the script if a run started from other weights than those that are shipped now.

    Args:
        start: The model that the run started from.
        preset: The `Preset` that its recipe names.
    """
    variables = variables_by_path(getattr(start, "network", start).layers)
    shared = {path: array for path, array in preset.read().items() if path in variables}
    if not all(  # the outputs of other classes differ
        variables[path].shape != array.shape or np.array_equal(variables[path], array)
        for path, array in shared.items()
    ):
        raise SystemExit(
            f"The run started from other weights than {preset.full_name} has now. If they were "
            "replaced by those of this run, restore the former ones: "
            "`git checkout keras_spd/weights/presets`."
        )


def _name(text):
    if not re.fullmatch("[a-z0-9_]+", text):
        raise argparse.ArgumentTypeError(f"must be of the characters a-z, 0-9 and _, not {text!r}")
    return text


def _fact(text):
    name, separator, value = text.partition("=")
    if not separator or name not in write_cards.FACTS:
        facts = ", ".join(write_cards.FACTS)
        raise argparse.ArgumentTypeError(f"must be FACT=TEXT, not {text!r}. Facts: {facts}")
    return name, value


def main(words=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=pathlib.Path)
    parser.add_argument("--name", type=_name, required=True)
    parser.add_argument("--bits", type=int, choices=(4, 5, 6, 7, 8, 16), required=True)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--limit", action="append", required=True, metavar="SENTENCE")
    parser.add_argument("--license", help="needed if the run started from trained weights")
    parser.add_argument("--card", type=_fact, action="append", default=[], metavar="FACT=TEXT")
    arguments = parser.parse_args(words)

    folder = RunFolder(arguments.run)
    recipe = load_recipe(folder.recipe)
    trained = json.loads(folder.results.read_text())
    check_run(recipe, trained)
    environment = json.loads(folder.environment.read_text())
    model = keras.saving.load_model(folder.model)
    tasks = {"classification": ClassificationTask, "detection": DetectionTask}
    # The weights that the run started from need not exist any more.
    task = tasks[recipe.task](without_start(recipe), given=model)
    network, record = describe(model, recipe)
    content = pack({v.path: v.numpy() for v in network.variables}, arguments.bits)
    shape = model.info.image_size or task.train_data.image_shape
    record |= {
        "name": arguments.name,
        "class_names": list(model.info.class_names),
        "image_size": list(shape[:2]),
        "dataset": arguments.dataset,
        "command": describe_command(environment),
        "license": _license(arguments.license, recipe),
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    build = getattr(applications, record["architecture"])
    options = {"classes": len(model.info.class_names), "input_shape": (*shape[:2], 3)}
    sized = build(**record["options"], **options)
    if getattr(sized, "anchors", None) != getattr(model, "anchors", None):
        raise SystemExit("Presets have the authors' anchors. The run has others (`fit_anchors`).")
    stem = FOLDER / f"{sized.name}_{arguments.name}"
    file = stem.with_suffix(".toml")
    former = tomllib.loads(file.read_text()) if file.is_file() else None
    if former and former["options"] != record["options"]:
        raise SystemExit(f"{file.name} is of a network with other options. Choose another --name.")
    start = recipe.model.weights
    if former and start in (arguments.name, stem.name):  # the name, or its unique form
        check_start(keras.saving.load_model(folder.start_model), presets.find_named(stem.name))
        record["command"] = follow(former["command"], record["command"], start)
    stem.with_suffix(".safetensors.gz").write_bytes(content)
    file.write_text(tomli_w.dumps({**record, "scores": {}}))
    presets._records.cache_clear()

    packed = build(weights=arguments.name, **record["options"])
    with tempfile.TemporaryDirectory() as scratch:  # the run keeps the scores of its own model
        results = task.score(packed, RunFolder(scratch))
    # With more digits than a card shows, so that it does not round what is rounded.
    scores = {k: round(v, 8) for k, v in results.items() if isinstance(v, float) and v >= 0}
    card = describe_run(task, recipe, trained, environment, sized, arguments.bits)
    card |= {"limits": arguments.limit}
    card |= dict(arguments.card)
    file.write_text(tomli_w.dumps({**record, "scores": scores, "card": card}))
    write_cards.main()
    for name, score in scores.items():
        print(f"{name}: {score:.4f}, before packing {trained[name]:.4f}")
    print(f"{stem}: {len(content) / 1e6:.1f} MB, keras_spd {keras_spd.__version__}")


if __name__ == "__main__":
    main()
