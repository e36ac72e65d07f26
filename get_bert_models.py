"""Download BERT-base and the four fine-tuned teachers from the Hugging Face hub.

    python get_bert_models.py
    python get_bert_models.py --models google-bert/bert-base-chinese --output_dir models

Every model lands in a folder of its own, named like the model without its owner, with its files
unchanged: a teacher keeps its classifier head. HF_ENDPOINT names another hub (a mirror), HF_TOKEN
an account. `source.json` in the folder records which commit the files are.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from transformer.download import HUB_NAME
from transformer.errors import UserError, run_script
from transformer.file_utils import (
    CONFIG_NAME,
    SAFE_WEIGHTS_NAME,
    VOCAB_NAME,
    WEIGHTS_NAME,
    atomic_open,
)

# Models on the hub may change; a commit does not.
REVISIONS = {
    "google-bert/bert-base-uncased": "86b5e0934494bd15c9632b12f734a8a67f723594",
    "JeremiahZ/bert-base-uncased-mrpc": "7517a4dc4d90c5832255a8f5989b00b26259943b",
    "JeremiahZ/bert-base-uncased-sst2": "681fc318ee3fa3d162cfa01c1d1ebbaf99f7dcf8",
    "JeremiahZ/bert-base-uncased-cola": "5791004cd040b5ac6a390aa19774ca4bd3830972",
    "JeremiahZ/bert-base-uncased-rte": "9e72e64da703d881e5ea040cc5019227f4007ac8",
}
REQUIRED = (CONFIG_NAME, VOCAB_NAME)
WEIGHTS = (SAFE_WEIGHTS_NAME, WEIGHTS_NAME)  # the first that the model has
OPTIONAL = (
    "tokenizer_config.json",
    "tokenizer.json",
    "special_tokens_map.json",
    "README.md",
    "LICENSE",
)
SOURCE_NAME = "source.json"

Result = TypeVar("Result")


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--models",
        nargs="+",
        metavar="OWNER/NAME",
        default=list(REVISIONS),
        help="models of the hub to download",
    )
    parser.add_argument(
        "--revision",
        default=None,
        help="branch, tag or commit to take of every model; without it the commit pinned in this "
        "script, or main for other models",
    )
    parser.add_argument("--output_dir", default="models", help="folder to put the model folders in")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    folders = {}
    for model in args.models:
        if not HUB_NAME.fullmatch(model):
            raise UserError(f"--models {model}: expected a name of the hub, OWNER/NAME")
        folder = Path(args.output_dir) / model.rpartition("/")[2]
        if folders.setdefault(folder, model) != model:
            raise UserError(f"--models: {folders[folder]} and {model} would both be {folder}")
    missing = {folder: model for folder, model in folders.items() if not is_complete(folder)}
    for folder in folders.keys() - missing.keys():
        print(f"{folder}: already there")
    for folder, model in missing.items():
        fetch_model(model, args.revision or REVISIONS.get(model, "main"), folder)
    return 0


def is_complete(folder: Path) -> bool:
    """Whether `folder` holds a model; False if it does not exist.

    Raises:
        UserError: it exists and lacks something.
    """
    if not folder.exists():
        return False
    lacks = [name for name in REQUIRED if not (folder / name).is_file()]
    if not any((folder / name).is_file() for name in WEIGHTS):
        lacks.append(" or ".join(WEIGHTS))
    if lacks:
        raise UserError(
            f"{folder}: exists but lacks {', '.join(lacks)}; add the files or remove the folder"
        )
    return True


def fetch_model(model: str, revision: str, folder: Path) -> None:
    """Download `model` into a folder beside `folder`, which is renamed once it is complete.

    An interrupted download is continued by the next call.
    """
    from huggingface_hub import HfApi, hf_hub_download

    def ask(action: Callable[[], Result]) -> Result:
        return from_hub(model, revision, folder, action)

    info = ask(lambda: HfApi().model_info(model, revision=revision))
    names = choose_files(model, {sibling.rfilename for sibling in info.siblings or ()})
    partial = folder.with_name(f".{folder.name}.{info.sha[:12]}.part")
    print(f"{folder}: downloading {model} at {info.sha}", flush=True)
    for name in names:
        ask(lambda name=name: hf_hub_download(model, name, revision=info.sha, local_dir=partial))
        if name == CONFIG_NAME:
            check_config(model, partial / CONFIG_NAME)
    shutil.rmtree(partial / ".cache", ignore_errors=True)  # the hub library's notes for resuming
    source = {
        "model": model,
        "requested_revision": revision,
        "commit": info.sha,
        "files": {name: describe(partial / name) for name in names},
    }
    with atomic_open(partial / SOURCE_NAME) as file:
        json.dump(source, file, indent=2)
        file.write("\n")
    os.replace(partial, folder)
    size = sum(description["bytes"] for description in source["files"].values())
    print(f"{folder}: {len(names)} files, {size / 1e6:,.1f} MB")


def choose_files(model: str, offered: set[str]) -> list[str]:
    """Return the names to download: configuration first, then the rest, one file of weights."""
    weights = [name for name in WEIGHTS if name in offered][:1]
    lacks = [name for name in REQUIRED if name not in offered]
    lacks += [] if weights else [" or ".join(WEIGHTS)]
    if lacks:
        raise UserError(f"{model}: lacks {', '.join(lacks)} on the hub; expected a BERT model")
    return [*REQUIRED, *(name for name in OPTIONAL if name in offered), *weights]


def check_config(model: str, path: Path) -> None:
    """Refuse what is no BERT model before its weights are fetched."""
    try:
        kind = json.loads(path.read_bytes()).get("model_type", "bert")
    except (ValueError, AttributeError):
        raise UserError(f"{model}: its {CONFIG_NAME} is no JSON object") from None
    if kind != "bert":
        raise UserError(f"{model}: is a {kind} model; expected a BERT model")


def describe(path: Path) -> dict[str, int | str]:
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"bytes": path.stat().st_size, "sha256": digest}


def from_hub(model: str, revision: str, folder: Path, action: Callable[[], Result]) -> Result:
    """Return what `action` gets from the hub; turn any failure into what the user can do."""
    from huggingface_hub import constants
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    try:
        return action()
    except RepositoryNotFoundError:
        reason = "no such model on the hub, or it is private (HF_TOKEN names your account)"
    except RevisionNotFoundError:
        reason = f"the model has no revision {revision}"
    except Exception as error:  # from the hub library, its HTTP client or the file system
        reason = f"{type(error).__name__}: {error}".strip().partition("\n")[0]
    raise UserError(
        f"{model}: {reason}. To fetch it by hand, put {', '.join(REQUIRED)} and "
        f"{' or '.join(WEIGHTS)} of {constants.ENDPOINT}/{model}/tree/{revision} into {folder}; "
        "HF_ENDPOINT names a mirror of the hub"
    )


if __name__ == "__main__":
    run_script(main)
