"""The web page: what its functions return, and the page itself through Gradio's client."""

import asyncio
import dataclasses
import http.client
import socket
import urllib.parse
import urllib.request

import numpy as np
import pytest
from PIL import Image
from tiny import tiny_classifier

from keras_spd import Predictor, predict
from keras_spd.apps import web
from keras_spd.apps.local_only import LocalOnly
from keras_spd.images import draw_detections


@pytest.fixture
def page(tmp_path):
    """The page of a detector and two classifiers, served; and its address."""
    pytest.importorskip("gradio", reason="the web page needs Gradio")
    paths: list = ["bccd"]
    for run in ("spd", "strided"):
        (tmp_path / run).mkdir()
        model = tiny_classifier(names=("a", "b", "c"), statistics="imagenet")
        model.save(tmp_path / run / "model.keras")
        paths.append(tmp_path / run / "model.keras")
    page = web.build_page(paths)
    _, address, _ = page.launch(prevent_thread_lock=True, **web._launch_options())
    yield address, paths
    page.close()


@pytest.mark.slow
def test_page_through_its_interface(page, tmp_path):
    from gradio_client import Client, handle_file

    address, paths = page
    file = tmp_path / "sheet.png"
    Image.fromarray(web.example_sheet()).save(file)
    client = Client(address, verbose=False)

    functions = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert [one["parameter_name"] for one in functions["/find_objects"]["parameters"]] == [
        "image",
        "confidence",
    ]
    assert [one["label"] for one in functions["/find_objects"]["returns"]] == [
        "bccd picture",
        "bccd summary",
        "bccd detections",
    ]
    assert [one["label"] for one in functions["/name_classes"]["returns"]] == [
        "spd classes",
        "strided classes",
    ]

    answer = client.predict(handle_file(file), 0.5, api_name="/find_objects")
    picture, line, detections = answer
    [found] = Predictor("bccd", confidence_threshold=0.5)([file])
    for one, expected in zip(detections, found.to_json(), strict=True):
        assert one["box"] == pytest.approx(expected["box"], abs=0.1)
        assert one["name"] == expected["name"]
    assert line.startswith(f"{len(found)} objects: ") and len(found) > 20
    shown = np.asarray(Image.open(picture).convert("RGB"))
    assert shown.shape == (384, 512, 3)  # twice as large
    doubled = dataclasses.replace(found, boxes=found.boxes * 2)
    expected = web.example_sheet().repeat(2, axis=0).repeat(2, axis=1)
    expected = np.asarray(draw_detections(expected, doubled))
    assert (shown != expected).mean() < 0.01

    answers = client.predict(handle_file(file), api_name="/name_classes")
    for answer, path in zip(answers, paths[1:], strict=True):
        [ranked] = predict.Classifier(path)([file])
        assert answer["label"] == ranked.name(ranked.classes[0])
        for entry, expected in zip(answer["confidences"], ranked.to_json(), strict=True):
            assert entry["label"] == expected["name"]
            assert entry["confidence"] == pytest.approx(expected["confidence"], abs=1e-4)

    (tmp_path / "broken.png").write_bytes(b"broken")
    with pytest.raises(Exception, match=r"broken\.png: cannot be read as an image"):
        client.predict(handle_file(tmp_path / "broken.png"), api_name="/name_classes")
    for wrong in (7, "many"):
        with pytest.raises(Exception, match=r"`confidence` must be a number from 0.05 to 0.95"):
            client.predict(handle_file(file), wrong, api_name="/find_objects")

    with urllib.request.urlopen(address) as response:
        content = response.read().decode()
    assert "fonts.googleapis.com" not in content and "Find objects" in content
    _refuses_other_sites(urllib.parse.urlsplit(address).netloc)


