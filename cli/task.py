"""Which task a program works on: GLUE's by name, or one's own by its file."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from files.atomic import find_input
from files.errors import UserError, setting
from tasks.glue import find_task, guess_task
from tasks.own import read_task_file
from tasks.task import Task


def add_task_file_flag(group: argparse._ArgumentGroup) -> None:
    """Add --task_file."""
    group.add_argument(
        "--task_file",
        metavar="FILE",
        help="JSON file that describes a task of one's own, in place of --task_name; its data are in the "
        "file's folder, or in --data_dir",
    )


def named_tasks(names: str, glue_dir: str | os.PathLike) -> list[tuple[Task, Path]]:
    """The tasks of a flag such as `SST-2,my_task/task.json`, and the folders of their data.

    Raises:
        UserError: there is no such task, file or folder; or a task is named twice.
    """
    found: list[tuple[Task, Path]] = []
    for name in filter(None, names.split(",")):
        if name.endswith(".json"):
            found.append((read_task_file(name), Path(name).parent))
        else:
            task = find_task(name)
            what = f"the data of {task.folder}; download_glue.py fetches them"
            found.append((task, find_input(Path(glue_dir) / task.folder, what)))
    folders = [task.folder for task, _ in found]
    if not folders or len(set(folders)) < len(folders):
        raise UserError(f"{setting('tasks')} {names}: expected names of different tasks")
    return found


def chosen_task(args: argparse.Namespace, guess: bool = False) -> tuple[Task, Path]:
    """The task of `--task_file` or `--task_name`, and the folder of its data.

    Args:
        guess: whether the folder's name may stand for `--task_name`.

    Raises:
        UserError: flags are missing or contradict each other, the task's file is wrong, or there is no
            such task or folder.
    """
    if args.task_file:
        if args.task_name:
            raise UserError("--task_file and --task_name: give one of them")
        task = read_task_file(args.task_file)
        if args.data_dir:
            return task, find_input(args.data_dir, f"the folder of {task.folder}")
        return task, Path(args.task_file).parent
    if not args.data_dir or not (args.task_name or guess):
        flag = "--task_name" if args.data_dir else "--data_dir"
        raise UserError(f"{flag}: expected it, or --task_file")
    if args.task_name:
        task = find_task(args.task_name)
        return task, find_input(args.data_dir, f"the folder of {task.folder}")
    folder = find_input(args.data_dir, "the folder of a GLUE task")
    return guess_task(folder), folder
