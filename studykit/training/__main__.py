"""``python -m studykit.training`` trains, prepares a cache, or ships a checkpoint."""

import os
import sys
from functools import partial
from pathlib import Path

import click

from studykit.errors import MissingPackageError, StudyError

_PATH = click.Path(path_type=Path)
_echo = partial(print, flush=True)


@click.command()
@click.option("--config", help="Recipe: a file, or the name of one in studykit/training/recipes.")
@click.option("--out", type=_PATH, help="Folder of the run, or of the export.")
@click.option("--cache", type=_PATH, help="Rendered frames [OUT/cache].")
@click.option("--resume", is_flag=True, help="Go on from the checkpoint in OUT.")
@click.option("--minutes", type=float, help="Stop after so many minutes, with a checkpoint.")
@click.option(
    "--fit", is_flag=True, help="Have the recipe end with these minutes: for rented time."
)
@click.option("--render-only", is_flag=True, help="Fill the cache, and stop.")
@click.option("--workers", type=int, help="Processes that render; 0: the cache is complete.")
@click.option("--threads", type=int, default=1, show_default=True, help="Of PyTorch on a CPU.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto")
@click.option(
    "--encoder", type=_PATH, help="ResNet-18 that resnet begins with: torchvision's state dict."
)
@click.option(
    "--export",
    type=_PATH,
    help="Convert this run: to OUT.safetensors, or with its figures and card into the folder OUT.",
)
@click.option("--ablate", help="Train and measure variants of this recipe: see ablations.yaml.")
@click.option("--card", type=_PATH, help="Write this folder's card again.")
@click.option("--measure", type=_PATH, help="Measure this folder at 256 pixels; write its card.")
@click.option(
    "--film",
    "films",
    multiple=True,
    type=_PATH,
    help="A video of a face that --export and --measure move by itself. May be given again.",
)
@click.option(
    "--compare-log",
    nargs=2,
    type=_PATH,
    help="Check that two runs of a recipe logged the same, as far as both got.",
)
def main(compare_log, card, measure, films, out, threads, export, **options):
    """Train the First Order Motion Model on rendered faces, and ship what was trained."""
    try:
        if compare_log:
            from studykit.training.log import compare_logs

            click.echo(compare_logs(*compare_log))
        elif card is not None:
            from studykit.training.card import write_card

            click.echo(write_card(card))
        elif measure is not None:
            from studykit.training import card as cards

            cards.measure(measure, say=_echo, sizes=(cards.SIZES[-1],), films=films)
            click.echo(cards.write_card(measure))
        elif out is None:
            raise StudyError("name a folder: --out DIR")
        elif options["fit"] and options["minutes"] is None:
            raise StudyError("--fit needs the minutes to fit into: add --minutes N")
        else:
            try:
                import torch
            except ImportError:
                text = 'training needs torch: pip install "torch>=2.2"'
                raise MissingPackageError(text) from None
            torch.set_num_threads(threads)
            if export is not None:
                _export(export, out, films)
            else:
                _train(torch, out, **options)
    except StudyError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)


def _export(run, out, films):
    from studykit.training.export import export_checkpoint, ship

    if out.suffix == ".safetensors":
        click.echo(export_checkpoint(run, out).summary())
    else:
        ship(run, out, films, say=_echo)


def _train(torch, out, *, config, device, cache, workers, render_only, ablate, **options):
    from studykit.methods.weights import load, locate
    from studykit.training.data import Cache
    from studykit.training.recipe import read_recipe
    from studykit.training.train import run

    if config is None and ablate is None:
        raise StudyError("name a recipe: --config synth-256, or a file")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if ablate is not None:
        from studykit.training.ablation import ablate as ablated

        work = {"workers": 1 if workers is None else workers, "device": device}
        click.echo(ablated(ablate, out, cache or out / "cache", **work, echo=_echo))
        return
    recipe = read_recipe(config, device)
    if recipe.start:
        load(locate(recipe.start))  # missing or damaged: said before anything is rendered
    frames = Cache(cache or out / "cache", recipe.data, recipe.held_out)
    frames.start(recipe.workers if workers is None else workers)
    try:
        if render_only:
            frames.wait(lambda count: click.echo(f"{count} of {recipe.data.identities} rendered"))
        else:
            run(recipe, out, frames, device=device, echo=_echo, **options)
    finally:
        frames.stop()


if __name__ == "__main__":
    # Workers inherit it; one thread each is what shares a machine best.
    os.environ.setdefault("NUMBA_NUM_THREADS", "1")
    main()