def _refuses_other_sites(netloc):
    port = netloc.split(":")[1]
    call, upload = "/gradio_api/call/find_objects", "/gradio_api/upload"
    own, same = {"Host": netloc}, f"http://{netloc}"
    for method, path, headers, status in [
        ("GET", "/", own, 200),
        ("GET", "/", {"Host": f"localhost:{port}"}, 200),
        ("GET", "/", {"Host": f"evil.example:{port}"}, 403),
        ("GET", "/", {"Host": f"127.0.0.1.evil.example:{port}"}, 403),
        ("GET", "/", {"Host": f"127.0.0.1:80@evil.example:{port}"}, 403),
        ("POST", call, own | {"Origin": same}, 422),  # without data; it is let through
        ("POST", call, own | {"Origin": "http://evil.example"}, 403),
        ("POST", call, own | {"Origin": f"{same}.evil.example"}, 403),
        ("POST", call, own | {"Origin": "null"}, 403),
        ("POST", upload, own | {"Content-Length": "300000000"}, 413),
        ("POST", upload, own | {"Transfer-Encoding": "chunked"}, 411),
    ]:
        connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=20)
        connection.putrequest(method, path, skip_host=True)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        response = connection.getresponse()
        assert response.status == status, (path, headers, response.read(500))
        if status not in (200, 422):
            assert response.read().decode().endswith((".", "`")), headers
        connection.close()


@pytest.mark.parametrize(
    ("served_at", "host", "status"),
    [
        ("127.0.0.1", "[::1]:7860", None),
        ("127.0.0.1", "LOCALHOST", None),
        ("127.0.0.1", "", 403),
        ("127.0.0.1", "192.168.0.7:7860", 403),
        ("192.168.0.7", "192.168.0.7:7860", None),
        ("0.0.0.0", "192.168.0.7:7860", None),  # an address cannot be rebound
        ("0.0.0.0", "evil.example:7860", 403),
        ("cells.example", "cells.example:7860", None),
    ],
)
def test_names_that_the_page_answers_to(served_at, host, status):
    refusal = LocalOnly(None, served_at, 100).refuse({"host": host})
    assert (refusal and refusal[0]) == status


@pytest.mark.parametrize(("host", "refused"), [("127.0.0.1:7860", False), ("evil.example", True)])
def test_websockets_of_other_sites_are_closed(host, refused):
    passed, sent = [], []

    async def app(scope, receive, send):
        passed.append(scope["type"])

    async def send(message):
        sent.append(message)

    scope = {"type": "websocket", "headers": [(b"host", host.encode())]}
    asyncio.run(LocalOnly(app, "127.0.0.1", 100)(scope, None, send))
    assert passed == ([] if refused else ["websocket"])
    assert sent == ([{"type": "websocket.close", "code": 1008}] if refused else [])


@pytest.mark.slow
def test_a_port_that_is_taken(tmp_path):
    pytest.importorskip("gradio", reason="the web page needs Gradio")
    tiny_classifier(statistics="imagenet").save(tmp_path / "tiny.keras")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ValueError, match=r"Cannot serve the page at 127\.0\.0\.1, port \d+:"):
            web.serve([tmp_path / "tiny.keras"], taken.getsockname()[1])


@pytest.mark.slow
def test_no_image_and_no_objects():
    predictors = {"bccd": Predictor("bccd", confidence_threshold=0.05, batch_size=1)}
    assert web.find_objects(predictors, None, 0.25) == [None, "", None]
    picture, line, detections = web.find_objects(predictors, np.zeros((70, 50, 3), "uint8"), 0.25)
    assert line == "0 objects" and detections == []
    assert picture.shape == (630, 450, 3) and not picture.any()
    assert web.name_classes({"cifar10": None}, None) == [None]


def test_default_models(tmp_path):
    shipped = ["cifar10", "resnet50_spd_cifar10", "bccd", "deeppcb"]
    assert web.default_models(tmp_path) == shipped
    (tmp_path / "model.keras").touch()
    assert web.default_models(tmp_path) == [*shipped, tmp_path / "model.keras"]


@pytest.mark.slow
def test_errors(monkeypatch):
    pytest.importorskip("gradio", reason="the web page needs Gradio")
    with pytest.raises(ValueError, match="`paths` is empty; pass at least one"):
        web.build_page([])
    with pytest.raises(ValueError, match=r"There is no file model.pt"):
        web.build_page(["model.pt"])
    monkeypatch.setitem(__import__("sys").modules, "gradio", None)
    with pytest.raises(ImportError, match=r'pip install "keras_spd\[web\]"'):
        web.build_page(["bccd"])
