"""Tiny ImageNet from its folder and its zip file, on three classes drawn here."""

import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

import keras_spd.data  # registers the dataset

IDS = ("n01443537", "n01629819", "n12267677")


@pytest.fixture
def folder(tmp_path, rng):
    """The manual folder, with `tiny-imagenet-200` as Stanford packs it. One image is gray."""
    root = tmp_path / "manual" / "tiny-imagenet-200"
    pixels = iter(rng.integers(0, 256, (20, 8, 8, 3), dtype="uint8"))

    def write(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(next(pixels)).resize((64, 64))
        gray = file.name == "n01629819_0.JPEG"
        (image.convert("L") if gray else image).save(file, "JPEG", quality=95)

    for label in IDS:
        for number in range(2):
            write(root / "train" / label / "images" / f"{label}_{number}.JPEG")
    lines = []
    for number, label in enumerate((IDS[2], IDS[0], IDS[2], IDS[1])):
        write(root / "val" / "images" / f"val_{number}.JPEG")
        lines.append(f"val_{number}.JPEG\t{label}\t0\t0\t62\t62")
    (root / "val" / "val_annotations.txt").write_text("\n".join(lines) + "\n")
    (root / "wnids.txt").write_text("\n".join(reversed(IDS)) + "\n")
    return root


def load(manual, data_dir, split):
    config = tfds.download.DownloadConfig(manual_dir=manual)
    return tfds.load(
        "tiny_imagenet",
        split=split,
        data_dir=data_dir,
        with_info=True,
        download_and_prepare_kwargs={"download_config": config},
    )


@pytest.mark.parametrize("zipped", [False, True])
def test_labels_and_pixels(folder, tmp_path, zipped):
    files = {file.stem: file for file in folder.rglob("*.JPEG")}
    pixels = {stem: np.array(Image.open(file).convert("RGB")) for stem, file in files.items()}
    if zipped:
        shutil.make_archive(folder, "zip", folder.parent, folder.name)
        shutil.rmtree(folder)
    train, info = load(folder.parent, tmp_path / "data", "train")
    assert info.features["label"].names == list(IDS)
    examples = list(train.as_numpy_iterator())
    assert len(examples) == 6
    for example in examples:
        name = example["id"].decode()
        assert name.startswith(IDS[example["label"]])
        # Two JPEG decoders differ by a few levels.
        difference = np.abs(example["image"].astype(int) - pixels[name])
        assert example["image"].shape == (64, 64, 3) and difference.max() < 12
    validation, _ = load(folder.parent, tmp_path / "data", "validation")
    labels = {e["id"].decode(): int(e["label"]) for e in validation.as_numpy_iterator()}
    assert labels == {"val_0": 2, "val_1": 0, "val_2": 2, "val_3": 1}

    ours = keras_spd.data.from_tfds("tiny_imagenet", "validation", data_dir=tmp_path / "data")
    assert ours.class_names == IDS and ours.image_shape == (64, 64, 3) and ours.num_images == 4


def test_missing_files_name_the_folder(tmp_path):
    with pytest.raises(Exception, match="tiny-imagenet-200"):
        load(tmp_path, tmp_path / "data", "train")
    (tmp_path / "tiny-imagenet-200.zip").write_bytes(b"half a download")
    with pytest.raises(ValueError, match="tiny-imagenet-200.zip is not a complete zip file"):
        load(tmp_path, tmp_path / "other", "train")
