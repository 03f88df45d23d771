"""The command line: each verb is one public function; an error a user can cause is one line."""

import contextlib
import gc
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import studykit
from studykit.errors import StudyError, did_you_mean

if TYPE_CHECKING:
    from studykit.ratings.store import Store
    from studykit.study.file import Study

FAILED_CELLS, WRONG_INPUT, INTERRUPTED = 1, 2, 130


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 some cells failed, 2 the user can fix it."""
    gc.set_threshold(50_000)  # imports leave none, and are looked through again and again
    # Beside anything else that runs, OpenBLAS's threads wait for each other at full speed, ten
    # times as long as one computes; the matrices here are small. Kernels inherit it.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        with _stopped_like_ctrl_c():
            sys.exit(studykit_command.main(arguments, "studykit", standalone_mode=False) or 0)
    except (click.exceptions.Abort, KeyboardInterrupt):
        _say("interrupted: the same command goes on where it stopped")
        sys.exit(INTERRUPTED)
    except click.ClickException as error:
        _say(error.format_message())
    except StudyError as error:
        _say(str(error))
    sys.exit(WRONG_INPUT)


@contextlib.contextmanager
def _stopped_like_ctrl_c() -> Iterator[None]:
    """Let a signal to end, or a terminal that closes, be an interrupt, after which all is tidy."""

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    before = {}
    if threading.current_thread() is threading.main_thread():
        for name in ("SIGTERM", "SIGHUP", "SIGBREAK"):  # no system has all of them
            number = getattr(signal, name, None)
            if number and signal.getsignal(number) is signal.SIG_DFL:  # nohup ignores one
                before[number] = signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _say(text: str) -> None:
    # A file's name or content must not command the terminal.
    shown = "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))
    click.echo(f"studykit: {shown}", err=True)


class _Verbs(click.Group):
    """A group that answers a misspelt verb with the nearest one."""

    def resolve_command(self, context: click.Context, arguments: list[str]) -> Any:
        if arguments and self.get_command(context, arguments[0]) is None:
            hint = did_you_mean(arguments[0], self.list_commands(context))
            raise click.UsageError(f'no command "{arguments[0]}": {hint}')
        return super().resolve_command(context, arguments)


class _Numbers(click.ParamType):
    """A word, a number, "X,Y" as a point, or "X,Y,SIDE" as a square: what a study file may say."""

    def __init__(self, name: str) -> None:
        self.name = name

    def convert(self, value: str, parameter: Any, context: Any) -> Any:
        try:
            numbers = [float(part) for part in value.split(",")]
        except ValueError:
            return value
        if len(numbers) == 3:
            return {"centre": numbers[:2], "side": numbers[2]}
        (number, *others) = numbers
        if others:
            return numbers
        return int(number) if number.is_integer() else number


_path = click.Path(path_type=Path)
_study_file = click.argument("study", type=_path)
_study = click.argument(
    "study", type=_path, callback=lambda _context, _parameter, path: studykit.load_study(path)
)
_out = click.option("--out", type=_path, help="Folder of the results [reports/<name>].")
_device = click.option(
    "--device", type=click.Choice(["auto", "cpu", "gpu"]), default="auto", show_default=True
)
_seed = click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
_store = click.option(
    "--store", default="", metavar="ADDRESS", help="Of a PostgreSQL database, or an SQLite file."
)


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(studykit.__version__, prog_name="studykit")
def studykit_command() -> None:
    """Studies of one-shot face animation: input matrix, clips and a report."""


@studykit_command.command()
@click.argument("folder", type=_path)
@click.option("--seed", default=8, show_default=True, type=click.IntRange(0))
def new(folder: Path, seed: int) -> None:
    """Write a first study into a new FOLDER: a study file, inputs and notebooks."""
    click.echo(studykit.new_study(folder, seed=seed))


@studykit_command.command()
@_study_file
@_out
@_device
@click.option("--only", metavar="METHOD|CELL", help="Run one method or one cell of the study.")
@click.option(
    "--jobs",
    default=1,
    show_default=True,
    type=click.IntRange(1),
    help="How many processes make cells.",
)
@click.option("--scheduler", metavar="ADDRESS", help="Of a Dask cluster whose workers make cells.")
@click.option("--remake", is_flag=True, help="Make clips again that people have rated, too.")
@click.option("--allow-commands", is_flag=True, help="Let the study file have programs run.")
def run(study: Path, only: str | None, allow_commands: bool, **settings: Any) -> int:
    """Run a study end to end; what is already made is kept."""
    from studykit.clips.cells import read_cells
    from studykit.methods.command import PERMISSION, programs_of

    if allow_commands:
        os.environ[PERMISSION] = "1"  # for notebooks' kernels, too
        for text in programs_of(studykit.load_study(study)).values():
            _say(text)
    report = studykit.run_study(study, only=only, **settings)
    table = report.parent / "cells.csv"
    rows = [row for row in read_cells(table).values() if only in (None, row.method, row.cell)]
    failed = sum(row.status == "failed" for row in rows)
    if failed:
        _say(f"{failed} of {len(rows)} cells failed: {table} says why")
    click.echo(report)
    return FAILED_CELLS if failed else 0


@studykit_command.command()
@click.argument("source", type=_path)
@click.argument("driving", type=_path)
@click.option("-o", "--output", "clip", required=True, type=_path)
@click.option(
    "--method",
    default="auto",
    show_default=True,
    help="auto: fomm for rendered inputs, warp for others.",
)
@click.option("--run", metavar="COMMAND", help="A program as the method, with {source} and so on.")
@click.option("--result", metavar="{folder}/NAME", help="Where the program's clip is.")
@click.option("--weights", metavar="NAME|PATH", help="A named checkpoint, or a file.")
@click.option("--config", metavar="YAML", help="The network's settings, for weights without any.")
@click.option("--relative/--absolute", default=None, help="Transfer motion or position.")
@click.option("--adapt-scale/--no-adapt-scale", default=None, help="Scale motion by face size.")
@click.option("--enhance", type=click.IntRange(1, 2), help="1 cleans frames; 2 doubles their size.")
@click.option("--device", type=click.Choice(["auto", "cpu", "gpu"]))
@click.option("--size", type=click.IntRange(64, 2048), help="Of the square in pixels [256].")
@click.option(
    "--crop",
    type=_Numbers("RULE|X,Y,SIDE"),
    help="face (the default), face-or-centre or centre, of both; or the driving's own square.",
)
@click.option("--source-crop", type=_Numbers("RULE|X,Y,SIDE"), help="Where it is another.")
@click.option("--face", type=_Numbers("N|X,Y"), help="Which face of the driving, from the left.")
@click.option("--source-face", type=_Numbers("N|X,Y"), help="Which face of the source.")
@click.option("--paste", is_flag=True, help="Show the whole source, its animated face in it.")
@click.option("--faces", default="one", type=click.Choice(["one", "all"]), help="Of the source.")
@click.option(
    "--finder",
    default="auto",
    show_default=True,
    type=click.Choice(["auto", "mediapipe", "dlib"]),
    help="What finds faces.",
)
@click.option("--margin", type=float, help="Around the driving's face, in face sizes [0.5].")
@click.option("--source-margin", type=float, help="Around the source's face.")
@click.option("--start", type=float, metavar="S", help="Of the driving, in seconds.")
@click.option("--end", type=float, metavar="S", help="Of the driving, in seconds.")
@click.option("--max-frames", type=int, metavar="N", help="No more of the driving.")
@click.option(
    "--faceless",
    type=click.Choice(["interpolate", "hold", "cut"]),
    help="What becomes of the driving's frames without a face [interpolate].",
)
@click.option(
    "--reference",
    type=_Numbers("first|best|S"),
    help="The frame that the driving's motion counts from: first, best, or its second.",
)
def animate(source: Path, driving: Path, clip: Path, **settings: Any) -> None:
    """Animate SOURCE (an image) with DRIVING (a video) into one clip."""
    given = {name: value for name, value in settings.items() if value is not None}
    still: dict[str, Any] = {"path": str(source)}
    moving: dict[str, Any] = {"path": str(driving)}
    for name in ("crop", "face", "margin"):
        if f"source_{name}" in given:
            still[name] = given.pop(f"source_{name}")
    for name in ("face", "margin", "start", "end", "max_frames", "reference", "faceless"):
        if name in given:
            moving[name] = given.pop(name)
    if (crop := given.pop("crop", None)) is not None:
        moving["crop"] = crop
        if isinstance(crop, str):
            still.setdefault("crop", crop)
    if "run" in given and given["method"] == "auto":
        given["method"] = "command"
    row = studykit.animate(still, moving, clip, **given)
    if row.note:
        _say(row.note)
    click.echo(f"{clip}: {row.frames} frames in {row.seconds:.1f} s")


@studykit_command.command()
@_study_file
@_out
def check(study: Path, out: Path | None) -> int:
    """List every problem of a study in one go, and say how long a run will take."""
    from studykit.clips.animate import say_time_needed
    from studykit.stats import check_plan
    from studykit.study.check import Problem
    from studykit.study.file import read_study

    problems = studykit.check_study(study)
    loaded, _ = read_study(study)
    try:
        check_plan(loaded)
    except StudyError as error:
        text = str(error).removeprefix(f"{loaded.path}: ")
        problems.insert(0, Problem(loaded.path, "error", text))
    for problem in problems:
        click.echo(f"{problem.level:8}{problem.path}: {problem.text}")
    counts = {level: sum(p.level == level for p in problems) for level in ("error", "warning")}
    parts = (f"{counts[kind]} {kind}{'s' * (counts[kind] != 1)}" for kind in ("error", "warning"))
    click.echo(", ".join(parts))
    if not counts["error"] and (text := say_time_needed(loaded, loaded.results_folder(out))):
        click.echo(text)
    return WRONG_INPUT if counts["error"] else 0


class _Rate(_Verbs):
    """A group that takes a study in place of a verb, and names the verb that an option was."""

    def parse_args(self, context: click.Context, arguments: list[str]) -> list[str]:
        for word in arguments:
            name = word.partition("=")[0].removeprefix("--")
            if word.startswith("--") and name in self.commands:
                _, *needed = self.commands[name].collect_usage_pieces(context)
                verb = " ".join(["studykit rate", name, *needed])
                raise click.UsageError(f"--{name} is a command of its own now: {verb}")
        if arguments and Path(arguments[0]).suffix in (".yaml", ".yml"):
            context.obj = arguments.pop(0)
        return super().parse_args(context, arguments)


@studykit_command.group(cls=_Rate, invoke_without_command=True)
@click.pass_context
def rate(context: click.Context) -> None:
    """Plan, simulate, collect and read ratings.

    People rate on the page that "studykit serve" opens, or in notebook 3.
    """
    if context.invoked_subcommand is None:
        if context.obj is not None:
            studykit.load_study(context.obj)
        page = f"studykit serve {context.obj or 'STUDY'}"
        click.echo(f"people rate on the page that `{page}` opens, or in notebook 3")


@rate.command("plan")
@_study
@click.option("--difference", default=0.5, show_default=True, help="In steps of the scale.")
@click.option("--power", default=0.8, show_default=True, help="The chance to see it.")
@click.option("--picture", type=_path, help="Draw the power over raters and stimuli: a .png file.")
@_seed
def plan_ratings(study: "Study", picture: Path | None, **settings: Any) -> None:
    """Say how many raters, sources and drivings the study needs to see a difference."""
    from studykit.stats.power import plan_raters

    plan = plan_raters(study, **settings)
    click.echo(plan)
    if picture is not None:
        from studykit.report.figures import power_map

        click.echo(power_map(picture.with_suffix(".png"), plan))


@rate.command("simulate")
@_study
@click.argument("raters", type=click.IntRange(1))
@_out
@_store
@_seed
def simulate_ratings(study: "Study", raters: int, out: Path | None, store: str, seed: int) -> None:
    """Add simulated RATERS, as a rehearsal, to a store of their own or to the one named."""
    from studykit.clips.folder import study_folder
    from studykit.ratings.simulate import simulate_into
    from studykit.ratings.store import open_store, place_to_write

    place = store or place_to_write(study, study_folder(study, out), simulated=True)
    with open_store(place) as opened:
        added = simulate_into(opened, study, raters, seed=seed)
        click.echo(f"{opened.place}: {added} ratings of simulated raters were added")


@rate.command("freeze")
@_study
@_out
@_store
@click.option("--late", is_flag=True, help="After the first answer, too; the plan says so.")
def freeze(study: "Study", out: Path | None, store: str, late: bool) -> None:
    """Write the study's plan down before anybody answers, with its SHA-256 and the time."""
    from studykit.clips.folder import study_folder
    from studykit.stats.preregistration import freeze_plan

    path, digest = freeze_plan(study, study_folder(study, out), store=store, late=late)
    click.echo(f"{path}\nSHA-256 {digest}")


