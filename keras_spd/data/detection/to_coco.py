"""The annotations of a detection dataset as COCO's dictionary."""

from typing import Any

from keras_spd.data.detection.dataset import DetectionData


def to_coco(data: DetectionData) -> dict[str, Any]:
    """Returns the annotations as `DetectionData.to_coco` describes."""
    if data.coco is not None:
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
