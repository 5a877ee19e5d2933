"""Training of benchmarks that can be stopped and started again."""

import json

from keras_spd.training import train
from keras_spd.training.run_folder import RunFolder
from keras_spd.training.run_recipe import find_recipe


def train_once(recipe, path):
    """Returns the results of a run. A finished run is not trained again, a stopped one is resumed.

    Args:
        recipe: `Recipe`.
        path: The run folder.

    Raises:
        ValueError: If the folder holds a run with another recipe.
    """
    folder = RunFolder(path)
    find_recipe(recipe, folder, resume=True)
    if not folder.results.is_file():
        train(recipe, path, resume=folder.state.is_file(), verbose=2)
    return json.loads(folder.results.read_text())
