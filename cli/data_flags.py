"""The flags of the programs that make data: shards of the work, and where files are fetched from."""

from __future__ import annotations

import argparse
import re

from files.checksums import is_checksum
from files.errors import UserError
from files.remote import is_address
from files.shards import Shard


def add_shard_flags(group: argparse._ArgumentGroup) -> None:
    """Add --shard and --merge_shards."""
    group.add_argument(
        "--shard",
        type=_shard,
        metavar="I/N",
        help="do only shard I (1 to N) of the work, as one job of an array",
    )
    group.add_argument(
        "--merge_shards",
        type=int,
        metavar="N",
        help="merge the N shards, made with the same other flags, and remove them",
    )


def check_shard_flags(args: argparse.Namespace) -> None:
    """Refuse flags that exclude each other.

    Raises:
        UserError: both flags, or a number below 1.
    """
    if args.shard and args.merge_shards is not None:
        raise UserError("--shard and --merge_shards: give one of them")
    if args.merge_shards is not None and args.merge_shards < 1:
        raise UserError(f"--merge_shards {args.merge_shards}: expected 1 or more")


def _shard(text: str) -> Shard:
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise argparse.ArgumentTypeError(f"{text}: expected I/N with I from 1 to N, such as 3/8")
    return Shard(int(match[1]), int(match[2]))


def add_network_flags(
    parser: argparse.ArgumentParser, mirror: str, default: str | None = None, then: str = ""
) -> None:
    """Add --mirror, explained by `mirror`, and --offline, with `then` after its explanation."""
    group = parser.add_argument_group("network")
    group.add_argument("--mirror", metavar="ADDRESS", type=_mirror, default=default, help=mirror)
    group.add_argument(
        "--offline", action="store_true", help=f"fetch nothing; say what to fetch by hand{then}"
    )


def _mirror(text: str) -> str:
    if not is_address(text):
        raise UserError(f"--mirror {text}: expected an http, https or s3 address")
    return text


def check_checksum(checksum: str | None) -> str | None:
    """Return a checksum in lower case, or refuse it."""
    if checksum is None or is_checksum(checksum.lower()):
        return checksum and checksum.lower()
    raise UserError(
        f"--checksum {checksum}: expected a SHA-256, SHA-1 or MD5 in hexadecimal (64, 40 or 32 digits)"
    )
