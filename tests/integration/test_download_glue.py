"""download_glue.py against a server on this machine."""

import hashlib
import io
import json
import os
import shutil
import stat
import zipfile
from pathlib import Path

import pytest

import download_glue
from files import archives, download
from files import known_downloads as downloads
from files.errors import UserError
from files.locks import sole_writer
from files.origins import dataset_of
from tasks.glue import TASKS
from tasks.task import read_split
from tests.serving import serve

NLI = 'index\tsentence1\tsentence2\tlabel\n0\tIt "rains".\tIt\'s wet.\tentailment\n'
NLI_TEST = "index\tsentence1\tsentence2\n0\tIt rains.\tIt is wet.\n"


def asked(pairs):
    """The rows with QNLI's names: a question and a sentence."""
    return pairs.replace("sentence1\tsentence2", "question\tsentence")


MNLI_HEAD = "index\tpromptID\tpairID\tgenre\ta\tb\tc\td\tsentence1\tsentence2"
MNLI_ROW = "0\t1\t2\tfiction\tx\tx\tx\tx\tIt rains.\tIt is wet."
STS_HEAD = "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2"
STS_ROW = "0\tnews\tf\t2012\t1\tx\ty\tA cat.\tThe cat."
FILES = {
    "CoLA": {
        "train.tsv": "gj04\t1\t\tThey run.\n" * 2,
        "dev.tsv": "gj04\t0\t*\tThey runs.\n" * 2,
        "test.tsv": "index\tsentence\n0\tThey ran.\n",
        "original/raw/readme.txt": "more",
    },
    "SST-2": {
        "train.tsv": "sentence\tlabel\ngood film \t1\n",
        "dev.tsv": "sentence\tlabel\nbad film \t0\n",
        "test.tsv": "index\tsentence\n0\ta film\n",
    },
    "QQP-clean": {
        name: "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n1\t2\t3\tWhy?\tHow?\t0\n"
        for name in ("train.tsv", "dev.tsv")
    }
    | {"test.tsv": "id\tquestion1\tquestion2\n0\tWhy?\tHow?\n"},
    "STS-B": {name: f"{STS_HEAD}\tscore\n{STS_ROW}\t3.800\n" for name in ("train.tsv", "dev.tsv")}
    | {"test.tsv": f"{STS_HEAD}\n{STS_ROW}\n"},
    "MNLI": {
        name: f"{MNLI_HEAD}\tgold_label\n{MNLI_ROW}\tneutral\n"
        for name in ("train.tsv", "dev_matched.tsv", "dev_mismatched.tsv")
    }
    | {name: f"{MNLI_HEAD}\n{MNLI_ROW}\n" for name in ("test_matched.tsv", "test_mismatched.tsv")},
    "QNLIv2": {
        "train.tsv": asked(NLI),
        "dev.tsv": asked(NLI),
        "test.tsv": asked(NLI_TEST),
    },
    "RTE": {"train.tsv": NLI, "dev.tsv": NLI, "test.tsv": NLI_TEST},
    "WNLI": {
        "train.tsv": NLI.replace("entailment", "1"),
        "dev.tsv": NLI.replace("entailment", "0"),
        "test.tsv": NLI_TEST,
    },
}
MSR_HEADER = "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\r\n"
MSR_TRAIN = MSR_HEADER + "".join(
    f'{i % 2}\t{i}\t{i + 100}\tHe said "{i}\u2028" .\tShe said {i} .\r\n' for i in range(10)
)
MSR_TEST = MSR_HEADER + "1\t7\t8\tA cat .\tThe cat .\r\n"
DEV_IDS = "3\t103\n8\t108\n"
MSR = {
    "/senteval/senteval_data/msr_paraphrase_train.txt": MSR_TRAIN,
    "/senteval/senteval_data/msr_paraphrase_test.txt": MSR_TEST,
    "/glue/data/mrpc_dev_ids.tsv": DEV_IDS,
}


