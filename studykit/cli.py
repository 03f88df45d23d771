"""The command line: each verb is one public function; an error a user can cause is one line."""

import sys
from pathlib import Path
from typing import Any

import click

import studykit
from studykit.errors import StudyError, did_you_mean

FAILED_CELLS, WRONG_INPUT, INTERRUPTED = 1, 2, 130


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 some cells failed, 2 the user can mend it."""
    try:
        sys.exit(studykit_command.main(arguments, "studykit", standalone_mode=False) or 0)
    except click.exceptions.Abort:
        sys.exit(INTERRUPTED)
    except click.ClickException as error:
        _fail(error.format_message())
    except StudyError as error:
        _fail(str(error))
    except KeyboardInterrupt:
        _say("interrupted: the same command goes on where it stopped")
        sys.exit(INTERRUPTED)


def _say(text: str) -> None:
    click.echo(f"studykit: {' '.join(text.split())}", err=True)


def _fail(text: str) -> None:
    _say(text)
    sys.exit(WRONG_INPUT)


class _Verbs(click.Group):
    """A group that answers a misspelt verb with the nearest one."""

    def resolve_command(self, context: click.Context, arguments: list[str]) -> Any:
        if arguments and self.get_command(context, arguments[0]) is None:
            hint = did_you_mean(arguments[0], self.list_commands(context))
            raise click.UsageError(f'no command "{arguments[0]}": {hint}')
        return super().resolve_command(context, arguments)


_study_argument = click.argument("study", type=click.Path(path_type=Path))
_out_option = click.option(
    "--out", type=click.Path(path_type=Path), help="Folder of the results [reports/<name>]."
)
_device_option = click.option(
    "--device", type=click.Choice(["auto", "cpu", "gpu"]), default="auto", show_default=True
)


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(studykit.__version__, prog_name="studykit")
def studykit_command() -> None:
    """Studies of one-shot face animation: input matrix, clips and a report."""


@studykit_command.command()
@_study_argument
@_out_option
@_device_option
@click.option("--only", metavar="METHOD|CELL", help="Run one method or one cell of the study.")
@click.option(
    "--jobs",
    default=1,
    show_default=True,
    type=click.IntRange(1),
    help="How many processes make cells.",
)
@click.option("--scheduler", metavar="ADDRESS", help="Of a Dask cluster whose workers make cells.")
def run(
    study: Path,
    out: Path | None,
    device: str,
    only: str | None,
    jobs: int,
    scheduler: str | None,
) -> int:
    """Run a study end to end; what is already made is kept."""
    from studykit.clips.cells import read_cells
    from studykit.run import run_study

    report = run_study(study, out=out, device=device, only=only, jobs=jobs, scheduler=scheduler)
    table = report.parent / "cells.csv"
    rows = [row for row in read_cells(table).values() if only in (None, row.method, row.cell)]
    statuses = [row.status for row in rows]
    failed = statuses.count("failed")
    if failed:
        _say(f"{failed} of {len(statuses)} cells failed: {table} says why")
    click.echo(report)
    return FAILED_CELLS if failed else 0


@studykit_command.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("driving", type=click.Path(path_type=Path))
@click.option("-o", "--output", "clip", required=True, type=click.Path(path_type=Path))
@click.option("--method", default="fomm", show_default=True)
@click.option("--weights", metavar="NAME|PATH", help="A named checkpoint, or a file.")
@click.option("--config", metavar="YAML", help="The network's settings, for weights without any.")
@click.option("--relative/--absolute", default=None, help="Transfer motion or position.")
@click.option("--adapt-scale/--no-adapt-scale", default=None, help="Scale motion by face size.")
@click.option("--device", type=click.Choice(["auto", "cpu", "gpu"]))
@click.option("--size", default=256, show_default=True, type=click.IntRange(64, 2048))
@click.option(
    "--crop",
    default="face",
    show_default=True,
    type=click.Choice(["face", "face-or-centre", "centre"]),
)
def animate(source: Path, driving: Path, clip: Path, method: str, size: int, crop: str, **settings):
    """Animate SOURCE (an image) with DRIVING (a video) into one clip."""
    from studykit.clips.animate import animate

    given = {key: value for key, value in settings.items() if value is not None}
    row = animate(source, driving, clip, method=method, size=size, crop=crop, **given)
    if row.note:
        _say(row.note)
    click.echo(f"{clip}: {row.frames} frames in {row.seconds:.1f} s")


@studykit_command.command()
@_study_argument
def check(study: Path) -> int:
    """List every problem of a study's inputs in one go."""
    from studykit.methods import create_methods
    from studykit.study.check import check_study
    from studykit.study.file import load_study

    loaded = load_study(study)
    create_methods(loaded)
    problems = check_study(loaded)
    for problem in problems:
        click.echo(f"{problem.level:8}{problem.path}: {problem.text}")
    counts = {level: sum(p.level == level for p in problems) for level in ("error", "warning")}
    click.echo(
        f"{len(loaded.sources)} sources, {len(loaded.drivings)} drivings: "
        f"{counts['error']} errors, {counts['warning']} warnings"
    )
    return WRONG_INPUT if counts["error"] else 0


