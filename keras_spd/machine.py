"""The processor and the accelerators of this machine."""

import contextlib
import os
import pathlib
import platform
import re
import sys

_ONEDNN = "TF_ENABLE_ONEDNN_OPTS"
_too_late = False  # for `use_onednn`
_AMPERE = (8, 0)  # the first compute capability of NVIDIA's GPUs with bfloat16
_NUMBERED = re.compile(r"(\d+)\.(\d+)")  # NVIDIA's; AMD's is a name, such as "gfx942"


def processor() -> str:
    """Returns the name of the CPU, such as "AMD EPYC 7763 64-Core Processor"."""
    name = re.search(r"^model name\s*:\s*(.*)$", _cpuinfo(), re.MULTILINE)
    return name.group(1).strip() if name else platform.processor()


def use_onednn() -> None:
    """Lets TensorFlow compute with oneDNN, unless `TF_ENABLE_ONEDNN_OPTS` is set.

    By itself, TensorFlow only does so on x86 processors with instructions for neural networks
    (AVX512-VNNI and later). On others, such as AMD's up to Zen 3, a training step takes 1.5
    (YOLOv5-SPD-n) to 3.5 times (ResNet18-SPD) as long without it (benchmarks/training.md). This has
    no effect once TensorFlow is imported, see `lacks_onednn`.
    """
    global _too_late
    if platform.machine().lower() in ("x86_64", "amd64") and _ONEDNN not in os.environ:
        os.environ[_ONEDNN] = "1"
        _too_late = "tensorflow" in sys.modules


def lacks_onednn() -> bool:
    """Returns whether TensorFlow trains on this CPU without oneDNN: it was imported too early."""
    import keras

    if not _too_late or keras.backend.backend() != "tensorflow" or accelerators():
        return False
    return not re.search(r"\b(avx512_vnni|avx_vnni|amx_int8)\b", _cpuinfo())


def computes_bfloat16() -> bool:
    """Returns whether this machine has instructions for bfloat16, which others emulate slowly.

    If there are accelerators, they must have such instructions; otherwise, the CPU. On a CPU
    without them, a training step takes 1.9 (ResNet18-SPD) to 2.4 times (YOLOv5-SPD-n) as long in
    bfloat16 as in float32 (benchmarks/training.md).
    """
    import keras

    if not accelerators():
        return bool(re.search(r"\b(avx512_bf16|amx_bf16|bf16)\b", _cpuinfo()))
    backend = keras.backend.backend()
    if backend == "torch":
        import torch

        return torch.cuda.is_bf16_supported(including_emulation=False)
    if backend == "jax":
        import jax

        capabilities = [str(getattr(gpu, "compute_capability", "")) for gpu in jax.devices()]
        numbered = filter(None, map(_NUMBERED.fullmatch, capabilities))  # others have bfloat16
        return all(tuple(map(int, found.groups())) >= _AMPERE for found in numbered)
    import tensorflow as tf

    details = map(tf.config.experimental.get_device_details, tf.config.list_physical_devices("GPU"))
    return all(detail.get("compute_capability", _AMPERE) >= _AMPERE for detail in details)


def _cpuinfo() -> str:
    """Returns the content of `/proc/cpuinfo`, or an empty string on systems other than Linux."""
    file = pathlib.Path("/proc/cpuinfo")
    return file.read_text() if file.is_file() else ""


def accelerators() -> list[str]:
    """Returns the name of each GPU and TPU that Keras' backend sees."""
    import keras

    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        return [device.device_kind for device in jax.devices() if device.platform != "cpu"]
    if backend == "torch":
        import torch

        return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    import tensorflow as tf

    devices = [d for d in tf.config.list_physical_devices() if d.device_type in ("GPU", "TPU")]
    details = tf.config.experimental.get_device_details
    return [details(device).get("device_name", device.device_type) for device in devices]


def leave_gpus_to_keras() -> None:
    """Imports TensorFlow, which would reserve the GPUs' memory, without GPUs on other backends."""
    import keras
    import tensorflow as tf

    if keras.backend.backend() != "tensorflow":
        with contextlib.suppress(RuntimeError):  # if it has already started
            tf.config.set_visible_devices([], "GPU")
