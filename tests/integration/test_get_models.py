"""get_bert_models.py against a small imitation of the hub on this machine."""

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tokenizers import BertWordPieceTokenizer

import get_bert_models
from files.errors import UserError
from files.locks import sole_writer
from tests.patience import PATIENCE
from tests.serving import serve

ROOT = Path(get_bert_models.__file__).parent
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def lfs(content):
    """What the hub records of a large file."""
    digest = hashlib.sha256(content).hexdigest()
    return {"sha256": digest, "size": len(content), "pointerSize": 134}


class Hub:
    """A site with the hub's paths."""

    def __init__(self, site):
        self.site = site

    def add(self, model, files, revision="main"):
        siblings = [
            {"rfilename": name, "size": len(content)}
            | ({"lfs": lfs(content)} if name.startswith(("model.", "pytorch_")) else {})
            for name, content in files.items()
        ]
        answer = {"id": model, "sha": COMMIT, "siblings": siblings, "private": False, "tags": []}
        for asked in {revision, COMMIT}:
            self.site.files[f"/api/models/{model}/revision/{asked}"] = json.dumps(answer).encode()
        self.site.headers[f"/api/models/{model}/revision/{revision} refused"] = {}
        for name, content in files.items():
            path = f"/{model}/resolve/{COMMIT}/{name}"
            self.site.files[path] = content
            self.site.headers[path] = {"X-Repo-Commit": COMMIT}

    def run(self, folder, *arguments):
        environment = {
            **os.environ,
            "HF_ENDPOINT": self.site.url,
            "HF_HOME": str(folder / "hf"),
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }
        environment.pop("HF_HUB_OFFLINE", None)
        return subprocess.run(
            [sys.executable, ROOT / "get_bert_models.py", *arguments],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )


@pytest.fixture
def hub():
    with serve() as site:
        yield Hub(site)


def bert_files(weights="model.safetensors", **config):
    return {
        "config.json": json.dumps({"model_type": "bert", **config}).encode(),
        "vocab.txt": b"[PAD]\n[UNK]\n",
        "tokenizer_config.json": b'{"do_lower_case": true}',
        weights: bytes(range(256)) * 100,
        "flax_model.msgpack": b"not wanted",
        "training_args.bin": b"not wanted",
    }


def test_no_flags_download_the_five_models_at_their_pinned_commits(hub, tmp_path):
    revisions = dict(list(get_bert_models.REVISIONS.items())[:5])
    for number, (model, revision) in enumerate(revisions.items()):
        hub.add(
            model, bert_files("model.safetensors" if number % 2 else "pytorch_model.bin"), revision
        )
    result = hub.run(tmp_path)
    assert result.returncode == 0, result.stderr
    names = {path.name for path in (tmp_path / "models").iterdir()}
    assert names == {
        "bert-base-uncased",
        *(f"bert-base-uncased-{task}" for task in ("mrpc", "sst2", "cola", "rte")),
    }
    asked = [path for _, path in hub.site.requests]
    for model, revision in revisions.items():
        assert f"/api/models/{model}/revision/{revision}" in asked

    hub.site.requests.clear()
    again = hub.run(tmp_path)
    assert again.returncode == 0 and again.stdout.count("already there") == 5
    assert hub.site.requests == []


def test_every_glue_task_has_a_teacher_at_a_pinned_commit():
    teachers = set(get_bert_models.REVISIONS) - {get_bert_models.BASE}
    keys = {name.lower().replace("-", "") for name in glue_tasks()}
    assert teachers == {get_bert_models.TEACHER.format(key) for key in keys} and len(keys) == 9
    assert all(re.fullmatch("[0-9a-f]{40}", r) for r in get_bert_models.REVISIONS.values())
    assert len(set(get_bert_models.REVISIONS.values())) == 10


def glue_tasks():
    """Every GLUE task that has training data of its own."""
    script = (ROOT / "reproduction.sh").read_text()
    return re.search('GLUE_TASKS="(.*)"', script)[1].split()


def test_tasks_choose_the_teachers(hub, tmp_path):
    for model, revision in get_bert_models.REVISIONS.items():
        hub.add(model, bert_files(), revision)
    result = hub.run(tmp_path, "--tasks", "sts-b,MNLI")
    assert result.returncode == 0, result.stderr
    names = {path.name for path in (tmp_path / "models").iterdir()}
    assert names == {f"bert-base-uncased{task}" for task in ("", "-stsb", "-mnli")}
    assert len(get_bert_models.task_keys("all")) == 9
    for wrong in ("SNLI", ","):
        with pytest.raises(UserError, match=f"--tasks {wrong}: expected all, or names"):
            get_bert_models.task_keys(wrong)


