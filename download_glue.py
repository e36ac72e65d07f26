"""Download the GLUE tasks, each into a folder of its own.

    python download_glue.py
    python download_glue.py --data_dir data/glue_data --tasks RTE,SST,CoLA,MRPC
    python download_glue.py --tasks MRPC --path_to_mrpc my_downloads/mrpc
    python download_glue.py --from_local my_downloads --offline

A task's folder appears when it is complete and checked, or not at all; complete ones are left as
they are. What arrives is compared with the checksums in files/known_downloads.json; an interrupted download
is resumed by the next call. MRPC is put together from Microsoft's two files and the list of
development pairs.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from cli.data_flags import add_network_flags
from cli.help import script_parser
from files.archives import unpack_zip
from files.errors import UserError, run_script
from files.known_downloads import by_hand, obtain
from files.locks import sole_writer
from files.origins import note_glue
from tasks.glue import TASKS
from tasks.mrpc import make_mrpc
from tasks.task import Task

BASE_URL = "https://dl.fbaipublicfiles.com"
# Command-line name -> (key of tasks.glue.TASKS, path below BASE_URL).
SOURCES = {
    "CoLA": ("cola", "glue/data/CoLA.zip"),
    "SST": ("sst2", "glue/data/SST-2.zip"),
    "MRPC": ("mrpc", "senteval/senteval_data/msr_paraphrase_{}.txt"),
    "QQP": ("qqp", "glue/data/QQP-clean.zip"),
    "STS": ("stsb", "glue/data/STS-B.zip"),
    "MNLI": ("mnli", "glue/data/MNLI.zip"),
    "QNLI": ("qnli", "glue/data/QNLIv2.zip"),
    "RTE": ("rte", "glue/data/RTE.zip"),
    "WNLI": ("wnli", "glue/data/WNLI.zip"),
    "diagnostic": ("ax", "glue/data/AX.tsv"),
}
MRPC_PARTS = ("train", "test")
MRPC_DEV_IDS = "glue/data/mrpc_dev_ids.tsv"
LARGEST_UNPACKED = 4 << 30  # the largest archive, MNLI, unpacks to 1.3 GB


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = script_parser(__doc__)
    group = parser.add_argument_group("inputs and output")
    group.add_argument("--data_dir", default="glue_data", help="folder for the task folders")
    group.add_argument(
        "--tasks", default="all", help=f"comma-separated list of {', '.join(SOURCES)}, or all"
    )
    group.add_argument(
        "--path_to_mrpc",
        metavar="DIR",
        default="",
        help="folder with msr_paraphrase_train.txt and msr_paraphrase_test.txt, and "
        "mrpc_dev_ids.tsv if you have it, instead of a download",
    )
    group.add_argument(
        "--from_local",
        metavar="DIR",
        help="folder with files fetched by hand, under their own names; they are not downloaded",
    )
    add_network_flags(
        parser,
        "address that serves the same paths as the default one",
        default=BASE_URL,
        then=" (for --from_local)",
    )
    args = parser.parse_args(argv)
    for flag in ("path_to_mrpc", "from_local"):
        if (folder := getattr(args, flag)) and not Path(folder).is_dir():
            raise UserError(f"--{flag} {folder}: no such folder")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    names = choose_tasks(args.tasks)
    failed = []
    for name in names:
        key, source = SOURCES[name]
        task = TASKS[key]
        target = Path(args.data_dir) / task.folder
        try:
            if is_complete(task, target):
                print(f"{target}: already there")
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with sole_writer(target):
                if not is_complete(task, target):  # another process may have been faster
                    if not args.offline:
                        print(f"{target}: downloading", flush=True)
                    get_task(task, source, target, args)
        except UserError as error:  # one blocked file must not cost the other tasks
            if len(names) == 1:
                raise
            print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
            failed.append(name)
    if failed:
        raise UserError(
            f"--tasks {','.join(failed)}: not downloaded; see above, then run this again"
        )
    return 0


def get_task(task: Task, source: str, target: Path, args: argparse.Namespace) -> None:
    """Make the folder of a task from what is received: complete or not at all."""
    received = target.parent / f".{task.folder}.download"
    files = get_files(task, source, received, args)
    try:
        with tempfile.TemporaryDirectory(
            prefix=f".{task.folder}.", suffix=".part", dir=target.parent
        ) as work:
            folder = make_task(task, list(files.values()), Path(work))
            check_headers(task, folder)
            note_glue(folder, file_names(task), files)
            os.replace(folder, target)
    finally:  # what is damaged must not be resumed, what is done is not needed
        shutil.rmtree(received, ignore_errors=True)


def choose_tasks(text: str) -> list[str]:
    """Return keys of SOURCES for a comma-separated list in any case; SST-2 and STS-B will do."""
    known = {name.lower(): name for name in SOURCES}
    known |= {TASKS[key].folder.lower(): name for name, (key, _) in SOURCES.items()}
    asked = [part.strip() for part in text.split(",") if part.strip()]
    if "all" in map(str.lower, asked):
        return list(SOURCES)
    unknown = [part for part in asked if part.lower() not in known]
    if unknown or not asked:
        raise UserError(
            f"--tasks {', '.join(unknown)}: expected some of {', '.join(SOURCES)}, or all"
        )
    return list(dict.fromkeys(known[part.lower()] for part in asked))


def file_names(task: Task) -> list[str]:
    train = ["train.tsv"] if task.has_train else []
    return [*train, *task.dev_files.values(), *task.test_files.values()]


def is_complete(task: Task, folder: Path) -> bool:
    """Whether a task's folder holds its files; False if there is no such folder.

    Raises:
        UserError: some files are missing.
    """
    if not folder.exists():
        return False
    missing = [name for name in file_names(task) if not (folder / name).is_file()]
    if missing:
        raise UserError(f"{folder}: exists but lacks {', '.join(missing)}; add them or remove it")
    return True


def get_files(task: Task, source: str, received: Path, args: argparse.Namespace) -> dict[str, Path]:
    """Return what a task is made of: from the user's folders, received before, or received now.

    The keys are the public addresses; a file that nothing vouches for stands under its own path.

    Raises:
        UserError: something cannot be fetched; with --offline the message lists all that is missing.
    """
    paths = [source]
    if task.key == "mrpc":
        paths = [*(source.format(part) for part in MRPC_PARTS), MRPC_DEV_IDS]
    places = {f"{BASE_URL}/{path}": received / Path(path).name for path in paths}
    own = []  # of --path_to_mrpc: Microsoft's installer writes other line ends, so no checksum fits
    for url, place in places.items():
        if args.from_local and (Path(args.from_local) / place.name).is_file():
            places[url] = Path(args.from_local) / place.name
        if task.key == "mrpc" and args.path_to_mrpc:
            mine = Path(args.path_to_mrpc) / place.name
            if mine.is_file():
                places[url] = mine
                own.append(url)
    absent = [by_hand(url, place) for url, place in places.items() if not place.is_file()]
    if args.offline and absent:
        told = f"{task.folder}: nothing is fetched with --offline; {'; '.join(absent)}"
        raise UserError(f"{told}; or name the folder that holds the files with --from_local")
    files = {}  # in the order of `paths`
    for url, place in places.items():
        if url in own:
            files[str(place)] = place
        else:
            files[url] = obtain(url, place, mirror=args.mirror)
    return files


def make_task(task: Task, files: list[Path], work: Path) -> Path:
    """Make the complete task folder somewhere below `work` and return it."""
    if task.key == "mrpc":
        make_mrpc(*files, work / task.folder)
        return work / task.folder
    if task.key == "ax":
        (work / task.folder).mkdir()
        shutil.copyfile(files[0], work / task.folder / task.test_files["test"])
        return work / task.folder
    unpack_zip(
        files[0],
        work / "unpacked",
        str(files[0]),
        LARGEST_UNPACKED,
        wanted=lambda name: not name.startswith("__MACOSX/"),
    )
    first = file_names(task)[0]
    candidates = sorted((work / "unpacked").rglob(first), key=lambda path: len(path.parts))
    for path in candidates:
        if all((path.parent / name).is_file() for name in file_names(task)):
            return path.parent
    raise UserError(f"{files[0]}: holds no folder with {', '.join(file_names(task))}")


def check_headers(task: Task, folder: Path) -> None:
    """Refuse files that are not what their names say: an error page, a wrong column count."""
    for name in file_names(task):
        is_test = name in task.test_files.values()
        columns = task.test_columns if is_test else task.columns
        needed = max(column for column in columns if column is not None) + 1
        with open(folder / name, "rb") as file:
            first, second = file.readline(), file.readline()
        for number, line in enumerate((first, second), start=1):
            found = line.count(b"\t") + 1
            if found < needed:
                raise UserError(
                    f"{task.folder}/{name}:{number}: {found} columns in the download; "
                    f"expected at least {needed}"
                )


if __name__ == "__main__":
    run_script(main)
