"""Download the GLUE tasks, each into a folder of its own.

    python download_glue.py
    python download_glue.py --data_dir data/glue_data --tasks RTE,SST,CoLA,MRPC
    python download_glue.py --tasks MRPC --path_to_mrpc my_downloads/mrpc

A task's folder appears when it is complete and checked, or not at all; complete ones are left as
they are. MRPC is put together from Microsoft's two files and the list of development pairs.
"""

from __future__ import annotations

import argparse
import os
import shutil
import stat
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from tasks.glue import TASKS, GlueTask
from transformer.download import download
from transformer.errors import UserError, run_script

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
MRPC_HEADER = "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n"  # GLUE's own has the mark, too
MRPC_TEST_HEADER = "index\t#1 ID\t#2 ID\t#1 String\t#2 String\n"
LARGEST_UNPACKED = 4 << 30  # the largest archive, MNLI, unpacks to 1.3 GB


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--data_dir", default="glue_data", help="folder for the task folders")
    parser.add_argument(
        "--tasks", default="all", help=f"comma-separated list of {', '.join(SOURCES)}, or all"
    )
    parser.add_argument(
        "--path_to_mrpc",
        default="",
        help="folder with msr_paraphrase_train.txt and msr_paraphrase_test.txt, and "
        "mrpc_dev_ids.tsv if you have it, instead of a download",
    )
    parser.add_argument(
        "--mirror", default=BASE_URL, help="address that serves the same paths as the default one"
    )
    return parser.parse_args(argv)


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
            print(f"{target}: downloading", flush=True)
            with tempfile.TemporaryDirectory(
                prefix=f".{task.folder}.", suffix=".part", dir=target.parent
            ) as work:
                folder = make_task(task, source, Path(work), args.mirror, args.path_to_mrpc)
                check_headers(task, folder)
                os.replace(folder, target)
        except UserError as error:  # one blocked file is no reason to go without the other tasks
            if len(names) == 1:
                raise
            print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
            failed.append(name)
    if failed:
        raise UserError(
            f"--tasks {','.join(failed)}: not downloaded; see above, then run this again"
        )
    return 0


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


def file_names(task: GlueTask) -> list[str]:
    train = ["train.tsv"] if task.has_train else []
    return [*train, *task.dev_files.values(), *task.test_files.values()]


def is_complete(task: GlueTask, folder: Path) -> bool:
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


def make_task(task: GlueTask, source: str, work: Path, mirror: str, path_to_mrpc: str) -> Path:
    """Make the complete task folder somewhere below `work` and return it."""
    url = f"{mirror.rstrip('/')}/"
    if task.key == "mrpc":
        return make_mrpc(url, source, work, path_to_mrpc)
    if task.key == "ax":
        download(url + source, work / task.folder / task.test_files["test"])
        return work / task.folder
    archive = download(url + source, work / "archive.zip")
    unpack(archive, work / "unpacked", url + source)
    first = file_names(task)[0]
    candidates = sorted((work / "unpacked").rglob(first), key=lambda path: len(path.parts))
    for path in candidates:
        if all((path.parent / name).is_file() for name in file_names(task)):
            return path.parent
    raise UserError(f"{url + source}: holds no folder with {', '.join(file_names(task))}")