@studykit_command.command()
@_study_argument
@_out_option
@click.option("--store", metavar="ADDRESS", help="Of a PostgreSQL database, or an SQLite file.")
@click.option("--status", is_flag=True, help="Say how many rated what, and who is excluded.")
@click.option("--simulate", type=click.IntRange(1), metavar="N", help="Add N simulated raters.")
@click.option("--plan", is_flag=True, help="Say how many raters the study needs.")
@click.option("--export", type=click.Path(path_type=Path), help="Write ratings: .csv or .parquet.")
@click.option(
    "--import",
    "collected",
    type=click.Path(path_type=Path),
    help="Add ratings collected elsewhere: rater, cell, criterion, value.",
)
@click.option("--seed", type=click.IntRange(0), help="With --simulate and --plan [0].")
@click.option("--difference", type=float, help="With --plan: in steps of the scale [0.5].")
@click.option("--power", type=float, help="With --plan: the chance to see it [0.8].")
@click.option("--skip-bad", is_flag=True, default=None, help="With --import: leave bad rows out.")
def rate(study: Path, out: Path | None, store: str | None, **actions: Any) -> None:
    """Collect ratings: simulate, plan, import, export, or say how far it is.

    People rate on the page that "studykit serve" opens, or in notebook 3.
    """
    from studykit.ratings.exchange import export_ratings
    from studykit.ratings.screening import rating_status
    from studykit.ratings.simulate import simulate_into
    from studykit.stats.power import plan_raters
    from studykit.study.file import load_study

    action, settings = _one_action(actions)
    loaded = load_study(study)
    if action is None:
        click.echo(f"people rate on the page that `studykit serve {study}` opens, or in notebook 3")
        return
    if action == "plan":
        click.echo(plan_raters(loaded, **settings))
        return
    if action == "collected":
        _import_ratings(loaded, out, store, actions["collected"], **settings)
        return
    with _ratings_store(action, loaded, out, store) as opened:
        if action == "simulate":
            added = simulate_into(opened, loaded, actions["simulate"], **settings)
            click.echo(f"{opened.place}: {added} ratings of simulated raters were added")
        elif action == "export":
            ratings = opened.ratings(loaded.name)
            click.echo(f"{export_ratings(ratings, actions['export'])}: {len(ratings)} ratings")
        else:
            click.echo(rating_status(loaded, opened))


def _import_ratings(
    study: Any, out: Path | None, store: str | None, path: Path, **settings: Any
) -> None:
    """Add a file's ratings; a store that is not there is made for rows that it can take only."""
    from studykit.ratings.exchange import BadRowsError, import_ratings, read_ratings_file
    from studykit.ratings.store import is_there, place_to_write

    try:
        if not is_there(store or place_to_write(study, _folder(study, out))):
            read_ratings_file(study, path, **settings)
        with _ratings_store("collected", study, out, store) as opened:
            done = import_ratings(opened, study, path, **settings)
    except BadRowsError as error:
        for row in error.rows:
            click.echo(row)
        raise
    for row in done.bad:
        click.echo(row)
    left_out = f", {len(done.bad)} bad rows left out" if done.bad else ""
    click.echo(f"{opened.place}: {len(done.ratings)} ratings were added{left_out}")


def _folder(study: Any, out: Path | None) -> Path:
    """Return the folder of a study's results, which need not be there."""
    return out or Path("reports") / study.name


