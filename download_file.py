"""Download one public file, resumable and checked, and unpack it if it is a zip file.

    python download_file.py https://nlp.stanford.edu/data/glove.840B.300d.zip --output_dir data \\
        --unpack data/glove.840B.300d.txt
    python download_file.py https://example.org/corpus.txt.gz --checksum 5feceb66ffc86f38...

An interrupted download resumes where it stopped. A file that is already there is checked and kept.
files/known_downloads.json lists the checksums that are known; --checksum gives another (Wikimedia publishes
SHA-1 beside its dumps). Without either the first arrival is trusted and its SHA-256 is written beside
it. The variables https_proxy and http_proxy are obeyed.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from cli.data_flags import add_network_flags, check_checksum
from cli.help import script_parser
from files.archives import unpack_zip
from files.errors import UserError, run_script
from files.known_downloads import obtain
from files.locks import sole_writer
from files.remote import file_name, is_address

LARGEST_UNPACKED = 64 << 30  # the largest set of GloVe vectors unpacks to 5.6 GB


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = script_parser(__doc__)
    group = parser.add_argument_group("inputs and output")
    group.add_argument("url", help="http, https or s3 address of the file")
    group.add_argument("--output_dir", default=".", help="folder to put it in")
    group.add_argument(
        "--unpack",
        metavar="FILE",
        help="unpack one file of the zip file to this path: the one of this name, or the only one",
    )
    group.add_argument("--checksum", help="SHA-256, SHA-1 or MD5 of the file, in hexadecimal")
    add_network_flags(parser, "address that serves the same paths as the server in the url")
    args = parser.parse_args(argv)
    if not is_address(args.url):
        raise UserError(f"{args.url}: expected an http, https or s3 address")
    args.checksum = check_checksum(args.checksum)
    return args


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    if args.unpack and Path(args.unpack).is_file():
        print(f"{args.unpack}: already there")
        return 0
    path = Path(args.output_dir) / file_name(args.url)
    there = path.is_file()
    obtain(args.url, path, args.checksum, args.mirror, args.offline)
    print(f"{path}: {'already there' if there else f'{path.stat().st_size:,} bytes'}")
    if args.unpack:
        unpack_one(path, Path(args.unpack))
        print(f"{args.unpack}: {Path(args.unpack).stat().st_size:,} bytes")
    return 0


def unpack_one(archive: Path, target: Path) -> None:
    """Unpack the file named like `target`, or the only one, to `target`: complete or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with (
        sole_writer(target),
        tempfile.TemporaryDirectory(
            prefix=f".{target.name}.", suffix=".part", dir=target.parent
        ) as work,
    ):
        unpack_zip(archive, work, str(archive), LARGEST_UNPACKED)
        files = [path for path in Path(work).rglob("*") if path.is_file()]
        named = [path for path in files if path.name == target.name] or files
        if len(named) != 1:
            raise UserError(
                f"{archive}: holds {len(files)} files, {target.name} not exactly once; expected one to unpack"
            )
        os.replace(named[0], target)


if __name__ == "__main__":
    run_script(main)
