"""Commands only print their own lines and real errors, not log lines of TensorFlow."""

import os
import platform
import subprocess
import sys
import time

import pytest
from PIL import Image
from tiny import one_layer_detector

from keras_spd.cli.noise import remove_noise

NOISE = b"""\
WARNING: All log messages before absl::InitializeLog() is called are written to STDERR
I0000 00:00:1795521229.136648   12114 port.cc:153] oneDNN custom operations are on.
To enable the following instructions: AVX2 FMA, in other operations, rebuild TensorFlow.
E0000 00:00:1795521231.878270   12114 cuda_platform.cc:52] failed call to cuInit: INTERNAL: (303)
W0000 00:00:1795521249.819913   12114 tf_tfl_flatbuffer_helpers.cc:364] Ignored output_format.
E0000 00:00:1795521253.307750   12448 node_def_util.cc:682] NodeDef mentions attribute Truncate
E0000 00:00:1795540397.525775   21126 util.cc:131] oneDNN supports DT_BOOL only on platforms with
fully_quantize: 0, inference_type: 6, input_inference_type: FLOAT32, output_inference_type: FLOAT32
INFO: Created TensorFlow Lite XNNPACK delegate for CPU.
2024-03-01 10:11:12.131415: I tensorflow/core/platform/cpu_feature_guard.cc:182] This binary
2024-03-01 10:11:12.131415: E external/xla/cuda_dnn.cc:9261] Unable to register cuDNN factory: twice
\x1b[0;93m2026-01-02 03:04:05.678 [W:onnxruntime:, graph.cc:109 MergeShapeInfo] Error merging\x1b[m
[W1124 11:54:00.123456789 NNPACK.cpp:61] Could not initialize NNPACK! Reason: Unsupported hardware.
I1124 11:54:00.123456 12114 loader.cc:236] Restoring SavedModel bundle.
"""
NEWS = b"""\
Converting bccd: up to a minute.
keras-spd: There is no file 2024-03-01.json.
E0000 00:00:1795521231.878270   12114 gpu_device.cc:52] out of memory
F0000 00:00:1795521231.878270   12114 tensor.cc:52] Check failed: dims == 4
2024-03-01 10:11:12.131415: E tensorflow/core/kernels/cast.cc:182] No such cast
Fatal Python error: Segmentation fault
I0 is a class
WARNING without a colon
"""


@pytest.mark.parametrize("line", NOISE.splitlines(keepends=True))
def test_noise_is_removed_wherever_it_begins(line):
    assert remove_noise(line) == (b"", b"")
    for cut in range(len(line)):  # in two reads, as pipes do it
        shown, last = remove_noise(line[:cut])
        assert remove_noise(last + line[cut:])[0] == b"" or shown
        assert not shown or cut < len(b"To enable the ")  # too short to tell
    if not line.startswith((b"WARNING", b"INFO", b"To ")):
        assert remove_noise(b"\r 12/100 images" + line) == (b"\r 12/100 images", b"")


def test_news_is_shown_at_once():
    mixed = b"".join(
        a + b for a, b in zip(NEWS.splitlines(True), NOISE.splitlines(True), strict=False)
    )
    assert remove_noise(mixed) == (NEWS, b"")
    for part in (b"\r 12/100 images", b"Epoch 1", b"keras-spd: ", b"\n\r", b"It"):
        assert remove_noise(part) == (part, b"")


WRITE = """
import os, subprocess, sys, time
sys.argv = ["keras-spd"]  # so that Keras is not imported
from keras_spd.cli.quiet import without_native_logs
noise = b"I0000 00:00:1795521229.136648   12114 port.cc:153] oneDNN is on." + b"." * 900 + b"\\n"
with without_native_logs():
    for number in range(300):  # more than a pipe holds
        os.write(2, noise)
        print(number, file=sys.stderr)
    subprocess.run([sys.executable, "-c", "import os; os.write(2, b'child\\\\n' + %r)" % noise])
    {end}
print("after", file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("end", "last"),
    [
        ("pass", ["child", "after"]),
        ("os.write(2, b'last words'); os.abort()", ["child", "last words"]),
        (
            "os.write(2, noise[:30]); os.kill(os.getpid(), 9)",
            ["child", "I0000 00:00:1795521229.136648 "],
        ),
        ("raise SystemExit('gone')", ["child", "gone"]),
    ],
)
def test_what_a_process_and_its_children_write_is_filtered_to_its_end(end, last):
    result = subprocess.run(
        [sys.executable, "-c", WRITE.replace("{end}", end)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    lines = result.stderr.split("\n")
    assert [line for line in lines if line] == [*map(str, range(300)), *last]


def test_unfinished_lines_are_passed_on_at_once():
    code = (
        "import os, sys, time\nsys.argv = ['keras-spd']\n"
        "from keras_spd.cli.quiet import without_native_logs\n"
        "with without_native_logs():\n    os.write(2, b'\\r 12/100')\n    time.sleep(30)"
    )
    start = time.monotonic()
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE) as process:
        assert os.read(process.stderr.fileno(), 100) == b"\r 12/100"
        process.kill()
    assert time.monotonic() - start < 25


def command(folder, *arguments, backend="tensorflow"):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TF_")}
    environment = {**kept, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "0"}
    return subprocess.run(
        [sys.executable, "-m", "keras_spd", *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
    )


@pytest.fixture
def model(tmp_path):
    one_layer_detector().save(tmp_path / "model.keras")
    return "model.keras"


@pytest.mark.slow
@pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="oneDNN is only on by default on x86"
)
def test_verbose_shows_the_lines_of_others(model, tmp_path):
    """`tests/first_hour` compares what commands print without it, line by line."""
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    shown = command(tmp_path, "predict", "a.png", "--weights", model, "--verbose").stderr
    assert "oneDNN custom operations are on" in shown


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_other_backends_are_as_quiet(model, tmp_path, backend):
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    arguments = ["predict", "a.png", "--weights", model]
    assert command(tmp_path, *arguments, backend=backend).stderr == ""