def unpack(archive: Path, folder: Path, url: str) -> None:
    """Unpack a zip file that may come from anybody.

    Raises:
        UserError: it is damaged or encrypted, holds anything but files and folders, or a name that
            leads out of `folder`, or unpacks to more than is free or any GLUE task has.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            total = 0
            for member in opened.infolist():
                name, kind = member.filename, stat.S_IFMT(member.external_attr >> 16)
                parts = PurePosixPath(name).parts
                if name.startswith("/") or ".." in parts or "\\" in name or ":" in name:
                    raise UserError(f"{url}: member {name!r} leads out of its folder; refused")
                if kind not in (0, stat.S_IFREG, stat.S_IFDIR) or member.flag_bits & 1:
                    raise UserError(f"{url}: member {name!r} is no plain file; refused")
                if not 0 <= member.header_offset < archive.stat().st_size:
                    raise zipfile.BadZipFile(f"member {name!r} is not in it")
                total += member.file_size
            free = shutil.disk_usage(archive.parent).free
            if total > min(free, LARGEST_UNPACKED):
                raise UserError(f"{url}: unpacks to {total:,} bytes; {free:,} are free; refused")
            for member in opened.infolist():
                if not member.filename.startswith("__MACOSX/"):
                    opened.extract(member, folder)  # reads no more than the declared size
    except (zipfile.BadZipFile, NotImplementedError, EOFError, ValueError, zlib.error) as error:
        raise UserError(
            f"{url}: is no sound zip file ({error}); try again or use --mirror"
        ) from None


def make_mrpc(url: str, source: str, work: Path, path_to_mrpc: str) -> Path:
    """Put GLUE's MRPC together: train, dev (the pairs of the list) and the unlabelled test set."""
    paths = {part: Path(path_to_mrpc) / Path(source.format(part)).name for part in MRPC_PARTS}
    dev_ids = Path(path_to_mrpc) / Path(MRPC_DEV_IDS).name
    if not path_to_mrpc:
        paths = {part: download(url + source.format(part), work / part) for part in MRPC_PARTS}
    if not path_to_mrpc or not dev_ids.is_file():
        try:
            dev_ids = download(url + MRPC_DEV_IDS, work / dev_ids.name)
        except UserError as error:
            files = ", ".join(source.format(part) for part in MRPC_PARTS)
            raise UserError(
                f"{error}. Without the list of development pairs there is no dev set: put "
                f"{dev_ids.name} (two ids a line) and {files} of {url} into one folder and "
                "name it with --path_to_mrpc"
            ) from None
    pairs = {ids for _, ids in read_rows(dev_ids, 2) if "".join(ids).isdecimal()}
    folder = work / "MRPC"
    folder.mkdir()
    found = set()
    with open_new(folder / "train.tsv") as train, open_new(folder / "dev.tsv") as dev:
        train.write(MRPC_HEADER)
        dev.write(MRPC_HEADER)
        for _, row in skip_header(paths["train"]):
            is_dev = row[1:3] in pairs
            (dev if is_dev else train).write("\t".join(row) + "\n")
            found.update([row[1:3]] if is_dev else [])
    if not pairs or found != pairs:
        raise UserError(
            f"{dev_ids}: {len(found)} of its {len(pairs)} pairs are in {paths['train']}; "
            "expected all: the two belong together"
        )
    with open_new(folder / "test.tsv") as test:
        test.write(MRPC_TEST_HEADER)
        for index, (_, row) in enumerate(skip_header(paths["test"])):
            test.write("\t".join([str(index), *row[1:]]) + "\n")
    return folder


def open_new(path: Path):
    return open(path, "w", encoding="utf-8", newline="\n")


def skip_header(path: Path) -> Iterator[tuple[int, tuple[str, ...]]]:
    rows = read_rows(path, 5)
    _, header = next(rows, (0, ("",)))
    if header[0] != "Quality":
        raise UserError(
            f"{path}:1: expected the header Quality, #1 ID, #2 ID, #1 String, #2 String"
        )
    return rows


def read_rows(path: Path, columns: int) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Yield line numbers and fields of a tab-separated file of `columns` columns."""
    try:
        lines = path.read_bytes().decode("utf-8-sig").removesuffix("\n").split("\n")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not UTF-8 (byte {error.start})") from None
    for number, line in enumerate(lines, start=1):
        fields = tuple(line.strip().split("\t"))
        if len(fields) != columns:
            raise UserError(f"{path}:{number}: {len(fields)} columns; expected {columns}")
        yield number, fields


def check_headers(task: GlueTask, folder: Path) -> None:
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
