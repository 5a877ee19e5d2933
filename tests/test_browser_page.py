"""The page `docs/browser` in headless Chromium, compared with the LiteRT interpreter."""

import functools
import http.server
import json
import pathlib
import re
import shutil
import subprocess
import tarfile
import threading
import urllib.parse

import numpy as np
import pytest
from PIL import Image

import keras_spd
from keras_spd.boxes import intersection_over_union

PAGE = pathlib.Path(__file__).parents[1] / "docs/browser"
CDN = "https://cdn.jsdelivr.net/npm/"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """The npm packages that the page loads from the CDN, as `{name@version: folder}`."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("needs npm")
    folder, found = tmp_path_factory.mktemp("npm"), {}
    text = (PAGE / "index.md").read_text() + (PAGE / "detect.js").read_text()
    names = sorted(set(re.findall(CDN + r"(@litertjs/[\w-]+@[\d.]+)/", text)))
    assert names
    command = [npm, "pack", "--prefer-offline", *names]
    packed = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if packed.returncode and re.search("ENOTFOUND|EAI_AGAIN|ECONNREFUSED|TIMEDOUT", packed.stderr):
        pytest.skip(f"npm cannot download {', '.join(names)}")
    assert not packed.returncode, packed.stderr
    for name in names:
        file = name.removeprefix("@").replace("/", "-").replace("@", "-") + ".tgz"
        with tarfile.open(folder / file) as archive:
            archive.extractall(folder / name, filter="data")
        found[name] = folder / name / "package"
    return found


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A server with the page's files, and the HTML in its Markdown."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(PAGE, folder, dirs_exist_ok=True)
    text = (PAGE / "index.md").read_text()
    html = text[text.index('<script type="importmap">') : text.index("The example is")]
    (folder / "index.html").write_text(f"<!doctype html><meta charset=utf-8>{html}")
    handler = functools.partial(_Quiet, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/", folder
        server.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def page(browser, packages, site):
    """The page, with the CDN served from the packages; nothing else may be asked for.

    It is loaded once, so the test of the example is the first.
    """
    page, address = browser.new_page(), site[0]
    page.problems = []
    page.on("pageerror", lambda error: page.problems.append(str(error)))

    def answer(route):
        url = urllib.parse.unquote(route.request.url)
        for name, folder in packages.items():
            if url.startswith(f"{CDN}{name}/"):
                return route.fulfill(path=folder / url.removeprefix(f"{CDN}{name}/"))
        if url.startswith(address) and route.request.method == "GET":
            return route.continue_()
        page.problems.append(f"{route.request.method} {url}")
        return route.abort()

    page.route("**/*", answer)
    page.goto(address)
    page.get_by_text(re.compile(r"^\d+ objects in ")).wait_for(timeout=120_000)
    yield page
    assert page.problems == []
    page.close()


def found_by(page):
    return json.loads(page.locator("#found").text_content())


def test_the_example_is_what_the_interpreter_finds(page, site, tmp_path):
    predictor = keras_spd.Predictor(PAGE / "bccd.tflite", multi_label=True)
    [expected] = predictor(PAGE / "cells.jpg")
    found = found_by(page)
    assert len(found) == pytest.approx(len(expected), abs=2) and len(found) > 8
    boxes = np.array([one["box"] for one in found])
    best = [
        intersection_over_union(box, boxes, np)[
            [one["name"] == expected.name(int(label)) for one in found]
        ].max()
        for box, label, confidence in zip(
            expected.boxes, expected.classes, expected.confidence, strict=True
        )
        if confidence > 0.35  # near the threshold, a browser's other resizing decides
    ]
    assert min(best) > 0.8 and np.mean(best) > 0.93
    page.screenshot(path=tmp_path / "page.png", full_page=True)
    with Image.open(tmp_path / "page.png") as picture:
        assert len(picture.convert("RGB").getcolors(2**24)) > 1000


def test_own_image(page, tmp_path):
    Image.new("RGB", (300, 100), "gray").save(tmp_path / "empty.png")
    page.set_input_files("#image", tmp_path / "empty.png")
    page.get_by_text(re.compile(r"^0 objects in ")).wait_for(timeout=60_000)
    assert page.evaluate("[picture.width, picture.height]") == [300, 100]


def test_a_file_of_another_tool(page, tmp_path):
    (tmp_path / "other.tflite").write_bytes(bytes(1000))
    page.set_input_files("#model", tmp_path / "other.tflite")
    page.get_by_text("Error: This is not a file from `keras-spd export`").wait_for(timeout=60_000)
