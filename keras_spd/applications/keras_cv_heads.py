"""Builds keras-cv's detectors on our backbones; the only module that imports keras-cv."""

import keras


def keras_cv_detector(
    head: str, backbone: keras.Model, classes: int, bounding_box_format: str, name: str
) -> keras.Model:
    """Builds keras-cv's `YOLOV8Detector` (`"yolov8"`) or `RetinaNet` (`"retinanet"`).

    Compile, fit and save them as keras-cv documents. Importing keras-cv imports TensorFlow.

    Args:
        head: `"yolov8"` or `"retinanet"`.
        backbone: `ImageModel` with `pyramid_level_inputs`.
        classes: Integer.
        bounding_box_format: Format of ground truth and predictions.
        name: Name of the model.

    Returns:
        keras-cv's detector.

    Raises:
        ImportError: If keras-cv or TensorFlow is not installed.
    """
    try:
        import keras_cv
    except ImportError as error:
        raise ImportError(
            f'`head="{head}"` needs `pip install keras-cv tensorflow` ({error}).'
        ) from error
    constructor = {"yolov8": keras_cv.models.YOLOV8Detector, "retinanet": keras_cv.models.RetinaNet}
    return constructor[head](
        num_classes=classes,
        bounding_box_format=bounding_box_format,
        backbone=backbone,
        name=name,
    )
