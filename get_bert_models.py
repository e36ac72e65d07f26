"""Download BERT-base and fine-tuned teachers from the Hugging Face hub.

    python get_bert_models.py                        # BERT-base, and the published run's teachers: four tasks
    python get_bert_models.py --tasks MNLI,STS-B     # BERT-base, and the teachers of these GLUE tasks
    python get_bert_models.py --models google-bert/bert-base-chinese --output_dir models

Every model lands in a folder of its own, named like the model without its owner, with its files
unchanged: a teacher keeps its classifier head. HF_ENDPOINT or --mirror names another hub, HF_TOKEN
an account. Files are compared with the checksums that the hub records for the commit; `source.json`
in the folder says which commit they are. The next call resumes an interrupted download.

There is a teacher for each of the nine GLUE tasks, all by one owner and made by `transformers`' own trainer:
they have that library's classifier head, and the scripts read the order of classes from their config.json.
On WNLI BERT hardly learns anything: the check for weak teachers may refuse that one.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from cli.data_flags import add_network_flags
from cli.help import script_parser
from files.atomic import atomic_open
from files.download import is_offline
from files.errors import UserError, run_script
from files.locks import sole_writer
from transformer.file_utils import CONFIG_NAME, SAFE_WEIGHTS_NAME, VOCAB_NAME, WEIGHTS_NAME
from transformer.hub import HUB_NAME
from transformer.tokenization import BertTokenizer
from transformer.tokenizer_files import TOKENIZER_CONFIG_NAME, TOKENIZER_NAME, limit_max_length
from transformer.tokenizer_json import ADDED_NAME, SPECIAL_MAP_NAME
from transformer.weight_shards import INDEX_ENDING, WEIGHTS_FILES, shard_names

BASE = "google-bert/bert-base-uncased"
TEACHER = "JeremiahZ/bert-base-uncased-{}"
PUBLISHED_TASKS = ("mrpc", "sst2", "cola", "rte")  # those of the published run
# Models on the hub may change; a commit does not.
REVISIONS = {
    BASE: "86b5e0934494bd15c9632b12f734a8a67f723594",
    TEACHER.format("mrpc"): "7517a4dc4d90c5832255a8f5989b00b26259943b",
    TEACHER.format("sst2"): "681fc318ee3fa3d162cfa01c1d1ebbaf99f7dcf8",
    TEACHER.format("cola"): "5791004cd040b5ac6a390aa19774ca4bd3830972",
    TEACHER.format("rte"): "9e72e64da703d881e5ea040cc5019227f4007ac8",
    # The commits of these five stand in the hub's public history; they have not been downloaded here.
    TEACHER.format("mnli"): "9f2f7be6da43c6f254f5deb1882941427e0c6e6d",
    TEACHER.format("qnli"): "155cfa4a7d3efe0a9d3d6f3ae88c020b56d8dbb7",
    TEACHER.format("qqp"): "18a25dbde2ecc72061bc69bb0c27ef374a583510",
    TEACHER.format("stsb"): "3cc333b0d50902abd3a0a03f66f8bbf205b9e8e2",
    TEACHER.format("wnli"): "82608e86ea3a564216bb58e4e91237b76b5f49ce",
}
VOCABULARIES = (VOCAB_NAME, TOKENIZER_NAME)  # one of them is enough
OPTIONAL = (
    TOKENIZER_CONFIG_NAME,
    SPECIAL_MAP_NAME,
    ADDED_NAME,
    "README.md",
    "LICENSE",
)
SINGLE_WEIGHTS = f"{SAFE_WEIGHTS_NAME} or {WEIGHTS_NAME}"
SOURCE_NAME = "source.json"

Result = TypeVar("Result")


class Source(NamedTuple):
    """A model at a revision, of the hub or of a mirror."""

    model: str
    revision: str
    mirror: str | None


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = script_parser(__doc__)
    group = parser.add_argument_group("inputs and output")
    group.add_argument(
        "--models",
        nargs="+",
        metavar="OWNER/NAME",
        help="models of the hub to download (default: BERT-base and the teachers of --tasks)",
    )
    group.add_argument(
        "--tasks",
        metavar="TASK,TASK",
        help="GLUE tasks whose teachers to download, or all (default: MRPC, SST-2, CoLA and RTE)",
    )
    group.add_argument(
        "--revision",
        help="branch, tag or commit to take of every model (default: the commit pinned in this "
        "script; main for other models)",
    )
    group.add_argument("--output_dir", default="models", help="folder to put the model folders in")
    add_network_flags(parser, "address of another hub (default: HF_ENDPOINT, or the hub itself)")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    if args.models and args.tasks:
        raise UserError("--models and --tasks: give one of them")
    folders = {}
    for model in args.models or [BASE, *map(TEACHER.format, task_keys(args.tasks))]:
        if not HUB_NAME.fullmatch(model):
            raise UserError(f"--models {model}: expected a name of the hub, OWNER/NAME")
        folder = Path(args.output_dir) / model.rpartition("/")[2]
        if folders.setdefault(folder, model) != model:
            raise UserError(f"--models: {folders[folder]} and {model} would both be {folder}")
    missing = {folder: model for folder, model in folders.items() if not is_complete(folder)}
    for folder in folders.keys() - missing.keys():
        print(f"{folder}: already there")
    wanted = {
        folder: Source(model, args.revision or REVISIONS.get(model, "main"), args.mirror)
        for folder, model in missing.items()
    }
    if wanted and (args.offline or is_offline()):
        raise UserError(f"nothing is fetched (--offline or TINYBERT_OFFLINE). {by_hand(wanted)}")
    for folder, source in wanted.items():
        fetch_model(source, folder)
    return 0


def task_keys(names: str | None) -> Sequence[str]:
    """The tasks named, as the models' names spell them; None for those of the published run.

    Raises:
        UserError: there is no teacher for one of them.
    """
    if names is None:
        return PUBLISHED_TASKS
    known = [model.rpartition("-")[2] for model in REVISIONS if model != BASE]
    if names.strip().lower() == "all":
        return known
    keys = [name.strip().lower().replace("-", "") for name in names.split(",") if name.strip()]
    unknown = [key for key in keys if key not in known]
    if unknown or not keys:
        raise UserError(
            f"--tasks {names}: expected all, or names separated by commas, from {', '.join(known)}; another "
            "model of the hub is named with --models"
        )
    return keys


def is_complete(folder: Path) -> bool:
    """Whether `folder` holds a model; False if it does not exist.

    Raises:
        UserError: it exists and lacks something.
    """
    if not folder.exists():
        return False
    lacks = lacking({path.name for path in folder.iterdir() if path.is_file()})
    for name in [name for name in WEIGHTS_FILES if (folder / name).is_file()][:1]:
        lacks += [shard for shard in shards_of(folder / name) if not (folder / shard).is_file()]
    if lacks:
        raise UserError(
            f"{folder}: exists but lacks {', '.join(lacks)}; add the files or remove the folder"
        )
    return True


def fetch_model(source: Source, folder: Path) -> None:
    """Download a model into a folder beside `folder`, which is renamed once it is complete.

    An interrupted download is continued by the next call.
    """
    from huggingface_hub import HfApi, hf_hub_download

    def ask(action: Callable[[], Result]) -> Result:
        return from_hub(source, folder, action)

    model, hub = source.model, HfApi(endpoint=source.mirror)
    info = ask(lambda: hub.model_info(model, revision=source.revision, files_metadata=True))
    offered = {sibling.rfilename: sibling for sibling in info.siblings or ()}
    names = choose_files(model, set(offered))
    partial = folder.with_name(f".{folder.name}.{info.sha[:12]}.part")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with sole_writer(folder):
        if is_complete(folder):  # another process was faster
            return
        partial.mkdir(exist_ok=True)
        print(f"{folder}: downloading {model} at {info.sha}", flush=True)
        files: dict[str, dict[str, int | str]] = {}
        check_room(model, sum(offered[name].size or 0 for name in names), partial)
        for name in names:  # an index of shards adds to them
            if name in WEIGHTS_FILES:  # last; a tokenizer that is refused needs none
                files |= {name: describe(partial / name) for name in complete_tokenizer(partial)}
            ask(
                lambda name=name: hf_hub_download(
                    model, name, revision=info.sha, local_dir=partial, endpoint=source.mirror
                )
            )
            files[name] = describe(partial / name)
            check_content(model, offered[name], files[name], partial / name)
            if name == CONFIG_NAME:
                check_config(model, partial / CONFIG_NAME)
            if shards := shards_of(partial / name):
                if lacks := [shard for shard in shards if shard not in offered]:
                    raise UserError(f"{model}: lacks {lacks[0]} on the hub, which its {name} names")
                names += shards
                check_room(model, sum(offered[name].size or 0 for name in names), partial)
        # The hub library's notes for resuming.
        shutil.rmtree(partial / ".cache", ignore_errors=True)
        record = {
            "model": model,
            "requested_revision": source.revision,
            "commit": info.sha,
            "files": files,
        }
        with atomic_open(partial / SOURCE_NAME) as file:
            json.dump(record, file, indent=2)
            file.write("\n")
        os.replace(partial, folder)
        size = sum(description["bytes"] for description in files.values())
        print(f"{folder}: {len(names)} files, {size / 1e6:,.1f} MB")


def complete_tokenizer(folder: Path) -> list[str]:
    """Write the vocab.txt that a lone tokenizer.json stands for, and `model_max_length`; return the names."""
    written = []
    if not (folder / VOCAB_NAME).is_file():
        BertTokenizer.from_pretrained(folder).save_vocabulary(folder)
        written.append(VOCAB_NAME)
    positions = json.loads((folder / CONFIG_NAME).read_bytes()).get("max_position_embeddings")
    if isinstance(positions, int) and limit_max_length(folder, positions):
        written.append(TOKENIZER_CONFIG_NAME)
    return written


def shards_of(path: Path) -> list[str]:
    """The shards that an index of weights names; none for another file."""
    return sorted({*shard_names(path).values()}) if path.name.endswith(INDEX_ENDING) else []


def check_room(model: str, size: int, partial: Path) -> None:
    there = sum(path.stat().st_size for path in partial.rglob("*") if path.is_file())
    free = shutil.disk_usage(partial).free
    if size - there > free:
        raise UserError(f"{partial.parent}: {free:,} bytes free; {model} needs {size - there:,}")


def check_content(model: str, offered, found: dict[str, int | str], path: Path) -> None:
    """Compare a file with what the hub records of it: SHA-256 of large files, size of all it tells.

    A file that is something else is removed, so that the next call fetches it again.
    """
    wanted = {"bytes": offered.size, "sha256": offered.lfs and offered.lfs.sha256}
    for key, value in wanted.items():
        if value is not None and found[key] != value:
            path.unlink()
            raise UserError(
                f"{model}: {path.name} arrived with {found[key]} {key}; the hub records {value}; try again"
            )


def choose_files(model: str, offered: set[str]) -> list[str]:
    """Return the names to download: configuration first, then the rest, one file of weights or an index."""
    lacks = lacking(offered)
    if lacks:
        raise UserError(f"{model}: lacks {', '.join(lacks)} on the hub; expected a BERT model")
    weights = next(name for name in WEIGHTS_FILES if name in offered)
    others = [name for name in (*VOCABULARIES, *OPTIONAL) if name in offered]
    return [CONFIG_NAME, *others, weights]


def lacking(names: set[str]) -> list[str]:
    """What a model lacks that has files of these names."""
    needed = ((CONFIG_NAME,), VOCABULARIES)
    lacks = [" or ".join(choice) for choice in needed if names.isdisjoint(choice)]
    return lacks + ([SINGLE_WEIGHTS] if names.isdisjoint(WEIGHTS_FILES) else [])


def check_config(model: str, path: Path) -> None:
    """Refuse what is not a BERT model before its weights are fetched."""
    try:
        kind = json.loads(path.read_bytes()).get("model_type", "bert")
    except (ValueError, AttributeError):
        raise UserError(f"{model}: its {CONFIG_NAME} is not a JSON object") from None
    if kind != "bert":
        raise UserError(f"{model}: is a {kind} model; expected a BERT model")


def describe(path: Path) -> dict[str, int | str]:
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"bytes": path.stat().st_size, "sha256": digest}


def from_hub(source: Source, folder: Path, action: Callable[[], Result]) -> Result:
    """Return what `action` gets from the hub; turn any failure into what the user can do."""
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    try:
        return action()
    except RepositoryNotFoundError:
        reason = "no such model on the hub, or it is private (HF_TOKEN names your account)"
    except RevisionNotFoundError:
        reason = f"the model has no revision {source.revision}"
    except Exception as error:  # from the hub library, its HTTP client or the file system
        reason = f"{type(error).__name__}: {error}".strip().partition("\n")[0]
    raise UserError(
        f"{source.model}: {reason}. {by_hand({folder: source})}; --mirror or HF_ENDPOINT names a mirror"
    )


def by_hand(wanted: Mapping[Path, Source]) -> str:
    """Say which files to put into which folders."""
    from huggingface_hub import constants

    places = (
        f"{(source.mirror or constants.ENDPOINT).rstrip('/')}/{source.model}/tree/{source.revision} into "
        f"{folder}"
        for folder, source in wanted.items()
    )
    files = f"{CONFIG_NAME}, {' or '.join(VOCABULARIES)} and {SINGLE_WEIGHTS}"
    return f"To fetch it by hand, put {files} of {', of '.join(places)}"


if __name__ == "__main__":
    run_script(main)
