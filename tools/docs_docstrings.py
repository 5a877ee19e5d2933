"""Converts this project's docstrings for mkdocstrings: an extension of Griffe.

They are in Keras' style: an `Example:` is not indented, `Input shape:` and `Returns:` are prose,
and one line may describe several arguments. `mkdocs.yml` names this file.
"""

import re
import textwrap

import griffe

_PROSE = re.compile(r"^(Input shape|Output shape|Returns):\n((?:    .*\n?|\n)+)", re.M)
_ARGUMENTS = re.compile(r"^    (\w+(?:, \w+)+): (.+(?:\n {8}.*)*)", re.M)
_EXAMPLE = re.compile(r"^Example:\n\n((?:>>> .*\n?(?:.+\n?)*\n?)+)", re.M)


class Docstrings(griffe.Extension):
    """Rewrites docstrings before they are parsed."""

    def on_object(self, *, obj, **kwargs):
        if obj.is_attribute and "property" not in obj.labels:
            obj.docstring = None  # it is that of the value's class; without one, the page omits it
        elif obj.docstring is not None:
            obj.docstring.value = rewrite(obj.docstring.value)


def rewrite(text):
    """Returns a docstring in the form that Griffe's parser of Google's style expects."""
    text = _PROSE.sub(lambda match: f"**{match[1]}:**\n\n{textwrap.dedent(match[2])}", text)
    text = _ARGUMENTS.sub(_each, text)
    return _EXAMPLE.sub(lambda match: "Examples:\n" + textwrap.indent(match[1], "    "), text)


def _each(match):
    return "\n".join(f"    {name}: {match[2]}" for name in match[1].split(", "))