@rate.command("status")
@_study
@_out
@_store
def show_status(study: "Study", out: Path | None, store: str) -> None:
    """Say how many rated what, and who is excluded."""
    from studykit.ratings.controls import available_clips
    from studykit.ratings.screening import rating_status

    with _collected(study, out, store) as opened:
        made = available_clips(study, study.results_folder(out))
        click.echo(rating_status(study, opened, made or None))


@rate.command("links")
@_study
@_out
@_store
@click.option("--raters", default=0, type=click.IntRange(0), help="Make links for so many.")
@click.option("--panel", is_flag=True, help="Make one that gives each visitor a rater.")
@click.option("--author", is_flag=True, help="Make one to the author's page.")
@click.option("--again", metavar="RATER", help="Make another for a rater, in place of the old one.")
@click.option("--revoke", metavar="RATER|panel|author", help="Close a rater's, or all of a kind.")
@click.option(
    "--days",
    default=60,
    show_default=True,
    type=click.IntRange(1),
    help="Days until the links expire.",
)
@click.option("--address", default="http://localhost:8866", show_default=True, metavar="URL")
def rating_links(
    study: "Study",
    out: Path | None,
    store: str,
    raters: int,
    panel: bool,
    author: bool,
    again: str | None,
    revoke: str | None,
    days: int,
    address: str,
) -> None:
    """Make links to the pages of `studykit serve`, close them, or list those that there are."""
    from studykit.clips.folder import study_folder
    from studykit.ratings.links import Kind, Links, link_path
    from studykit.ratings.store import open_store, place_to_write

    with open_store(store or place_to_write(study, study_folder(study, out))) as opened:
        links = Links(opened, study.name)
        if revoke:
            others: dict[str, Kind] = {"panel": "panel", "author": "author"}
            closed = links.revoke(revoke, others.get(revoke, "rater"))
            click.echo(f"{closed} links were closed")
        wanted: list[tuple[Kind, str]] = [("rater", "")] * raters
        if panel:
            wanted.append(("panel", ""))
        if author:
            wanted.append(("author", ""))
        if again:
            links.revoke(again)
            wanted.append(("rater", again))
        for kind, rater in wanted:
            secret, whose = links.make(kind, rater=rater, days=days)
            click.echo(f"{whose or kind:10} {address.rstrip('/')}{link_path(kind, secret)}")
        if not (wanted or revoke):
            for link in links.all():
                until = f"until {link.expires_at:%Y-%m-%d}" if link.state == "open" else link.state
                click.echo(f"{link.rater or link.kind:10} {until}")