def test_files_arrive_unchanged_and_with_their_origin(hub, tmp_path):
    files = {**bert_files(), "pytorch_model.bin": b"the same weights again"}
    hub.add("someone/tiny-bert", files)
    result = hub.run(tmp_path, "--models", "someone/tiny-bert", "--output_dir", "a/b")
    assert result.returncode == 0, result.stderr
    folder = tmp_path / "a" / "b" / "tiny-bert"
    wanted = {"config.json", "vocab.txt", "tokenizer_config.json", "model.safetensors"}
    assert {path.name for path in folder.iterdir()} == {*wanted, "source.json"}
    source = json.loads((folder / "source.json").read_text())
    assert (source["model"], source["commit"]) == ("someone/tiny-bert", COMMIT)
    assert source["requested_revision"] == "main"
    for name in wanted:
        assert (folder / name).read_bytes() == files[name]
        assert source["files"][name]["sha256"] == hashlib.sha256(files[name]).hexdigest()


def test_an_interrupted_download_leaves_no_model_and_is_continued(hub, tmp_path):
    hub.add("someone/tiny", bert_files())
    weights = f"/someone/tiny/resolve/{COMMIT}/model.safetensors"
    hub.site.faults[weights] = [404] * 20
    result = hub.run(tmp_path, "--models", "someone/tiny")
    assert result.returncode == 2
    assert not (tmp_path / "models" / "tiny").exists()
    hub.site.faults.clear()
    hub.site.requests.clear()
    assert hub.run(tmp_path, "--models", "someone/tiny").returncode == 0
    assert ("GET", f"/someone/tiny/resolve/{COMMIT}/config.json") not in hub.site.requests
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["tiny"]


def test_a_mirror_is_asked_in_place_of_the_hub(hub, tmp_path):
    hub.add("someone/tiny", bert_files())
    mirror, hub.site.url = hub.site.url, "http://127.0.0.1:9"
    result = hub.run(tmp_path, "--models", "someone/tiny", "--mirror", mirror)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "models" / "tiny" / "source.json").exists()


def test_weights_that_are_not_the_recorded_ones_are_refused_and_fetched_again(hub, tmp_path):
    hub.add("someone/tiny", bert_files())
    weights = f"/someone/tiny/resolve/{COMMIT}/model.safetensors"
    good = hub.site.files[weights]
    hub.site.files[weights] = good[::-1]
    result = hub.run(tmp_path, "--models", "someone/tiny")
    assert result.returncode == 2 and "the hub records" in result.stderr, result.stderr
    assert not (tmp_path / "models" / "tiny").exists()
    assert not list(tmp_path.rglob("model.safetensors"))
    hub.site.files[weights] = good
    assert hub.run(tmp_path, "--models", "someone/tiny").returncode == 0


def test_offline_lists_every_model_to_fetch_by_hand_and_asks_nobody(hub, tmp_path):
    result = hub.run(tmp_path, "--offline")
    assert result.returncode == 2 and hub.site.requests == []
    for model, revision in list(get_bert_models.REVISIONS.items())[:5]:
        assert f"{hub.site.url}/{model}/tree/{revision} into models/" in result.stderr
    assert not (tmp_path / "models").exists()


def test_more_than_the_disk_holds_is_not_begun(tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 6})
    monkeypatch.setattr(get_bert_models.shutil, "disk_usage", lambda folder: usage)
    (tmp_path / "there").write_bytes(b"1234")
    get_bert_models.check_room("someone/tiny", 10, tmp_path)
    with pytest.raises(UserError, match="6 bytes free; someone/tiny needs 7"):
        get_bert_models.check_room("someone/tiny", 11, tmp_path)


@pytest.mark.parametrize(
    ("files", "arguments", "message"),
    [
        (bert_files(model_type="gpt2"), ["someone/tiny"], "is a gpt2 model"),
        (
            {"config.json": b"[]", "vocab.txt": b"", "model.safetensors": b""},
            ["someone/tiny"],
            "JSON",
        ),
        (
            {"config.json": b"{}", "tokenizer_config.json": b"{}"},
            ["someone/tiny"],
            "lacks vocab.txt or tokenizer.json, model",
        ),
        (bert_files(), ["someone/tiny", "else/tiny"], "would both be"),
        (bert_files(), ["../../etc"], "OWNER/NAME"),
        (bert_files(), ["someone/tiny", "--revision", "v9"], "To fetch it by hand"),
    ],
    ids=["architecture", "configuration", "files", "same folder", "name", "revision"],
)
def test_mistakes_are_one_line_and_fetch_no_weights(hub, tmp_path, files, arguments, message):
    hub.add("someone/tiny", files)
    result = hub.run(tmp_path, "--models", *arguments)
    assert result.returncode == 2
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and message in lines[0], result.stderr
    assert "Traceback" not in result.stderr
    assert not list(tmp_path.rglob("model.safetensors"))
    assert not (tmp_path / "models" / "tiny").exists()


def test_an_unknown_model_says_what_to_fetch_by_hand(hub, tmp_path):
    hub.site.headers["/api/models/no/such/revision/main refused"] = {"X-Error-Code": "RepoNotFound"}
    result = hub.run(tmp_path, "--models", "no/such")
    assert result.returncode == 2
    assert "no such model on the hub" in result.stderr
    files = "config.json, vocab.txt or tokenizer.json and model.safetensors or pytorch_model.bin"
    assert f"put {files} of {hub.site.url}/no/such" in result.stderr


