"""The recipe that a run uses: the given one, or that of the run folder it resumes in."""

from keras_spd.machine import computes_bfloat16
from keras_spd.training.fields import Recipe
from keras_spd.training.paths import with_absolute_paths
from keras_spd.training.recipe import differences
from keras_spd.training.run_folder import RunFolder
from keras_spd.training.saved_state import saved_epochs


def find_recipe(
    recipe: Recipe | None, folder: RunFolder, resume: bool, epochs: int | None = None
) -> Recipe:
    """Returns the recipe of a new or resumed run.

    Args:
        recipe, resume, epochs: As in `training.train`.
        folder: `RunFolder`.

    Raises:
        ValueError: If the recipe or `epochs` contradicts the folder, or there is nothing to resume.
    """
    found = _find(recipe, folder, resume, epochs)
    return found if epochs is None else _lengthened(found, folder, epochs, resume)


def _find(recipe: Recipe | None, folder: RunFolder, resume: bool, epochs: int | None) -> Recipe:
    if folder.state.is_file() and not resume:
        raise ValueError(
            f"{folder.path} already holds a run. Resume it (`--resume`, or `resume=True`), or "
            "choose another folder."
        )
    if resume and not folder.state.is_file() and folder.model.is_file():
        raise ValueError(
            f"The run in {folder.path} cannot be resumed without its {folder.state.name}. To train "
            f"its model further, start another run with `--weights {folder.model}`."
        )
    stored = folder.read_recipe() if resume and folder.recipe.is_file() else None
    if stored is None:
        if recipe is None:
            raise ValueError(
                f"There is no run to resume in {folder.path}. Correct the path, or start a new run."
            )
        return _with_precision(recipe)
    if recipe is not None and recipe.precision == "auto":
        recipe = recipe.model_copy(update={"precision": stored.precision})
    if recipe is not None and epochs is not None:
        # `epochs` overrides the recipe's, and an earlier resume may have changed the stored one.
        recipe = recipe.model_copy(update={"epochs": stored.epochs})
    both = [with_absolute_paths(one) for one in (stored, recipe or stored)]
    if differ := differences(*both):
        raise ValueError(
            f"A run resumes with the recipe it was started with, {folder.recipe}. The recipe given "
            f"differs: {', '.join(differ)}. Pass `recipe=None`, or another run folder."
        )
    return stored


def _with_precision(recipe: Recipe) -> Recipe:
    """Returns a recipe whose precision is not `"auto"`."""
    if recipe.precision != "auto":
        return recipe
    mixed = computes_bfloat16() and not recipe.quantize_aware
    return recipe.model_copy(update={"precision": "mixed_bfloat16" if mixed else "float32"})


def _lengthened(recipe: Recipe, folder: RunFolder, epochs: int, resume: bool) -> Recipe:
    """Returns the recipe of a run with another number of epochs."""
    done = saved_epochs(folder.state) if folder.state.is_file() else 0
    if (
        not resume
        or isinstance(epochs, bool)
        or not isinstance(epochs, int)
        or epochs < max(done, 1)
    ):
        raise ValueError(
            "`epochs` trains a run for longer: pass `resume=True` and an integer, at least the "
            f"number of epochs that are done, {done}. Received: epochs={epochs!r}, "
            f"resume={resume}. A new run has the epochs of its recipe."
        )
    return recipe.model_copy(update={"epochs": epochs})
