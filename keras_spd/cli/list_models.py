"""`keras-spd list`."""

import typer

from keras_spd.cli import completion


def list_models() -> None:
    """List the networks, recipes and trained weights in the package.

    Example: keras-spd list
    """
    from keras_spd.training.recipe_files import RECIPES, list_recipes, read_recipe_file
    from keras_spd.weights.presets import list_models as list_presets

    typer.echo("Networks, for `keras-spd train NAME`:")
    typer.echo(f"  classifiers  {', '.join(completion.networks('resnet'))}")
    typer.echo(f"  detectors    {', '.join(completion.networks('yolov5'))}")
    typer.echo("\nRecipes, for `keras-spd train --recipe NAME`:")
    for name in list_recipes():
        recipe = read_recipe_file(RECIPES / f"{name}.toml")
        task = recipe.get("task", "classification")
        of = f"{task}, {recipe['epochs']} epochs of batches of {recipe['batch_size']}"
        typer.echo(f"  {name:<20} {recipe['description']}; {of}")
    typer.echo("\nTrained weights, for `--weights NAME`, and in keras_spd.applications:")
    for preset in list_presets():
        shown = ("test_accuracy", "AP", "AP50", "AP_small")
        scores = ", ".join(f"{k} {preset.scores[k]:.4g}" for k in shown if k in preset.scores)
        typer.echo(f"  {preset.short_name:<20} {preset}")
        typer.echo(f"    {preset.dataset}; {len(preset.class_names)} classes; {scores}")
        typer.echo(f"    {preset.size / 1e6:.1f} MB, {preset.license}; {preset.command}")
