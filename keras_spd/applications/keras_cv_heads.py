"""keras-cv's detectors on our backbones: the one file that imports keras-cv."""

import keras


def keras_cv_detector(
    head: str, backbone: keras.Model, classes: int, bounding_box_format: str, name: str
) -> keras.Model:
    """Builds keras-cv's `YOLOV8Detector` (`"yolov8"`) or `RetinaNet` (`"retinanet"`).

    They are compiled, fitted and saved as keras-cv documents; importing keras-cv imports
    TensorFlow.
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
