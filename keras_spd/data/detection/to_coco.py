"""The annotations of a detection dataset as COCO's dictionary."""

from typing import Any

import numpy as np

from keras_spd.data.detection.boxed_image import BoxedImage
from keras_spd.data.detection.clean import clean_boxes
from keras_spd.data.detection.dataset import DetectionData


def to_coco(data: DetectionData) -> dict[str, Any]:
    """Returns the annotations as `DetectionData.to_coco` describes."""
    if data.coco is not None and all(_has_its_records(image, data) for image in data.images):
        kept = {image.image_id for image in data.images}
        return data.coco | {
            "images": [record for record in data.coco["images"] if record["id"] in kept],
            "annotations": [record for image in data.images for record in image.records],
        }
    images: list[dict] = []
    annotations: list[dict] = []
    for image in data.images:
        height, width = image.size_hw
        images.append(
            {"id": image.image_id, "file_name": image.name, "width": width, "height": height}
        )
        for box, label, crowd in zip(image.boxes, image.classes, image.crowd, strict=True):
            x, y, box_width, box_height = map(float, (*box[:2], *(box[2:] - box[:2])))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image.image_id,
                    "category_id": data.category_ids[label],
                    "bbox": [x, y, box_width, box_height],
                    "area": box_width * box_height,
                    "iscrowd": int(crowd),
                }
            )
    categories = [
        {"id": id_, "name": name}
        for id_, name in zip(data.category_ids, data.class_names, strict=True)
    ]
    return {"images": images, "annotations": annotations, "categories": categories}


def _has_its_records(image: BoxedImage, data: DetectionData) -> bool:
    """Returns whether the entries of an image in COCO annotations describe its boxes."""
    if len(image.records) != len(image.boxes):
        return False
    xywh = np.array([record["bbox"] for record in image.records], "float64").reshape(-1, 4)
    boxes, _ = clean_boxes(np.hstack([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]]), image.size_hw)
    if not np.array_equal(boxes, image.boxes):
        return False
    return all(
        record["category_id"] == data.category_ids[label] and crowd == bool(record.get("iscrowd"))
        for record, label, crowd in zip(image.records, image.classes, image.crowd, strict=True)
    )