@rate.command("export")
@_study
@click.argument("file", type=_path)
@_out
@_store
@click.option("--anonymous", is_flag=True, help="Without ids and times of day.")
def export_collected(
    study: "Study", file: Path, out: Path | None, store: str, anonymous: bool
) -> None:
    """Write the ratings to a FILE that ends in .csv or .parquet."""
    from studykit.ratings import exchange

    with _collected(study, out, store) as opened:
        ratings = opened.ratings(study.name)
        if anonymous:
            ratings = exchange.anonymous(ratings)
        click.echo(f"{exchange.export_ratings(ratings, file)}: {len(ratings)} ratings")


@rate.command("withdraw")
@_study
@click.argument("rater", metavar="ID")
@_out
@_store
def withdraw_rater(study: "Study", rater: str, out: Path | None, store: str) -> None:
    """Delete all answers of the rater with this ID for good."""
    from studykit.ratings.store import is_there, open_store, place_to_write

    place = store or place_to_write(study, study.results_folder(out))
    if not is_there(place):
        raise StudyError(f"no ratings of people in {place}: there is nothing to delete")
    with open_store(place) as opened:
        removed = opened.withdraw(study.name, rater)
    click.echo(
        f"{opened.place}: {removed} answers of the rater were deleted; make the report again, and "
        "delete exports and backups made before"
    )


