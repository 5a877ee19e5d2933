"""What this machine computes with."""

import os
import platform
import sys
import types

import keras
import pytest

from keras_spd import machine
from keras_spd.training import load_recipe
from keras_spd.training.announce import warn_of_missing_onednn
from keras_spd.training.run_folder import RunFolder
from keras_spd.training.run_recipe import find_recipe

XEON = "processor\t: 0\nmodel name\t: Intel(R) Xeon(R) Platinum 8259CL\nflags\t\t: fpu {} avx512f\n"
GRAVITON = "processor\t: 0\nFeatures\t: fp asimd {}\n"


@pytest.mark.parametrize(
    ("cpuinfo", "computes"),
    [
        (XEON.format("avx512_bf16"), True),
        (XEON.format("amx_bf16 amx_tile"), True),
        (XEON.format("avx512_vnni"), False),
        (GRAVITON.format("bf16"), True),
        (GRAVITON.format("svebf16"), False),
        ("", False),  # not Linux
    ],
)
def test_cpus_with_bfloat16(monkeypatch, cpuinfo, computes):
    monkeypatch.setattr(machine, "accelerators", list)
    monkeypatch.setattr(machine, "_cpuinfo", lambda: cpuinfo)
    assert machine.computes_bfloat16() == computes
    assert "model name" not in machine.processor()
    assert ("Xeon" in machine.processor()) == ("Xeon" in cpuinfo)


@pytest.mark.parametrize(
    ("capability", "computes"),
    [("9.0", True), ("8.0", True), ("7.5", False), ("10.0", True), ("gfx942", True), (None, True)],
)
def test_gpus_with_bfloat16_on_jax(monkeypatch, capability, computes):
    """AMD's GPUs have a name instead of a number, and TPUs have neither."""
    jax = pytest.importorskip("jax")
    facts = {} if capability is None else {"compute_capability": capability}
    monkeypatch.setattr(machine, "accelerators", lambda: ["GPU"])
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    monkeypatch.setattr(jax, "devices", lambda: [types.SimpleNamespace(**facts)])
    assert machine.computes_bfloat16() == computes


@pytest.mark.parametrize("computes", [True, False])
def test_a_run_keeps_the_precision_it_started_with(monkeypatch, tmp_path, computes):
    recipe = load_recipe("short", dataset="cifar10")
    assert recipe.precision == "auto"
    monkeypatch.setattr("keras_spd.training.run_recipe.computes_bfloat16", lambda: computes)
    found = find_recipe(recipe, RunFolder(tmp_path), resume=False)
    assert found.precision == ("mixed_bfloat16" if computes else "float32")

    folder = RunFolder(tmp_path)
    folder.start(found, {}, resumed=False)
    monkeypatch.setattr("keras_spd.training.run_recipe.computes_bfloat16", lambda: not computes)
    for again in (None, recipe):
        assert find_recipe(again, folder, resume=True) == found


def test_training_for_8_bits_is_in_float32(monkeypatch, tmp_path):
    monkeypatch.setattr("keras_spd.training.run_recipe.computes_bfloat16", lambda: True)
    recipe = load_recipe("short", dataset="cifar10", overrides={"quantize_aware": True})
    assert find_recipe(recipe, RunFolder(tmp_path), resume=False).precision == "float32"


@pytest.mark.parametrize(
    ("processor", "given", "expected"),
    [("x86_64", None, "1"), ("AMD64", None, "1"), ("x86_64", "0", "0"), ("aarch64", None, None)],
)
def test_users_can_turn_onednn_off(monkeypatch, processor, given, expected):
    """That it is on otherwise is tested by the log lines of a command (tests/cli/test_quiet.py)."""
    monkeypatch.setattr(platform, "machine", lambda: processor)
    monkeypatch.setattr(machine, "_too_late", False)  # which it may set
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    if given is not None:
        monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", given)
    machine.use_onednn()
    assert os.environ.get("TF_ENABLE_ONEDNN_OPTS") == expected


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="oneDNN is TensorFlow's")
@pytest.mark.parametrize(
    ("given", "flags", "warnings"), [(None, "avx2", 1), (None, "avx512_vnni", 0), ("1", "avx2", 0)]
)
def test_training_warns_if_tensorflow_was_imported_first(
    monkeypatch, caplog, given, flags, warnings
):
    assert "tensorflow" in sys.modules
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(machine, "_too_late", False)
    monkeypatch.setattr(machine, "_cpuinfo", lambda: f"flags : sse2 {flags} fma")
    monkeypatch.setattr(machine, "accelerators", list)
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    if given is not None:
        monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", given)
    machine.use_onednn()
    warn_of_missing_onednn()
    assert caplog.text.count("Import keras_spd first") == warnings