def test_a_hub_that_cannot_be_reached_is_one_line(hub, tmp_path):
    hub.site.url = "http://127.0.0.1:9"
    result = hub.run(tmp_path, "--models", "someone/tiny")
    assert result.returncode == 2 and "Traceback" not in result.stderr
    assert "To fetch it by hand" in result.stderr
    assert list(tmp_path.iterdir()) in ([], [tmp_path / "hf"])


def test_an_incomplete_folder_is_left_alone_and_named(hub, tmp_path):
    (tmp_path / "models" / "tiny").mkdir(parents=True)
    (tmp_path / "models" / "tiny" / "config.json").write_text("{}")
    result = hub.run(tmp_path, "--models", "someone/tiny")
    assert result.returncode == 2
    assert (
        "lacks vocab.txt or tokenizer.json, model.safetensors or pytorch_model.bin" in result.stderr
    )
    assert hub.site.requests == []


def find_files(folder, endpoint):
    """Print what find_model_file answers for a file, an absent one, and that one when required."""
    code = (
        "from transformer.hub import find_model_file as find\n"
        "print(find('someone/tiny', 'vocab.txt', 'cache').read_text().split())\n"
        "print(find('someone/tiny', 'added.json', 'cache', required=False))\n"
        "try: find('someone/tiny', 'added.json', 'cache')\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    environment = {"HF_ENDPOINT": endpoint, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "0"}
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


def test_a_model_named_on_the_hub_is_found_file_by_file_and_kept_for_later(hub, tmp_path):
    for name, content in bert_files().items():
        hub.site.files[f"/someone/tiny/resolve/main/{name}"] = content
        hub.site.headers[f"/someone/tiny/resolve/main/{name}"] = {"X-Repo-Commit": COMMIT}
    hub.site.headers["/someone/tiny/resolve/main/added.json refused"] = {
        "X-Error-Code": "EntryNotFound",
        "X-Repo-Commit": COMMIT,
    }
    found, absent, required = find_files(tmp_path, hub.site.url)
    assert (found, absent) == ("['[PAD]', '[UNK]']", "None")
    assert required.startswith("FileMissing") and "has no added.json" in required

    found, absent, required = find_files(tmp_path, "http://127.0.0.1:9")
    assert (found, absent) == ("['[PAD]', '[UNK]']", "None")
    assert required.startswith("UserError") and "cannot be reached" in required


def test_a_model_that_another_process_fetches_is_refused(hub, tmp_path):
    hub.add("someone/tiny", bert_files())
    (tmp_path / "models").mkdir()
    with sole_writer(tmp_path / "models/tiny"):
        result = hub.run(tmp_path, "--models", "someone/tiny")
    assert result.returncode == 2
    assert f"error: models/tiny: process {os.getpid()} on" in result.stderr
    assert hub.run(tmp_path, "--models", "someone/tiny").returncode == 0
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["tiny"]


def test_a_lone_tokenizer_json_gets_its_vocab_txt_and_the_models_positions(hub, tmp_path):
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the"]
    library = BertWordPieceTokenizer({token: i for i, token in enumerate(tokens)})
    files = bert_files(max_position_embeddings=32)
    del files["vocab.txt"]
    files["tokenizer.json"] = library.to_str().encode()
    hub.add("someone/tiny", files)
    result = hub.run(tmp_path, "--models", "someone/tiny")
    assert result.returncode == 0, result.stderr
    folder = tmp_path / "models" / "tiny"
    assert (folder / "vocab.txt").read_text().split() == tokens
    config = json.loads((folder / "tokenizer_config.json").read_text())
    assert config["model_max_length"] == 32 and config["do_lower_case"] is True
    recorded = json.loads((folder / "source.json").read_text())["files"]
    for name in ("vocab.txt", "tokenizer_config.json"):
        assert recorded[name]["sha256"] == hashlib.sha256((folder / name).read_bytes()).hexdigest()


def test_a_sharded_model_arrives_with_every_shard_its_index_names(hub, tmp_path):
    shards = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    where = dict(zip(("bert.a", "bert.b"), shards, strict=True))
    index = json.dumps({"weight_map": where}).encode()
    files = bert_files("model.safetensors.index.json") | {"model.safetensors.index.json": index}
    files |= {shards[0]: b"one", "model-00009-of-00009.safetensors": b"not named"}
    hub.add("someone/lacking", files)
    result = hub.run(tmp_path, "--models", "someone/lacking")
    assert result.returncode == 2 and f"lacks {shards[1]} on the hub" in result.stderr
    hub.add("someone/sharded", files | {shards[1]: b"two"})
    result = hub.run(tmp_path, "--models", "someone/sharded")
    assert result.returncode == 0, result.stderr
    folder = tmp_path / "models/sharded"
    assert sorted(path.name for path in folder.glob("model*")) == [
        *shards,
        "model.safetensors.index.json",
    ]
    (folder / shards[1]).unlink()
    result = hub.run(tmp_path, "--models", "someone/sharded")
    assert result.returncode == 2 and f"exists but lacks {shards[1]}" in result.stderr
