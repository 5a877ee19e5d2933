"""Trains models from recipes."""

from typing import TYPE_CHECKING

from keras_spd.lazy import attach

if TYPE_CHECKING:
    from keras_spd.training.coco_score import COCOScore as COCOScore
    from keras_spd.training.fields import Recipe as Recipe
    from keras_spd.training.fit import train as train
    from keras_spd.training.recipe import load_recipe as load_recipe
    from keras_spd.training.recipe_files import list_recipes as list_recipes

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "COCOScore": "keras_spd.training.coco_score",
        "train": "keras_spd.training.fit",
        "Recipe": "keras_spd.training.fields",
        "list_recipes": "keras_spd.training.recipe_files",
        "load_recipe": "keras_spd.training.recipe",
    },
)
