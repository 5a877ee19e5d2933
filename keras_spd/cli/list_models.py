"""`keras-spd list`."""

import typer


def list_models() -> None:
    """Show the networks, and the trained weights that come with the package.

    Example: keras-spd list
    """
    import keras_spd
    from keras_spd import applications

    typer.echo("Networks that `keras-spd train` takes:")
    typer.echo(f"  classifiers  {', '.join(applications.CLASSIFIERS)}")
    typer.echo(f"  detectors    {', '.join(applications.DETECTORS)}")
    typer.echo("\nTrained weights, in keras_spd.applications:")
    for preset in keras_spd.list_models():
        shown = ("test_accuracy", "AP", "AP50", "AP_small")
        scores = ", ".join(f"{k} {preset.scores[k]:.4g}" for k in shown if k in preset.scores)
        typer.echo(f"  {preset}")
        typer.echo(f"    {preset.dataset}; {len(preset.class_names)} classes; {scores}")
        typer.echo(f"    {preset.size / 1e6:.1f} MB, {preset.license}; {preset.command}")
