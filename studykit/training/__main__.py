"""``python -m studykit.training`` trains, prepares a cache or exports a checkpoint."""

import os
import sys
from pathlib import Path

import click

from studykit.errors import MissingPackageError, StudyError


@click.command()
@click.option("--config", help="Recipe: a file, or the name of one in studykit/training/recipes.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the run, or of the export.")
@click.option("--cache", type=click.Path(path_type=Path), help="Rendered frames [OUT/cache].")
@click.option("--resume", is_flag=True, help="Go on from the checkpoint in OUT.")
@click.option("--minutes", type=float, help="Stop after so many minutes, with a checkpoint.")
@click.option("--render-only", is_flag=True, help="Fill the cache, and stop.")
@click.option("--workers", type=int, help="Processes that render; 0: the cache is complete.")
@click.option("--threads", type=int, default=1, show_default=True, help="Of PyTorch on a CPU.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto")
@click.option("--export", type=click.Path(path_type=Path), help="Convert this checkpoint.pt.")
def main(config, out, cache, resume, minutes, render_only, workers, threads, device, export):
    """Train the First Order Motion Model on rendered faces."""
    try:
        if out is None:
            raise StudyError("name a folder: --out DIR")
        torch = _import_torch()
        torch.set_num_threads(threads)
        if export is not None:
            from studykit.training.export import export_checkpoint

            click.echo(export_checkpoint(export, out).summary())
            return
        if config is None:
            raise StudyError("name a recipe: --config synth-128, or a file")
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        _train(config, out, cache, resume, minutes, render_only, workers, device)
    except StudyError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)


def _train(config, out, cache, resume, minutes, render_only, workers, device):
    from studykit.training.data import Cache
    from studykit.training.recipe import read_recipe
    from studykit.training.train import run

    recipe = read_recipe(config, device)
    frames = Cache(cache or out / "cache", recipe.data, recipe.held_out)
    frames.start(recipe.workers if workers is None else workers)
    try:
        if render_only:
            frames.wait(lambda count: click.echo(f"{count} of {recipe.data.identities} rendered"))
        else:
            run(recipe, out, frames, device=device, resume=resume, minutes=minutes, echo=_echo)
    finally:
        frames.stop()


def _echo(line):
    print(line, flush=True)


def _import_torch():
    try:
        import torch
    except ImportError:
        raise MissingPackageError('training needs torch: pip install "studykit[train]"') from None
    return torch


if __name__ == "__main__":
    # Workers inherit it; one thread each is what shares a machine best.
    os.environ.setdefault("NUMBA_NUM_THREADS", "1")
    main()