def _ratings_store(action: str, study: Any, out: Path | None, store: str | None) -> Any:
    """Open the store of an action; where none is named, simulated raters have their own."""
    from studykit.clips.folder import study_folder
    from studykit.ratings.store import is_there, open_store, place_to_read, place_to_write

    if action in ("status", "export"):
        place = store or place_to_read(study.name, _folder(study, out), study.ratings.store)
        if not is_there(place):
            raise StudyError(f"no ratings yet in {place}: collect, import or simulate some")
        return open_store(place)
    if store:
        return open_store(store)
    folder = study_folder(study, out)
    return open_store(place_to_write(study, folder, simulated=action == "simulate"))


_SETTINGS_OF_ACTIONS = {
    "status": (),
    "simulate": ("seed",),
    "plan": ("seed", "difference", "power"),
    "export": (),
    "collected": ("skip_bad",),
}
_OPTIONS = {"collected": "import"}


def _one_action(given: dict[str, Any]) -> tuple[str | None, dict[str, Any]]:
    """Return the one action that was asked for and its settings, refusing any other."""

    def option(name: str) -> str:
        return "--" + _OPTIONS.get(name, name).replace("_", "-")

    asked = [name for name in _SETTINGS_OF_ACTIONS if given[name]]
    if len(asked) > 1:
        raise click.UsageError(f"{' and '.join(map(option, asked))}: choose one")
    action = asked[0] if asked else None
    settings = {
        name: value
        for name, value in given.items()
        if name not in _SETTINGS_OF_ACTIONS and value is not None
    }
    for name in settings:
        if name not in _SETTINGS_OF_ACTIONS.get(action, ()):
            homes = [option(home) for home, own in _SETTINGS_OF_ACTIONS.items() if name in own]
            raise click.UsageError(f"{option(name)} goes with {' or '.join(homes)}")
    return action, settings


@studykit_command.command()
@_study_argument
@_out_option
@click.option("--store", default="", metavar="ADDRESS", help="Of the ratings [the study's own].")
@click.option("--host", default="127.0.0.1", show_default=True, help="0.0.0.0 for other machines.")
@click.option("--port", default=8866, show_default=True, type=click.IntRange(0, 65535))
def serve(study: Path, out: Path | None, store: str, host: str, port: int) -> None:
    """Show the rating page to raters who have a browser only."""
    from studykit.ratings.serve import serve

    serve(study, out=out, store=store, host=host, port=port)


@studykit_command.command()
@click.argument("study", type=click.Path(path_type=Path))
@click.argument("other", type=click.Path(path_type=Path), required=False)
@click.option("--compare", is_flag=True, help="Set two studies side by side: files or folders.")
@_out_option
def report(study: Path, other: Path | None, compare: bool, out: Path | None) -> None:
    """Make the report again from what the study's folder holds; or --compare two studies."""
    from studykit.clips.folder import study_folder
    from studykit.report import compare_studies
    from studykit.run import write_report
    from studykit.study.file import load_study

    if compare != (other is not None):
        raise click.UsageError("two studies go with --compare, one without")
    if other is not None:
        click.echo(compare_studies(study, other, out))
        return
    loaded = load_study(study)
    click.echo(write_report(loaded, study_folder(loaded, out)))


class _Stimuli(_Verbs):
    """A group whose verb ``write`` may be left out: ``studykit stimuli FOLDER``."""

    def parse_args(self, context: click.Context, arguments: list[str]) -> list[str]:
        if arguments and arguments[0] not in (*self.commands, "-h", "--help"):
            arguments = ["write", *arguments]
        return super().parse_args(context, arguments)


@studykit_command.group(cls=_Stimuli)
def stimuli() -> None:
    """Render faces with their truth, and score methods by them; FOLDER alone means write."""


@stimuli.command("write")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0))
@click.option("--identities", default=2, show_default=True, type=click.IntRange(1), help="A type.")
@click.option("--drivings", default=1, show_default=True, type=click.IntRange(1), help="A type.")
@click.option("--frames", default=48, show_default=True, type=click.IntRange(2), help="A driving.")
@click.option("--size", default=256, show_default=True, type=click.IntRange(64, 1024))
@click.option("--demo", is_flag=True, help="Write the inputs of the embedded study instead.")
def write_stimuli_files(
    folder: Path, seed: int, identities: int, drivings: int, frames: int, size: int, demo: bool
) -> None:
    """Render sources and drivings of the three types with their truth, and a study file."""
    from studykit.stimuli import write_demo_inputs, write_stimuli

    if demo:
        for path in write_demo_inputs(folder):
            click.echo(path)
        return
    written = write_stimuli(
        folder,
        seed=seed,
        identities_per_type=identities,
        drivings_per_type=drivings,
        frames=frames,
        size=size,
    )
    click.echo(f"{len(written)} stimuli and {folder / 'study.yaml'}")