@rate.command("import")
@_study
@click.argument("file", type=_path)
@_out
@_store
@click.option("--skip-bad", is_flag=True, help="Leave bad rows out.")
def import_collected(
    study: "Study", file: Path, out: Path | None, store: str, skip_bad: bool
) -> None:
    """Add ratings collected elsewhere, a FILE with the columns rater, cell, criterion, value."""
    from studykit.clips.folder import study_folder
    from studykit.ratings.exchange import BadRowsError, import_ratings, read_ratings_file
    from studykit.ratings.store import is_there, open_store, place_to_write

    place = store or place_to_write(study, study.results_folder(out))
    try:
        if not is_there(place):  # it is made for rows that it can take only
            read_ratings_file(study, file, skip_bad=skip_bad)
            if not store:
                study_folder(study, out)
        with open_store(place) as opened:
            done = import_ratings(opened, study, file, skip_bad=skip_bad)
    except BadRowsError as error:
        for row in error.rows:
            click.echo(row)
        raise
    for row in done.bad:
        click.echo(row)
    left_out = f", {len(done.bad)} bad rows left out" if done.bad else ""
    click.echo(f"{opened.place}: {len(done.ratings)} ratings were added{left_out}")


@rate.command("backup")
@_study
@click.argument("file", type=_path)
@_out
@_store
def back_ratings_up(study: "Study", file: Path, out: Path | None, store: str) -> None:
    """Copy the store of people's ratings into a new FILE, while raters rate."""
    from studykit.ratings.backup import back_up
    from studykit.ratings.store import place_to_write

    people = store or place_to_write(study, study.results_folder(out))  # never the rehearsal
    with _collected(study, out, str(people)) as opened:
        click.echo(back_up(opened, file))


