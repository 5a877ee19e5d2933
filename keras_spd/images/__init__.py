"""Reads images and videos, prepares them for a network, and draws results on them."""

from typing import TYPE_CHECKING

from keras_spd.lazy import attach

if TYPE_CHECKING:
    from keras_spd.images.draw import draw_classes as draw_classes
    from keras_spd.images.draw import draw_detections as draw_detections
    from keras_spd.images.max_value import find_max_value as find_max_value
    from keras_spd.images.read import ImageError as ImageError
    from keras_spd.images.read import to_rgb as to_rgb
    from keras_spd.images.video import VideoWriter as VideoWriter
    from keras_spd.images.video import is_video as is_video
    from keras_spd.images.video import read_video as read_video
    from keras_spd.images.video import read_webcam as read_webcam

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "draw_classes": "keras_spd.images.draw",
        "draw_detections": "keras_spd.images.draw",
        "ImageError": "keras_spd.images.read",
        "find_max_value": "keras_spd.images.max_value",
        "to_rgb": "keras_spd.images.read",
        "VideoWriter": "keras_spd.images.video",
        "is_video": "keras_spd.images.video",
        "read_video": "keras_spd.images.video",
        "read_webcam": "keras_spd.images.video",
    },
)
