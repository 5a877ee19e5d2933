"""Pascal VOC's format: an XML file of boxes for each image."""

import math
import os
import pathlib
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from typing import Literal

from keras_spd.data.detection.boxed_image import with_max_value
from keras_spd.data.detection.clean import boxed_image
from keras_spd.data.detection.dataset import DetectionData
from keras_spd.data.files import parse_number, read_text
from keras_spd.data.problems import Problems, shorten
from keras_spd.images.read import SUFFIXES, ImageError, check_file, image_sizes
from keras_spd.typing import Path

_LARGEST = 1e9  # pixels; no image has as many on a side


def read_voc(
    folder: Path,
    split: str | None = None,
    images: Path | None = None,
    *,
    class_names: Sequence[str] | None = None,
    on_problem: str = "error",
    max_value: float | Literal["auto"] | None = None,
) -> DetectionData:
    """Reads a dataset in VOC's format.

    Args:
        folder: Folder with `Annotations`, `JPEGImages` and `ImageSets` as in `VOC2012`, or a
            folder of `.xml` files.
        split: Name of a list in `ImageSets/Main`, such as `"train"`; `None` for all files.
        images: Folder of the images. Defaults to `JPEGImages` or `images` beside `Annotations`,
            or the folder of the `.xml` files.
        class_names: The classes, in order. Defaults to all names in the files, sorted.
        on_problem: `"error"`, or `"skip"` to skip what cannot be used.
        max_value: As in `load_detection`.

    Returns:
        `DetectionData`. Image ids are numbers from 1, in the order of the file names. Objects
        marked as difficult count like others. VOC counts pixels from 1, and boxes include their
        last pixel: from 1 to 10 becomes from 0.0 to 10.0.

    Raises:
        ValueError: If there are no annotations, or they have problems and `on_problem` is
            `"error"`.
    """
    root = pathlib.Path(folder)
    annotations = root / "Annotations" if (root / "Annotations").is_dir() else root
    problems = Problems(root, on_problem)
    files = _files(root, annotations, split, problems)
    if not files:
        problems.report()
        raise ValueError(f"There are no VOC annotations (.xml) in {annotations}.")
    folders = [pathlib.Path(images)] if images is not None else [
        root / "JPEGImages",
        root / "images",
        annotations.parent / "JPEGImages",
        annotations.parent / "images",
        annotations,
    ]  # fmt: skip
    parsed = []
    for number, file in enumerate(files, start=1):
        content = _parse(file, problems)
        if content is None:
            continue
        name = (content.findtext("filename") or "").strip()
        image = _find_image(file, name, folders)
        if image is None:
            searched = ", ".join(map(str, dict.fromkeys(folders)))
            problems.add(file, f"its image {shorten(name or file.stem)} is in none of {searched}")
            continue
        size = _checked_size(image, file, content, problems)
        if size is not None:
            parsed.append((number, image, size, *_objects(content, file, problems)))

    seen = {name for *_, names in parsed for name in names}
    class_names = tuple(class_names) if class_names is not None else tuple(sorted(seen))
    found = []
    for number, image, size, boxes, names in parsed:
        known = [name in class_names for name in names]
        for name in {name for name, ok in zip(names, known, strict=True) if not ok}:
            problems.add(image, f"has an object of the unknown class {name!r}")
        found.append(
            boxed_image(
                problems,
                image_id=number,
                name=str(image),
                source=image,
                size_hw=size,
                boxes=[box for box, ok in zip(boxes, known, strict=True) if ok],
                classes=[class_names.index(n) for n, ok in zip(names, known, strict=True) if ok],
            )
        )
    found = problems.drop_broken(with_max_value(found, max_value))
    ids = tuple(range(len(class_names)))
    return DetectionData(tuple(found), class_names, ids, **problems.report())