@rate.command("restore")
@_study
@click.argument("file", type=_path)
@_out
@_store
@click.option("--force", is_flag=True, help="Replace answers that FILE lacks; a copy is kept.")
def restore_ratings(study: "Study", file: Path, out: Path | None, store: str, force: bool) -> None:
    """Put the ratings of a backup, FILE, in place of those in the store."""
    from studykit.clips.folder import study_folder
    from studykit.ratings.backup import restore
    from studykit.ratings.store import open_store, place_to_write

    folder = study_folder(study, out)
    with open_store(store or place_to_write(study, folder)) as opened:
        kept = restore(opened, study.name, file, folder, force=force)
        if kept:
            _say(f"what was replaced is in {kept}")
        click.echo(f"{opened.place}: {len(opened.ratings(study.name))} ratings")


def _collected(study: "Study", out: Path | None, store: str) -> "Store":
    """Open the store of the ratings that the study's report shows, which must be there."""
    from studykit.ratings.store import is_there, open_store, place_to_read

    place = store or place_to_read(study.name, study.results_folder(out), study.ratings.store)
    if not is_there(place):
        raise StudyError(f"no ratings yet in {place}: collect, import or simulate some")
    return open_store(place)


@studykit_command.command()
@click.argument("study", type=_path, required=False)
@_out
@_store
@click.option("--host", default="127.0.0.1", show_default=True, help="0.0.0.0 for other machines.")
@click.option("--port", default=8866, show_default=True, type=click.IntRange(0, 65535))
@click.option("--address", default="", metavar="URL", help="By which visitors reach the server.")
@click.option(
    "--limit",
    multiple=True,
    metavar="NAME=NUMBER",
    help="Another limit for uploads, such as seconds=90.",
)
def serve(study: Path | None, limit: tuple[str, ...], **settings: Any) -> None:
    """Show the pages of STUDY to whoever has a link: raters, and its author.

    Without STUDY, the page that animates what its visitors bring.
    """
    from studykit.pages.server import serve
    from studykit.pages.uploads import UploadLimits

    serve(study, uploads=UploadLimits.named(limit), **settings)


@studykit_command.command()
@_study_file
@click.argument("other", type=_path, required=False)
@click.option("--compare", is_flag=True, help="Set two studies side by side: files or folders.")
@_out
def report(study: Path, other: Path | None, compare: bool, out: Path | None) -> None:
    """Make the report again from what the study's folder holds; or --compare two studies."""
    from studykit.clips.folder import study_folder
    from studykit.run import write_report

    if compare != (other is not None):
        raise click.UsageError("two studies go with --compare, one without")
    if other is not None:
        click.echo(studykit.compare_studies(study, other, out))
        return
    loaded = studykit.load_study(study)
    found = studykit.load_results(study, loaded.results_folder(out))
    if not found.rows and not found.rated:
        raise StudyError(
            f"{study} was not run yet ({found.out} holds no clips): there is nothing to report; "
            f"studykit run {study} makes the clips and the report"
        )
    click.echo(write_report(loaded, study_folder(loaded, out)))


