"""Tiny ImageNet as a TFDS dataset, from its standard folder or zip file."""

import pathlib
import zipfile
from collections.abc import Iterator
from typing import Any

import tensorflow_datasets as tfds

_FOLDER = "tiny-imagenet-200"


class TinyImagenet(tfds.core.GeneratorBasedBuilder):
    """200 classes of ImageNet at 64x64: 100,000 images to train on and 10,000 to validate.

    Classes are sorted by WordNet id, as in `torchvision.datasets.ImageFolder`. Images are the
    original JPEG files; grayscale images (1,821 and 168) are decoded to three equal channels. The
    test images have no labels and are skipped.
    """

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"""
    Put the folder `{_FOLDER}` or the file `{_FOLDER}.zip` of Stanford's course CS231n
    (http://cs231n.stanford.edu/{_FOLDER}.zip) into the manual folder, by default
    `~/tensorflow_datasets/downloads/manual/`.
    """

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "id": tfds.features.Text(),
                    "image": tfds.features.Image(shape=(64, 64, 3), encoding_format="jpeg"),
                    "label": tfds.features.ClassLabel(),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="https://www.kaggle.com/c/tiny-imagenet",
            disable_shuffling=False,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        manual = pathlib.Path(dl_manager.manual_dir)
        archive = manual / f"{_FOLDER}.zip"
        if (manual / _FOLDER).is_dir():
            folder = manual / _FOLDER
        elif archive.is_file():
            if not zipfile.is_zipfile(archive):
                raise ValueError(f"{archive} is not a complete zip file. Download it again.")
            folder = pathlib.Path(dl_manager.extract(archive)) / _FOLDER
        else:
            raise FileNotFoundError(
                f"There is neither {manual / _FOLDER} nor {archive}."
                + self.MANUAL_DOWNLOAD_INSTRUCTIONS
            )
        ids = sorted((folder / "wnids.txt").read_text().split())
        self.info.features["label"].names = ids
        return {
            "train": self._train_examples(folder / "train", ids),
            "validation": self._validation_examples(folder / "val"),
        }

    def _generate_examples(self) -> Any:
        raise NotImplementedError("`_split_generators` names a generator for each split.")

    def _train_examples(
        self, folder: pathlib.Path, ids: list[str]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        for label in ids:
            files = sorted((folder / label / "images").glob("[!.]*.JPEG"))
            if not files:
                raise ValueError(f"There are no images in {folder / label / 'images'}.")
            for file in files:
                yield file.stem, {"id": file.stem, "image": file, "label": label}

    def _validation_examples(self, folder: pathlib.Path) -> Iterator[tuple[str, dict[str, Any]]]:
        for line in (folder / "val_annotations.txt").read_text().splitlines():
            name, label = line.split("\t")[:2]
            file = folder / "images" / name
            yield file.stem, {"id": file.stem, "image": file, "label": label}
