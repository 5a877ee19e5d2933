"""README and pages are correct: their Python runs, commands exist, costs are recomputed."""

import ast
import importlib.util
import math
import pathlib
import re
import shlex
import tomllib

import keras
import pytest
import typer
from drawings import write_drawings
from PIL import Image
from thin import make_thin

import keras_spd
from keras_spd.apps import classifier_demo
from keras_spd.cli.main import app
from keras_spd.surgery import count_multiply_adds

ROOT = pathlib.Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]
COMMANDS = typer.main.get_command(app).commands


def name_of(page):
    return str(page.relative_to(ROOT))


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.M | re.S)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder in which the demo of a classifier has run, with a photo and images with boxes."""
    folder = tmp_path_factory.mktemp("pages")
    with pytest.MonkeyPatch.context() as patch:
        make_thin(patch)
        patch.setattr(classifier_demo, "_BATCH_SIZE", 128)  # few steps
        classifier_demo.run_classifier_demo(folder / "cells", epochs=1, say=lambda line: None)
    cells, _ = keras_spd.data.load_blood_cells("test").batches(16)[0]
    photo = cells.reshape(4, 4, 32, 32, 3).transpose(0, 2, 1, 3, 4).reshape(128, 128, 3)
    Image.fromarray(photo.astype("uint8")).save(folder / "cells.png")
    labels = write_drawings(folder / "boards")
    for name in ("train.json", "test.json"):
        labels.with_name(name).write_text(labels.read_text())
    return folder


WITH_PYTHON = [page for page in PAGES if blocks(page, "python")]
PRINTED = {  # shows that a page did what it says
    "README.md": (2, ["5 layers are converted"]),
    "docs/guides/predict.md": (3, [r"\[\[\(\d, '(RBC|WBC|Platelets)', [\d.]+\)\]"]),
    "docs/index.md": (2, [r"(RBC|WBC|Platelets) 0\.\d+ \["]),
    "docs/conversion.md": (1, ["1 layer is converted"]),
}


def test_pages_with_python_are_found():
    assert {"README.md", "docs/index.md", "docs/idea.md"} <= set(map(name_of, WITH_PYTHON))


@pytest.mark.slow
@pytest.mark.parametrize("page", WITH_PYTHON, ids=name_of)
def test_python_runs(page, folder, monkeypatch, capsys):
    """All blocks of a page, one after another; line numbers are the page's."""
    count, patterns = PRINTED.get(name_of(page), (None, []))
    assert count in (None, len(blocks(page, "python")))
    lines, inside = [], False
    for line in page.read_text().splitlines():
        fence = line.startswith("```")
        lines.append(line if inside and not fence else "")
        inside = (line == "```python") if fence else inside
    code = "\n".join(lines).replace("epochs=40", "epochs=1").replace("(320, 320)", "(64, 64)")
    monkeypatch.chdir(folder)
    exec(compile(code, page, "exec"), {"__name__": "__main__"})
    printed = capsys.readouterr().out
    for pattern in patterns:
        assert re.search(pattern, printed)