@stimuli.command("benchmark")
@click.option(
    "--method",
    "methods",
    multiple=True,
    metavar="NAME|MAPPING",
    help="As in a study file: a name, or a mapping with its settings. May be given again.",
)
@click.option(
    "--clips",
    "folders",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Score the clips in a folder. May be given again.",
)
@click.option(
    "--write", "pairs", type=click.Path(path_type=Path), help="Write sources and drivings, no more."
)
@click.option(
    "--out", default="reports/benchmark", show_default=True, type=click.Path(path_type=Path)
)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0))
@click.option("--size", default=128, show_default=True, type=click.IntRange(64, 512))
@click.option("--identities", default=32, show_default=True, type=click.IntRange(8))
@click.option("--device", type=click.Choice(["auto", "cpu", "gpu"]), default="auto")
def benchmark(
    methods: tuple[str, ...],
    folders: tuple[Path, ...],
    pairs: Path | None,
    out: Path,
    device: str,
    **settings: int,
) -> None:
    """Score methods on held-out rendered faces, moved as they and as others move.

    Without --method: fomm and warp. Clips made elsewhere: --write DIR gives sources, drivings and
    the names of the clips to make, --clips DIR scores them.
    """
    from studykit.metrics.benchmark import contestants, run_benchmark, table, write_pairs

    if pairs is not None:
        click.echo(write_pairs(pairs, say=_say, **settings))
        return
    asked = [*methods, *([] if methods or folders else ["fomm", "warp"])]
    scores = run_benchmark(contestants(asked, folders, device), out, say=_say, **settings)
    click.echo(table(scores), nl=False)
    click.echo(out / "summary.md")


@studykit_command.group(cls=_Verbs)
def weights() -> None:
    """Find, fetch and convert checkpoints."""


@weights.command("list")
def list_weights() -> None:
    """List the named checkpoints and what is in the cache."""
    from studykit.cache import cache_folder
    from studykit.methods.weights import status

    click.echo(f"cache: {cache_folder()}")
    for entry in status():
        there = f"{entry.size / 1e6:.0f} MB, {entry.path}"
        shipped = "" if entry.address else "shipped, "
        click.echo(f"{entry.name:12}{shipped + there if entry.cached else 'not fetched'}")


@weights.command("fetch")
@click.argument("name")
def fetch_weights(name: str) -> None:
    """Fetch a named checkpoint into the cache, or verify the one that is there."""
    from studykit.methods.weights import locate, sha256

    path = locate(name)
    click.echo(f"{path}\nSHA-256 {sha256(path)}")


@weights.command("convert")
@click.argument("checkpoint", metavar="NAME|PATH")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path))
@click.option("--config", metavar="YAML", help="The network's settings, if the file tells none.")
def convert_weights(checkpoint: str, output: Path, config: str | None) -> None:
    """Read a checkpoint safely (.pdparams, .pth.tar) and write it as safetensors.

    An output ending in .pdparams is for PaddleGAN's own predictor, with its YAML file beside.
    """
    from studykit.methods.checkpoint_files import save, save_for_ppgan
    from studykit.methods.weights import load

    loaded = load(checkpoint, config)
    if output.suffix == ".pdparams":
        click.echo(save_for_ppgan(loaded, output))
    else:
        save(loaded, output)
    click.echo(output)


@studykit_command.command()
@click.option("--out", default="reports/bench", show_default=True, type=click.Path(path_type=Path))
@click.option("--threads", multiple=True, type=click.IntRange(1), help="May be given again.")
@click.option("--video", type=click.Path(path_type=Path), help="A long driving, for the memory.")
@click.option("--quick", is_flag=True, help="Try the bench itself; its figures mean nothing.")
def bench(out: Path, threads: tuple[int, ...], video: Path | None, quick: bool) -> None:
    """Measure fomm beside PaddleGAN's own predictor, on the same weights and frames."""
    from studykit.bench import run_bench

    click.echo(run_bench(out, threads=threads, video=video, quick=quick))


@studykit_command.command()
def doctor() -> None:
    """Print versions, devices and weights, what is missing and the command that mends it."""
    from studykit.doctor import diagnose, render

    click.echo(render(diagnose()))
