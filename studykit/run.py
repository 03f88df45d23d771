"""From a study file to a report: Papermill executes the notebooks, one after the other."""

import hashlib
import logging
from pathlib import Path
from typing import Any

import studykit.report
from studykit import files
from studykit.clips import progress
from studykit.clips.animate import check_jobs
from studykit.clips.cells import CellTable
from studykit.clips.folder import notebook_path, study_folder
from studykit.clips.provenance import Equipped, equip_all, write_manifest
from studykit.errors import StudyError, StudyFileError, did_you_mean
from studykit.machine import threads
from studykit.report import page_key, write_page
from studykit.study.file import Study, load_study

NOTEBOOKS = ("1_inputs", "2_animate", "4_report")


def run_study(
    path: str | Path,
    *,
    out: str | Path | None = None,
    device: str = "auto",
    only: str | None = None,
    jobs: int = 1,
    scheduler: str | None = None,
) -> Path:
    """Run a study end to end and return the path of its report.

    What an earlier run has made and still holds is kept: a killed run goes on, a finished one is
    left alone, and a changed input, setting or weight makes just its own cells again.

    Parameters
    ----------
    path : path
        The study file.
    out : path, optional
        Where the results go; ``reports/<name>`` in the current folder by default.
    device : {"auto", "cpu", "gpu"}
        Where methods compute that can choose.
    only : str, optional
        A method's or a cell's name: nothing else is run.
    jobs : int
        How many processes of this machine make cells; its threads are divided among them.
    scheduler : str, optional
        The address of a Dask scheduler whose workers make them instead.

    Raises
    ------
    StudyError
        The study file is wrong, its folder can't be written, or a notebook failed.
    """
    study = load_study(path)
    if only is not None:
        study.check_only(only)
    methods = equip_all(study, device, only=only, placed=not scheduler)
    check_jobs(methods, jobs, scheduler)
    out = study_folder(study, out)
    files.remove_partial(out)
    clips, finished = _state(study, methods, out, only)
    report = out / "report.html"
    if finished and page_key(report) == _key(clips, study, out):
        return report
    parameters = {"study": str(study.path.resolve()), "out": str(out.resolve())}
    with progress.followed(out / ".progress.json"):
        execute_notebook("1_inputs", out / "notebooks", **parameters)
        execute_notebook(
            "2_animate",
            out / "notebooks",
            **parameters,
            device=device,
            only=only or "",
            jobs=jobs,
            scheduler=scheduler or "",
        )
    write_manifest(study, methods, out)
    measure(study, out, jobs=max(jobs, threads()), only=only)
    rehearse(study, out)
    return write_report(study, out, key=_key(clips, study, out))


def measure(study: Study, out: Path, *, jobs: int = 1, only: str | None = None) -> None:
    """Measure the clips that have no measurement yet, with a bar that counts them."""
    from tqdm.auto import tqdm

    from studykit.metrics import measure_study

    clips = sum(1 for _ in study.cells(only))
    with tqdm(total=clips, unit="clip", desc="measuring", delay=1, dynamic_ncols=True) as bar:
        measure_study(study, out, jobs=jobs, only=only, report=lambda _: bar.update())


def rehearse(study: Study, out: Path) -> None:
    """Simulate the raters that a study file asks for, into a store apart from people's."""
    wanted = study.ratings.simulated_raters
    if not wanted:
        return
    from studykit.ratings.simulate import simulate_into
    from studykit.ratings.store import open_store, place_to_write

    with open_store(place_to_write(study, out, simulated=True)) as store:
        missing = wanted - store.ratings(study.name)["rater"].nunique()
        if missing > 0:
            simulate_into(store, study, missing, seed=study.seed)


def write_report(study: Study, out: Path, *, key: str = "") -> Path:
    """Make the report of what is in a study's folder, and return its path.

    ``key`` names the run that the report shows, "" for one that was made by hand.
    """
    executed = execute_notebook(
        "4_report",
        out / "notebooks",
        study=str(study.path.resolve()),
        out=str(out.resolve()),
    )
    report = out / "report.html"
    write_page(executed, report, title=study.name, key=key)
    return report


def execute_notebook(name: str, folder: Path, **parameters: Any) -> Path:
    """Execute one of studykit's notebooks with Papermill and return the executed copy.

    Raises
    ------
    StudyFileError
        The notebook has no parameter of such a name (Papermill itself lets it pass).
    StudyError
        It failed; the executed copy shows where.
    """
    import papermill
    from nbclient.exceptions import DeadKernelError

    # Paddle, once imported, prints whatever is logged anywhere.
    logging.getLogger("papermill").setLevel(logging.WARNING)
    path, executed = notebook_path(name), folder / f"{name}.ipynb"
    known = papermill.inspect_notebook(str(path))
    for key in parameters:
        if key not in known:
            raise StudyFileError(
                f'notebook {name} has no parameter "{key}": {did_you_mean(key, known)}'
            )
    failure = None
    with files.whole(executed) as part:
        try:
            papermill.execute_notebook(
                str(path),
                str(part),
                parameters,
                kernel_name="python3",
                progress_bar=False,
                extra_arguments=["--log-level=CRITICAL"],  # ipykernel 7 warns of TCP at each start
            )
        except papermill.PapermillExecutionError as error:
            failure = StudyError(
                f"notebook {name} failed: {error.ename}: {error.evalue}; see {executed}"
            )
        except DeadKernelError:
            raise StudyError(
                f"the kernel of notebook {name} died, perhaps for want of memory: "
                "free some and run the same command, which goes on where it stopped"
            ) from None
    if failure is not None:
        raise failure
    return executed


def _state(
    study: Study, methods: dict[str, Equipped], out: Path, only: str | None
) -> tuple[str, bool]:
    """Return what names the clips that this run would report on, and whether they all hold."""
    digest, finished = hashlib.sha256(study.path.read_bytes()), True
    package = Path(studykit.report.__file__).parent.parent
    shown_by = [
        path
        for room in ("metrics", "report", "stats")
        for path in sorted((package / room).iterdir())
        if path.is_file()
    ]
    for path in (*map(notebook_path, NOTEBOOKS), *shown_by):
        digest.update(path.read_bytes())
    for cell, key, holds in CellTable(study, methods, out).cells(only):
        finished = finished and holds
        digest.update(f"{cell.name} {key}\n".encode())
    return digest.hexdigest(), finished


def _key(clips: str, study: Study, out: Path) -> str:
    """Return the key of the report of these clips and of the ratings that are there now."""
    return hashlib.sha256(f"{clips} {_ratings_state(study, out)}".encode()).hexdigest()


def _ratings_state(study: Study, out: Path) -> str:
    """Return what changes with every rating that is given or taken back, "" without a store."""
    from studykit.ratings.store import is_there, open_store, place_to_read

    place = place_to_read(study.name, out, study.ratings.store)
    if not is_there(place):
        return ""
    with open_store(place) as store:
        return f"{place} {store.state(study.name)}"