def shell_commands(text):
    """Returns the words of each command, without shell syntax."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.shlex(line, posix=True, punctuation_chars=True)
        words.whitespace_split, command = True, []
        for word in [*words, ";"]:
            if word in (";", "&&", "|"):
                found += [command] if command else []
                command = []
            elif command or (word not in ("do", "done") and not re.match(r"[A-Z_]+=", word)):
                command.append(word)
    return found


def test_shell_commands_are_taken_apart():
    text = "for k in a b; do\n  A=1 keras-spd train \\\n --set 'x={\"y\": \"'$k'\"}'  # so\ndone"
    assert shell_commands(text)[1] == ["keras-spd", "train", "--set", 'x={"y": "$k"}']


@pytest.mark.parametrize(
    "page", [*PAGES, ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("benchmarks/*.md"))], ids=name_of
)
def test_commands_exist(page):
    for block in blocks(page, "bash"):
        for command in shell_commands(block):
            check_command(command)


@pytest.mark.parametrize("command", COMMANDS)
def test_examples_of_the_help_exist(command):
    examples = re.findall(r"Example: (.+(?:\n.+)*)", COMMANDS[command].help)
    assert examples
    for example in examples:
        [words] = shell_commands(example.replace("\n", " "))
        assert words[:2] == ["keras-spd", command]
        check_command(words)


_PROGRAMS = {  # whose arguments are not checked
    *("/usr/bin/time", ".ci/run", "curl", "docker", "echo", "export", "for", "git", "grep"),
    *("mkdocs", "pytest", "python", "source"),
}


def check_command(command):
    if command[0] == "keras-spd":
        COMMANDS[command[1]].make_context(command[1], command[2:])  # parses, and runs nothing
    elif command[:2] == ["pip", "install"]:
        with open(ROOT / "pyproject.toml", "rb") as file:
            extras = tomllib.load(file)["project"]["optional-dependencies"]
        asked = re.findall(r"\[(.+?)\]", " ".join(command))
        assert {extra for names in asked for extra in names.split(",")} <= set(extras)
    elif command[0] == "python" and command[1].endswith(".py"):
        assert (ROOT / command[1]).is_file()
    else:
        assert command[0] in _PROGRAMS, f"{command[0]}: is it misspelt?"


@pytest.mark.parametrize(
    "command", ["keras-spd paint x.png", "keras-spd demo --colour red", "keras-spd predict a.png"]
)
def test_wrong_commands_are_noticed(command):
    with pytest.raises(Exception, match="paint|colour|weights"):
        check_command(shlex.split(command))


def test_failures_of_the_page_are_those_of_the_code():
    """If the first cell of a row is only code, it is a part of a message."""
    code = " ".join(file.read_text() for file in (ROOT / "keras_spd").rglob("*.py"))
    code = re.sub(r"\s+", " ", re.sub(r'"\s*f?"', "", code))  # strings over several lines
    page = (ROOT / "docs/guides/troubleshooting.md").read_text()
    messages = re.findall(r"^\| `([^`]+)` \|", page, re.M)
    assert len(messages) > 10
    assert [message for message in messages if message not in code] == []


def rows_of_costs():
    """Yields calls of constructors in tables, with the parameters and multiply-adds beside them."""
    for page in sorted(ROOT.glob("docs/zoo/*.md")):
        columns = []
        for line in page.read_text().splitlines():
            cells = [cell.strip() for cell in line.split("|")[1:-1]]
            if "call" in cells:
                columns = [cell.split()[0] for cell in cells]
            elif "call" in columns and len(cells) == len(columns):
                row = dict(zip(columns, cells, strict=True))
                if row["call"].endswith(")`") and row["parameters"]:
                    yield name_of(page), row["call"].strip("`"), row


@pytest.mark.slow
@pytest.mark.parametrize("large", [False, pytest.param(True, marks=pytest.mark.full)])
def test_costs(large):
    """Of one depth for each type of block, and of two sizes; the others are the long form."""
    rows = list(rows_of_costs())
    pages = [page for page, _, _ in rows]
    assert [pages.count(f"docs/zoo/{name}.md") for name in ("resnet", "yolov5")] == [20, 15]
    small = re.compile(r'ResNet(18|50)|YOLOV5SPD\("[ns]"')
    rows = [row for row in rows if bool(small.match(row[1])) != large]
    assert len(rows) > 10
    costs = {call: cost(call) for call in {call for _, call, _ in rows}}
    for page, call, row in rows:
        parameters, multiply_adds = costs[call]
        assert shows(row["parameters"], parameters), (page, call, parameters)
        assert shows(row["multiply-adds"], multiply_adds), (page, call, multiply_adds)


def cost(call):
    """Trained parameters and multiply-adds of a call, for the classes and images of the tables."""
    call = ast.parse(call, mode="eval").body
    arguments = [ast.literal_eval(argument) for argument in call.args]
    options = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
    classes, side = (10, 32) if call.func.id.startswith("ResNet") else (80, 640)
    options |= {"classes": classes, "input_shape": (side, side, 3)}
    # Variables have a shape, and no values in memory.
    with keras.StatelessScope(initialize_variables=False):
        model = getattr(keras_spd.applications, call.func.id)(*arguments, **options)
    parameters = sum(math.prod(variable.shape) for variable in model.trainable_variables)
    return parameters, count_multiply_adds(getattr(model, "network", model))


def shows(text, value):
    """Whether a number such as `20.5 M` is a rounded value."""
    number, unit = re.fullmatch(r"([\d,.]+) ?([MG]?)", text).groups()
    digits = len(number.partition(".")[2])
    return f"{value / {'': 1, 'M': 1e6, 'G': 1e9}[unit]:,.{digits}f}" == number


@pytest.mark.slow
@pytest.mark.parametrize("preset", keras_spd.list_models(), ids=lambda preset: preset.name)
def test_cards_have_the_scores_of_the_weights(preset):
    text = (ROOT / f"docs/zoo/{preset.short_name}.md").read_text()
    if "test_accuracy" in preset.scores:
        assert f"**{100 * preset.scores['test_accuracy']:.2f} %**" in text
    else:
        assert f"**AP {100 * preset.scores['AP']:.1f}**" in text
        assert f"AP50 {100 * preset.scores['AP50']:.1f}" in text
    assert f"{preset.size / 1e6:.1f} MB" in text
    assert preset.license in text
    options = {**preset.options, "classes": len(preset.class_names)}
    with keras.StatelessScope(initialize_variables=False):
        model = getattr(keras_spd.applications, preset.architecture)(
            **options, input_shape=(*preset.image_size, 3)
        )
    parameters = sum(math.prod(variable.shape) for variable in model.trainable_variables)
    assert preset.card["parameters"] == parameters
    assert preset.card["multiply_adds"] == count_multiply_adds(getattr(model, "network", model))
    assert all(name.lower() in text.lower() for name in preset.class_names)


@pytest.mark.parametrize("page", sorted(ROOT.glob("docs/api/*.md")), ids=name_of)
def test_public_names_are_in_the_reference(page):
    module = importlib.import_module(f"keras_spd.{page.stem}")
    names = set(module.__all__)
    text = page.read_text()
    shown = set(re.findall(r"(?:`|::: )[\w.]*?(\w+)(?:`|$)", text, re.M))
    assert names <= shown, names - shown


def tool(name):
    """Imports a script of `tools/`."""
    spec = importlib.util.spec_from_file_location(name, ROOT / f"tools/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_cards_are_current():
    cards = tool("write_cards").pages()
    assert len(cards) == len(keras_spd.list_models())
    for path, text in cards.items():
        assert path.read_text() == text, "run `python tools/write_cards.py`"
        assert f"zoo/{path.name}" in (ROOT / "mkdocs.yml").read_text()
        assert f"]({path.name})" in (ROOT / "docs/zoo/index.md").read_text()


@pytest.mark.slow
def test_generated_pages_are_current():
    for path, text in tool("write_reference").pages().items():
        assert path.read_text() == text, "run `python tools/write_reference.py`"


def test_docstrings_in_the_form_of_griffe():
    pytest.importorskip("griffe", reason='needs `pip install ".[docs]"`')
    module = tool("docs_docstrings")
    text = "Does.\n\nArgs:\n    a, b: As in\n        `f`.\n\nReturns:\n    A: b.\n\n"
    expected = (
        "Does.\n\nArgs:\n    a: As in\n        `f`.\n    b: As in\n        `f`.\n\n"
        "**Returns:**\n\nA: b.\n\n"
    )
    example = ">>> f()\n1\n\n>>> g()\n2\n"
    expected += "Examples:\n    >>> f()\n    1\n\n    >>> g()\n    2\n\nSource: h."
    assert module.rewrite(f"{text}Example:\n\n{example}\nSource: h.") == expected