@studykit_command.command()
@_study_file
@click.argument("file", type=_path, required=False)
@_out
def archive(study: Path, file: Path | None, out: Path | None) -> None:
    """Write a study's clips, anonymous ratings, tables and report into one FILE to publish.

    A .zip, in the folder of the results where none is named.
    """
    click.echo(studykit.archive_study(study, file, out=out))


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
@click.argument("folder", type=_path)
@_seed
@click.option(
    "--identities",
    "identities_per_type",
    default=2,
    show_default=True,
    type=click.IntRange(1),
    help="A type.",
)
@click.option(
    "--drivings",
    "drivings_per_type",
    default=1,
    show_default=True,
    type=click.IntRange(1),
    help="A type.",
)
@click.option("--frames", default=48, show_default=True, type=click.IntRange(2), help="A driving.")
@click.option("--size", default=256, show_default=True, type=click.IntRange(64, 1024))
@click.option("--demo", is_flag=True, help="Write the inputs of the embedded study instead.")
def write_stimuli_files(folder: Path, demo: bool, **settings: int) -> None:
    """Render sources and drivings of the three types with their truth, and a study file."""
    from studykit.stimuli import write_demo_inputs

    if demo:
        for path in write_demo_inputs(folder):
            click.echo(path)
        return
    written = studykit.write_stimuli(folder, **settings)
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
    type=_path,
    help="Score the clips in a folder. May be given again.",
)
@click.option(
    "--film",
    "films",
    multiple=True,
    type=_path,
    help="A video of a face, which moves its own first frame. May be given again.",
)
@click.option("--write", "pairs", type=_path, help="Write sources and drivings, no more.")
@click.option("--out", default="reports/benchmark", show_default=True, type=_path)
@_seed
@click.option("--size", default=128, show_default=True, type=click.IntRange(64, 512))
@click.option("--identities", default=32, show_default=True, type=click.IntRange(8))
@click.option("--device", type=click.Choice(["auto", "cpu", "gpu"]), default="auto")
def benchmark(
    methods: tuple[str, ...],
    folders: tuple[Path, ...],
    films: tuple[Path, ...],
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
    given = contestants(asked, folders, device)
    scores = run_benchmark(given, out, films=films, say=_say, **settings)
    click.echo(table(scores), nl=False)
    click.echo(out / "summary.md")


@studykit_command.group(cls=_Verbs, invoke_without_command=True)
@click.pass_context
def cache(context: click.Context) -> None:
    """Show what is kept between runs; limit or clear it."""
    from studykit.cache import KINDS, cache_folder, contents

    if context.invoked_subcommand is None:
        click.echo(f"cache: {cache_folder()}")
        for kind, size in contents().items():
            click.echo(f"{kind:12}{size / 1e6:8.1f} MB  {KINDS[kind]}")


@cache.command("limit")
@click.argument("megabytes", type=click.IntRange(0))
def limit_cache(megabytes: int) -> None:
    """Remove what was not used for longest, until the rest is within so many MEGABYTES."""
    from studykit.cache import limit

    click.echo(f"{limit(megabytes * 1_000_000) / 1e6:.1f} MB were removed")


@cache.command("clear")
@click.argument("kinds", metavar="KIND...", nargs=-1, required=True)
def clear_cache(kinds: tuple[str, ...]) -> None:
    """Remove all that is kept of each KIND, as `studykit cache` lists them."""
    from studykit.cache import clear

    click.echo(f"{clear(*kinds) / 1e6:.1f} MB were removed")


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
@click.option("-o", "--output", required=True, type=_path)
@click.option("--config", metavar="YAML", help="The network's settings, if the file has none.")
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
@click.option("--out", default="reports/bench", show_default=True, type=_path)
@click.option("--threads", multiple=True, type=click.IntRange(1), help="May be given again.")
@click.option("--video", type=_path, help="A long driving, for the memory.")
@click.option("--quick", is_flag=True, help="Try the bench itself; its figures mean nothing.")
def bench(out: Path, threads: tuple[int, ...], video: Path | None, quick: bool) -> None:
    """Measure fomm beside PaddleGAN's own predictor, on the same weights and frames."""
    from studykit.bench import run_bench

    click.echo(run_bench(out, threads=threads, video=video, quick=quick))


@studykit_command.command()
def doctor() -> None:
    """Print versions, devices and weights, what is missing and the command that fixes it."""
    from studykit.doctor import diagnose, render

    click.echo(render(diagnose()))