def make_zip(members):
    """A zip file of (name or ZipInfo, content) pairs."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in members:
            archive.writestr(member, content)
    return buffer.getvalue()


@pytest.fixture
def site(monkeypatch, tmp_path):
    monkeypatch.setattr(download, "BACKOFF_SECONDS", 0.0)
    monkeypatch.setattr(downloads, "table", dict)  # the files here are not the public ones
    monkeypatch.chdir(tmp_path)
    with serve() as site:
        for archive, files in FILES.items():
            folder = archive.removesuffix("-clean").removesuffix("v2")
            members = [(f"{folder}/{name}", text) for name, text in files.items()]
            members += [("__MACOSX/._train.tsv", "resource fork")]
            site.files[f"/glue/data/{archive}.zip"] = make_zip(members)
        site.files["/glue/data/AX.tsv"] = NLI_TEST.encode()
        site.files |= {path: text.encode() for path, text in MSR.items()}
        yield site


def run(site, *arguments):
    return download_glue.main(["--mirror", site.url, *arguments])


def tree(folder):
    return sorted(
        str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file()
    )


def test_all_tasks_arrive_and_can_be_read(site, tmp_path):
    assert run(site) == 0
    assert {path.name for path in (tmp_path / "glue_data").iterdir()} == {
        *("CoLA", "SST-2", "MRPC", "QQP", "STS-B", "MNLI", "QNLI", "RTE", "WNLI", "diagnostic")
    }
    for task in TASKS.values():
        folder = tmp_path / "glue_data" / task.folder
        for split in [*(["train"] if task.has_train else []), *task.dev_files, *task.test_files]:
            assert len(read_split(task, folder, split)) >= 1
    assert "CoLA/original/raw/readme.txt" in tree("glue_data")
    rte = read_split(TASKS["rte"], tmp_path / "glue_data" / "RTE", "train")
    assert rte.text_a == ['It "rains".']


def test_mrpc_is_split_by_the_development_pairs(site):
    run(site, "--tasks", "MRPC", "--data_dir", "deep/er")
    header = "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n"
    dev = Path("deep/er/MRPC/dev.tsv").read_bytes().decode()
    assert dev == header + "".join(
        f'{i % 2}\t{i}\t{i + 100}\tHe said "{i}\u2028" .\tShe said {i} .\n' for i in (3, 8)
    )
    train = Path("deep/er/MRPC/train.tsv").read_bytes().decode()
    assert train.startswith(header) and train.count("\n") == 1 + 8
    test = Path("deep/er/MRPC/test.tsv").read_bytes().decode()
    assert test == "index\t#1 ID\t#2 ID\t#1 String\t#2 String\n0\t7\t8\tA cat .\tThe cat .\n"
    assert tree("deep") == [f"er/MRPC/{name}.tsv" for name in ("dev", "test", "train")]


@pytest.mark.parametrize("with_ids", [True, False])
def test_mrpc_can_come_from_a_folder(site, with_ids):
    Path("mine").mkdir()
    for path, text in MSR.items():
        if with_ids or "ids" not in path:
            Path("mine", Path(path).name).write_bytes(text.encode())
    assert run(site, "--tasks", "mrpc", "--path_to_mrpc", "mine") == 0
    asked = [path for _, path in site.requests]
    assert asked == ([] if with_ids else ["/glue/data/mrpc_dev_ids.tsv"])
    assert len(read_split(TASKS["mrpc"], "glue_data/MRPC", "dev")) == 2


def test_a_blocked_file_says_what_to_place_where_and_keeps_the_others(site):
    site.faults["/glue/data/mrpc_dev_ids.tsv"] = [403]
    place = "glue_data/.MRPC.download/mrpc_dev_ids.tsv"
    with pytest.raises(
        UserError, match=f"denied .* put https://.*mrpc_dev_ids.tsv there as {place}"
    ):
        run(site, "--tasks", "MRPC")
    assert not Path("glue_data/MRPC").exists()
    Path(place).write_text(DEV_IDS)
    site.requests.clear()
    assert run(site, "--tasks", "MRPC") == 0
    assert site.requests == [] and len(tree("glue_data")) == 3


def test_an_interrupted_archive_is_gone_on_with_by_the_next_call(site):
    text = "".join(
        f"{i}\t{hashlib.sha256(b'%d' % i).hexdigest()}\tb\tentailment\n" for i in range(4000)
    )
    files = {"train.tsv": NLI + text, "dev.tsv": NLI, "test.tsv": NLI_TEST}
    archive = make_zip([(f"RTE/{name}", content) for name, content in files.items()])
    site.files["/glue/data/RTE.zip"] = archive
    site.faults["/glue/data/RTE.zip"] = ["cut", 500, 500, 500, 500]
    with pytest.raises(UserError, match="bytes are kept in"):
        run(site, "--tasks", "RTE")
    assert tree("glue_data") == [f".RTE.download/RTE.zip.part{end}" for end in ("", ".json")]
    assert run(site, "--tasks", "RTE") == 0
    assert site.ranges[-1] == f"bytes={len(archive) // 2 // 65536 * 65536}-"
    assert tree("glue_data") == [f"RTE/{name}.tsv" for name in ("dev", "test", "train")]


def entry(site, path, **fields):
    content = site.files[f"/{path}"]
    facts = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    return {f"{download_glue.BASE_URL}/{path}": {**facts, **fields}}


def test_files_are_noted_as_glues_where_their_checksum_is_known(site, monkeypatch):
    assert run(site, "--tasks", "RTE") == 0
    assert tree("glue_data") == [f"RTE/{name}.tsv" for name in ("dev", "test", "train")]
    shutil.rmtree("glue_data")

    rte = "glue/data/RTE.zip"
    monkeypatch.setattr(downloads, "table", lambda: entry(site, rte))
    assert run(site, "--tasks", "RTE") == 0
    for name in ("train", "dev", "test"):
        path = Path(f"glue_data/RTE/{name}.tsv")
        assert dataset_of(path, download.file_checksum(path)) == "GLUE"
    path.write_text("changed")
    assert dataset_of(path, download.file_checksum(path)) is None
    assert dataset_of(Path("glue_data/other.tsv"), "0" * 64) is None, "no note there"


def test_ones_own_files_are_not_noted_as_glues(site, monkeypatch):
    known = {}
    for path in MSR:
        known |= entry(site, path.removeprefix("/"))
    monkeypatch.setattr(downloads, "table", lambda: known)
    assert run(site, "--tasks", "MRPC", "--data_dir", "theirs") == 0
    assert "MRPC/origin.json" in tree("theirs")
    Path("mine").mkdir()
    Path("mine/msr_paraphrase_train.txt").write_text(MSR_TRAIN)
    assert run(site, "--tasks", "MRPC", "--path_to_mrpc", "mine") == 0
    assert "MRPC/origin.json" not in tree("glue_data")


def test_what_is_not_in_the_table_of_checksums_is_refused(site, monkeypatch):
    rte = "glue/data/RTE.zip"
    monkeypatch.setattr(downloads, "table", lambda: entry(site, rte))
    assert run(site, "--tasks", "RTE") == 0
    shutil.rmtree("glue_data")
    for wrong in ({"sha256": "0" * 64}, {"bytes": 7}):
        facts = entry(site, rte, **wrong)
        monkeypatch.setattr(downloads, "table", lambda facts=facts: facts)
        with pytest.raises(UserError, match="expected (0000|7).*By hand: put https://dl"):
            run(site, "--tasks", "RTE")
        assert tree("glue_data") == []


def test_every_public_file_is_in_the_table_with_its_checksum():
    table = json.loads(Path(downloads.TABLE).read_bytes())
    known = {entry["url"]: entry for entry in table["files"]}
    assert known == downloads.table() and len(known) == len(table["files"])
    for name, (_, source) in download_glue.SOURCES.items():
        parts = (
            [source.format(part) for part in download_glue.MRPC_PARTS]
            if name == "MRPC"
            else [source]
        )
        for path in (*parts, download_glue.MRPC_DEV_IDS):
            assert known[f"{download_glue.BASE_URL}/{path}"]["bytes"] > 1000
    for facts in known.values():
        assert facts["source"] in table["sources"]
        assert facts["sha256"] is None or len(bytes.fromhex(facts["sha256"])) == 32


def test_files_fetched_by_hand_are_used_and_checked(site, monkeypatch):
    monkeypatch.setattr(downloads, "table", lambda: entry(site, "glue/data/RTE.zip"))
    Path("mine").mkdir()
    Path("mine/RTE.zip").write_bytes(site.files["/glue/data/RTE.zip"])
    assert run(site, "--tasks", "RTE", "--from_local", "mine", "--offline") == 0
    assert site.requests == [] and Path("mine/RTE.zip").exists()
    shutil.rmtree("glue_data")
    Path("mine/RTE.zip").write_bytes(b"torn")
    with pytest.raises(UserError, match=r"mine/RTE\.zip: has the checksum"):
        run(site, "--tasks", "RTE", "--from_local", "mine")
    with pytest.raises(UserError, match="--from_local nowhere: no such folder"):
        run(site, "--from_local", "nowhere")


def test_offline_lists_what_to_fetch_by_hand_and_asks_nobody(site, capsys, monkeypatch):
    monkeypatch.setattr(downloads, "table", lambda: entry(site, "glue/data/RTE.zip"))
    with pytest.raises(UserError, match="--tasks MRPC,RTE: not downloaded"):
        run(site, "--tasks", "MRPC,RTE", "--offline")
    told = capsys.readouterr().err
    for path in ("msr_paraphrase_train.txt", "msr_paraphrase_test.txt", "mrpc_dev_ids.tsv"):
        assert f"/{path} there as glue_data/.MRPC.download/{path}" in told
    assert "/RTE.zip there as glue_data/.RTE.download/RTE.zip (SHA-256 " in told
    assert "; or name the folder that holds the files with --from_local" in told
    monkeypatch.setenv("TINYBERT_OFFLINE", "1")
    with pytest.raises(UserError, match="RTE.zip: not fetched .*put https://dl"):
        run(site, "--tasks", "RTE")
    assert site.requests == [] and tree("glue_data") == []


@pytest.mark.parametrize(
    ("path", "content", "message"),
    [
        ("/glue/data/mrpc_dev_ids.tsv", "3\t103\n8\t999\n", "1 of its 2 pairs"),
        ("/glue/data/mrpc_dev_ids.tsv", "", "the file is empty"),
        (
            "/senteval/senteval_data/msr_paraphrase_train.txt",
            MSR_TRAIN + "1\t2\r\n",
            ":12: 2 columns, expected 5",
        ),
        (
            "/senteval/senteval_data/msr_paraphrase_test.txt",
            "1\t2\t3\ta\tb\n",
            ":1: expected the header",
        ),
        ("/senteval/senteval_data/msr_paraphrase_test.txt", b"\xff\xfe\n", "is not UTF-8"),
    ],
)
def test_wrong_mrpc_files_are_refused(site, path, content, message):
    site.files[path] = content if isinstance(content, bytes) else content.encode()
    with pytest.raises(UserError, match=message):
        run(site, "--tasks", "MRPC")
    assert tree("glue_data") == []


def test_complete_tasks_are_left_alone(site, capsys):
    run(site, "--tasks", "RTE,CoLA")
    Path("glue_data/RTE/train_aug.tsv").write_text("mine")
    site.requests.clear()
    assert run(site, "--tasks", "cola, RTE") == 0
    assert site.requests == [] and capsys.readouterr().out.count("already there") == 2
    assert Path("glue_data/RTE/train_aug.tsv").read_text() == "mine"


def test_an_incomplete_folder_is_named_and_left_alone(site):
    Path("glue_data/RTE").mkdir(parents=True)
    Path("glue_data/RTE/train.tsv").write_text("mine")
    with pytest.raises(UserError, match="exists but lacks dev.tsv, test.tsv"):
        run(site, "--tasks", "RTE")
    assert site.requests == [] and Path("glue_data/RTE/train.tsv").read_text() == "mine"


def test_one_blocked_task_does_not_keep_the_others_away(site, capsys):
    site.faults["/glue/data/SST-2.zip"] = [403]
    with pytest.raises(UserError, match="--tasks SST: not downloaded"):
        run(site, "--tasks", "SST-2,RTE")
    assert "SST-2.zip: access denied" in capsys.readouterr().err
    assert tree("glue_data") == ["RTE/dev.tsv", "RTE/test.tsv", "RTE/train.tsv"]


@pytest.mark.parametrize("tasks", ["GLUE", "", "RTE,nonsense"])
def test_unknown_tasks_are_refused(site, tasks):
    with pytest.raises(UserError, match="expected some of CoLA, SST, MRPC"):
        run(site, "--tasks", tasks)
    assert not Path("glue_data").exists()


def link_member():
    info = zipfile.ZipInfo("RTE/dev.tsv")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info, "/etc/passwd"


def device_member():
    info = zipfile.ZipInfo("RTE/dev.tsv")
    info.external_attr = (stat.S_IFCHR | 0o666) << 16
    return info, ""


@pytest.mark.parametrize(
    ("archive", "message"),
    [
        (make_zip([("../outside.txt", "x")]), "leads out of its folder"),
        (make_zip([("RTE/../../outside.txt", "x")]), "leads out of its folder"),
        (make_zip([("/tmp/outside.txt", "x")]), "leads out of its folder"),
        (make_zip([("..\\outside.txt", "x")]), "leads out of its folder"),
        (make_zip([link_member()]), "not a regular file"),
        (make_zip([device_member()]), "not a regular file"),
        (make_zip([("RTE/" + "x" * 300, "x")]), "too long a name"),
        (make_zip([("RTE/a", "x"), ("RTE/a/b", "x")]), "holds a name twice"),
        (make_zip([("RTE/a", "x"), ("RTE//a", "x")]), "holds a name twice"),
        (make_zip([("RTE/train.tsv", NLI)]), "holds no folder with train.tsv, dev.tsv, test.tsv"),
        (make_zip([(f"RTE/{n}.tsv", "one\ntwo\n") for n in ("train", "dev", "test")]), "1 columns"),
        (b"<html>not found</html>", "not a valid zip file"),
        (make_zip([("RTE/train.tsv", NLI * 99)])[:-30], "not a valid zip file"),
    ],
    ids=[
        *("up", "inside and up", "absolute", "backslash", "link", "device"),
        *("long name", "file and folder", "twice"),
        *("too few", "columns", "error page", "torn"),
    ],
)
def test_archives_cannot_do_harm(site, tmp_path, archive, message):
    site.files["/glue/data/RTE.zip"] = archive
    with pytest.raises(UserError, match=message):
        run(site, "--tasks", "RTE")
    assert tree(tmp_path) == [] and not (tmp_path.parent / "outside.txt").exists()


def test_a_flipped_byte_in_an_archive_is_noticed_or_harmless(site, tmp_path):
    good = site.files["/glue/data/RTE.zip"]
    refused = 0
    for position in range(0, len(good), 5):
        content = bytearray(good)
        content[position] ^= 0xFF
        site.files["/glue/data/RTE.zip"] = bytes(content)
        try:
            run(site, "--tasks", "RTE")
        except UserError:
            refused += 1
            assert tree(tmp_path) == []
        else:
            assert Path("glue_data/RTE/train.tsv").read_text() == NLI
            shutil.rmtree("glue_data")
    assert refused > len(good) / 5 / 2


def test_bombs_are_refused_before_a_byte_is_written(site, tmp_path, monkeypatch):
    honest = make_zip([(f"RTE/{name}.tsv", NLI * 50) for name in ("train", "dev", "test")])
    overlapping = bytearray(honest)  # each entry of the table of contents points at the first file
    at = honest.index(b"PK\x01\x02")
    while (at := honest.find(b"PK\x01\x02", at)) >= 0:
        overlapping[at + 20 : at + 24] = len(honest).to_bytes(4, "little")
        at += 4
    too_many = make_zip([(f"RTE/{number}", "") for number in range(40)])
    monkeypatch.setattr(archives, "MOST_MEMBERS", 30)
    for content, message in ((bytes(overlapping), "overlap"), (too_many, "holds 40 files")):
        site.files["/glue/data/RTE.zip"] = content
        with pytest.raises(UserError, match=message):
            run(site, "--tasks", "RTE")
        assert tree(tmp_path) == []


def test_no_more_is_unpacked_than_the_table_of_contents_declares(tmp_path):
    content = bytearray(make_zip([("a", "x" * 1000)]))
    at = content.index(b"PK\x01\x02")
    content[at + 24 : at + 28] = (10).to_bytes(4, "little")  # the real size is 1000
    (tmp_path / "lying.zip").write_bytes(content)
    with pytest.raises(UserError, match="not a valid zip file"):
        archives.unpack_zip(tmp_path / "lying.zip", tmp_path / "out", "lying.zip", 10_000)
    assert sum(path.stat().st_size for path in (tmp_path / "out").rglob("*")) <= 10


def test_an_archive_larger_than_any_task_is_not_unpacked(site, tmp_path, monkeypatch):
    monkeypatch.setattr(download_glue, "LARGEST_UNPACKED", 50)
    with pytest.raises(UserError, match="unpacks to"):
        run(site, "--tasks", "RTE")
    assert tree(tmp_path) == []


def test_a_task_that_another_process_fetches_is_refused_and_the_others_arrive(site, capsys):
    Path("glue_data").mkdir()
    with sole_writer("glue_data/RTE"), pytest.raises(UserError, match="RTE"):
        run(site, "--data_dir", "glue_data", "--tasks", "RTE,CoLA")
    told = capsys.readouterr().err
    assert f"error: glue_data/RTE: process {os.getpid()} on" in told and "is writing there" in told
    assert not Path("glue_data/RTE").exists() and tree("glue_data/CoLA")
    assert run(site, "--data_dir", "glue_data", "--tasks", "RTE,CoLA") == 0
    assert not [name for name in tree("glue_data") if "lock" in name]


def test_a_member_without_a_name_is_refused(tmp_path):
    """zipfile ends a name at its first zero byte; a mutated archive had one there."""
    with zipfile.ZipFile(tmp_path / "nameless.zip", "w") as archive:
        archive.writestr("nameless", "text")
    path = tmp_path / "nameless.zip"
    path.write_bytes(path.read_bytes().replace(b"nameless", bytes(8)))
    with pytest.raises(UserError, match="not a valid zip file .a member has no name"):
        archives.unpack_zip(path, tmp_path / "out", "nameless.zip", 10_000)
    assert not (tmp_path / "out").exists()
