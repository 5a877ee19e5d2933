"""Writes the pages that are generated from code: the command line and the fields of recipes.

    python tools/write_reference.py

`tests/test_docs.py` fails if a page is not up to date.
"""

import dataclasses
import inspect
import json
import pathlib
import re
import subprocess
import sys
import types
import typing

DOCS = pathlib.Path(__file__).parents[1] / "docs"
_CLI = """# Command line

Every command has a `--help`. An error prints one line, and the exit code is 1; it is 2 for unknown
options and values out of range, and 130 after Ctrl-C. `--verbose`, anywhere on the line, shows the
traceback and the log lines of TensorFlow and other libraries, which are hidden by default.
`keras-spd --install-completion` installs completion for your shell.
"""
_RECIPES = """# Fields of a recipe

A recipe is a TOML file: `keras-spd train --recipe my.toml`. `--set SECTION.FIELD=VALUE` changes
one field. [The guide](guides/training.md#recipes) shows how to use recipes; the shipped ones are in
`keras_spd/training/recipes/`.
"""


def pages():
    """Returns the text of each page by its path."""
    return {
        DOCS / "cli.md": f"{_CLI}{_commands()}",
        DOCS / "recipes.md": f"{_RECIPES}\n{_recipes()}",
    }


def _commands():
    command = ["typer", "keras_spd.cli.main", "utils", "docs", "--name", "keras-spd"]
    text = subprocess.run(
        [sys.executable, "-m", *command], capture_output=True, text=True, check=True
    ).stdout
    text = text[text.index("\n## ") :]
    text = re.sub(r"^\* `--help`: .*\n", "", text, flags=re.M)
    text = re.sub(r"\*\*Options\*\*:\s+(?=## |\Z)", "", text)  # of commands that only have `--help`
    text = re.sub(r"<list\[(\w+)\]>", lambda match: f"<{match[1].lower()}>", text)
    text = text.replace(" range>", ">")
    text = re.sub(r"^Example: (.+(?:\n.+)*)", _example, text, flags=re.M)
    text = re.sub(r"[ \t]+$", "", text, flags=re.M)
    return re.sub(r"\n{3,}", "\n\n", text).rstrip() + "\n"


def _example(match):
    return "```bash\n" + match[1].replace("\n", " \\\n    ") + "\n```"


def _recipes():
    from keras_spd.detection import YOLOV5Loss
    from keras_spd.training.fields import (
        ClassificationRecipe,
        DetectionRecipe,
        Recipe,
        section_fields,
    )

    shared = Recipe.model_fields
    parts = []
    for title, recipe in (
        ("All recipes", Recipe),
        ("Classifiers", ClassificationRecipe),
        ("Detectors", DetectionRecipe),
    ):
        fields = {
            name: field
            for name, field in recipe.model_fields.items()
            if recipe is Recipe or name not in shared
        }
        parts.append(f"## {title}\n")
        plain = {name: field for name, field in fields.items() if not _is_section(field)}
        parts += [_table(plain)] if plain else []
        for name, field in fields.items():
            if _is_section(field):
                section = source = field.annotation
                if recipe is DetectionRecipe and name == "loss":
                    source = YOLOV5Loss
                table = _table(section_fields(section), _arguments(source))
                parts.append(f"### {title}: `[{name}]`\n\n{_introduction(section)}{table}")
    return "\n".join(parts)


def _is_section(field):
    kind = field.annotation
    return hasattr(kind, "model_fields") or dataclasses.is_dataclass(kind)


def _introduction(section):
    """Returns the text of a section's docstring before the first heading, such as `Args:`."""
    text = inspect.cleandoc(section.__doc__ or "")
    return re.split(r"^\w+:", text, maxsplit=1, flags=re.M)[0].strip() + "\n\n" if text else ""


def _arguments(documented):
    """Returns the descriptions of the arguments in a class' docstring."""
    text = inspect.getdoc(documented)
    section = re.search(r"^Args:\n((?:    .*\n?|\n)+)", text, re.M)
    found = re.findall(r"^    ([\w, ]+): (.+(?:\n {8}.+)*)", section[1] if section else "", re.M)
    return {name: words for names, words in found for name in names.split(", ")}


def _table(fields, arguments=None):
    rows = ["| field | type | default | meaning |", "| --- | --- | --- | --- |"]
    for name, field in fields.items():
        meaning = field.description or (arguments or {}).get(name, "")
        meaning = " ".join(meaning.split()).replace("|", "\\|")
        meaning = re.sub(r"^(?:Boolean|Integer|Number), ", "", meaning)
        meaning = meaning[:1].upper() + meaning[1:]
        default = "" if field.default is None else f"`{json.dumps(field.default)}`"  # also TOML
        rows.append(f"| `{name}` | {_type(field)} | {default} | {meaning} |")
    return "\n".join(rows) + "\n"


def _type(field):
    bounds = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    limits = [
        f"{words} {getattr(limit, sign)}"
        for limit in field.metadata
        for sign, words in bounds.items()
        if hasattr(limit, sign)
    ]
    return ", ".join([_type_name(field.annotation), *limits])


def _type_name(kind):
    arguments = typing.get_args(kind)
    if typing.get_origin(kind) is typing.Literal:
        return " or ".join(f"`{json.dumps(value)}`" for value in arguments)
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        named = [_type_name(part) for part in arguments if part is not type(None)]
        return " or ".join(named)
    if typing.get_origin(kind) is tuple:
        return f"list of {len(arguments)} {_type_name(arguments[0])}s"
    if typing.get_origin(kind) is list:
        return f"list of {_type_name(arguments[0])}s"
    names = {dict: "table", bool: "boolean", str: "string", int: "integer", float: "number"}
    return names.get(typing.get_origin(kind) or kind, str(kind))


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
        print(f"wrote {path.name}: {len(text.splitlines())} lines")