def _checked_size(
    image: pathlib.Path, file: pathlib.Path, content: ElementTree.Element, problems: Problems
) -> tuple[int, int] | None:
    """Returns height and width as the image is shown, or as stored if the XML has that size.

    Returns `None`, and adds a problem, if the image cannot be read or does not have the size in
    the XML. Some tools write no size, or 0; then the XML is not compared.
    """
    try:
        shown, stored = image_sizes(image)
    except ImageError as error:
        problems.lines.append(str(error))
        return None
    said = tuple(_number(content.findtext(f"size/{side}")) for side in ("height", "width"))
    if not all(math.isfinite(side) and side > 0 for side in said):
        return shown
    for known in (shown, stored):
        if said == known:
            return known
    height, width = said
    problems.add(file, f"has height {height:g} and width {width:g}, but {image} has {shown}")
    return None


def _number(text: str | None) -> float:
    """Returns a number of pixels; NaN if the text is not a number, or an absurd one."""
    try:
        number = parse_number(text or "")
    except ValueError:
        return math.nan
    return number if abs(number) <= _LARGEST else math.nan


def _files(
    root: pathlib.Path, annotations: pathlib.Path, split: str | None, problems: Problems
) -> list[pathlib.Path]:
    if split is None:
        return sorted(annotations.glob("[!.]*.xml"))
    listing = root / "ImageSets" / "Main" / f"{split}.txt"
    if not listing.exists():
        lists = sorted(file.stem for file in listing.parent.glob("[!.]*.txt"))
        raise ValueError(f"{root} has no split {split!r}. It has: {', '.join(lists) or 'none'}.")
    files = []
    try:
        lines = read_text(listing).splitlines()
    except (OSError, ValueError) as error:
        raise ValueError(f"Cannot read the split {listing}: {error}") from error
    for line in lines:
        if not line.strip():
            continue
        # VOC's lists for one class have a 1 or -1 after the name.
        candidates = [annotations / f"{name}.xml" for name in (line.strip(), line.split()[0])]
        file = next((file for file in candidates if os.path.isfile(file)), None)
        if file is None:
            problems.add(listing, f"names {shorten(line.strip())}, which is not in {annotations}")
        else:
            files.append(file)
    return files


def _parse(file: pathlib.Path, problems: Problems) -> ElementTree.Element | None:
    """Returns the root of an XML file; adds a problem and returns `None` if it is not valid."""
    try:
        check_file(file)
        content = file.read_bytes()
        if b"<!ENTITY" in content.replace(b"\0", b""):  # also in UTF-16
            raise ValueError("it declares entities, which can grow without bound")
        root = ElementTree.fromstring(content)
    except (ElementTree.ParseError, OSError, ValueError, LookupError) as error:
        problems.add(file, f"is not readable XML ({error})")
        return None
    if root.tag != "annotation":
        problems.add(file, f"is not a VOC annotation, but a <{shorten(root.tag)}>")
        return None
    return root


def _objects(
    content: ElementTree.Element, file: pathlib.Path, problems: Problems
) -> tuple[list[tuple[float, float, float, float]], list[str]]:
    """Returns boxes and class names of the objects."""
    boxes, names = [], []
    for element in content.iter("object"):
        name = (element.findtext("name") or "").strip()
        box = element.find("bndbox")
        if not name or box is None:
            what = "no box (`bndbox`)" if name else "no name"
            problems.add(file, f"an object ({shorten(name)}) has {what}")
            continue
        sides = [_number(box.findtext(key)) for key in ("xmin", "ymin", "xmax", "ymax")]
        if not all(map(math.isfinite, sides)):
            given = [box.findtext(key) for key in ("xmin", "ymin", "xmax", "ymax")]
            problems.add(file, f"an object ({shorten(name)}) has the box {shorten(given)}")
            continue
        x1, y1, x2, y2 = sides
        boxes.append((x1 - 1, y1 - 1, x2, y2))
        names.append(name)
    return boxes, names


def _find_image(
    file: pathlib.Path, name: str, folders: Sequence[pathlib.Path]
) -> pathlib.Path | None:
    named = pathlib.PureWindowsPath(name)
    suffixes = [*SUFFIXES, *map(str.upper, SUFFIXES)]
    names = [named.name, named.stem + named.suffix.swapcase()] if name else []
    names += [file.stem + suffix for suffix in suffixes]
    for folder in folders:
        for name in names:
            if os.path.isfile(folder / name):
                return folder / name
    return None
