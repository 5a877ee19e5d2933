"""Fills the page of the command line with what Typer says about each command: a MkDocs hook."""

import re
import subprocess
import sys

_MARK = "<!-- commands -->"


def on_page_markdown(markdown, **kwargs):
    """Replaces the mark on a page by the sections of all commands."""
    return markdown.replace(_MARK, _commands()) if _MARK in markdown else markdown


def _commands():
    command = ["typer", "keras_spd.cli.main", "utils", "docs", "--name", "keras-spd"]
    text = subprocess.run(
        [sys.executable, "-m", *command], capture_output=True, text=True, check=True
    ).stdout
    text = text[text.index("\n## ") :]
    text = re.sub(r"^\* `--help`: .*\n", "", text, flags=re.M)
    return re.sub(r"^Example: (.+(?:\n.+)*)", _example, text, flags=re.M)


def _example(match):
    return "```bash\n" + match[1].replace("\n", " \\\n    ") + "\n```"
