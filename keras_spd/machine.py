"""Names of the processor and the accelerators of this machine."""

import pathlib
import platform


def processor() -> str:
    """Returns the name of the CPU, such as "AMD EPYC 7763 64-Core Processor"."""
    info = pathlib.Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor()


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
