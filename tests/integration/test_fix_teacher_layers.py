"""fix_teacher_layers.py on small teachers as the hub and the published download leave them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import fix_teacher_layers
from files.errors import UserError
from files.locks import sole_writer
from tests.patience import PATIENCE
from transformer.modeling import TinyBertForSequenceClassification

SCRIPT = Path(fix_teacher_layers.__file__)
CONFIG = {
    "architectures": ["BertForSequenceClassification"],
    "model_type": "bert",
    "vocab_size": 30,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 16,
    "id2label": {"0": "entailment", "1": "not_entailment"},
    "label2id": {"entailment": 0, "not_entailment": 1},
    "transformers_version": "4.17.0",
}
BATCH = torch.tensor([[2, 5, 6, 3], [2, 9, 3, 0]])
MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])


def hub_model(seed=0, **settings):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(seed)
    config = transformers.BertConfig(**{**CONFIG, **settings})
    return transformers.BertForSequenceClassification(config).eval()


def write_folder(folder, state, safe=True, **config):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({**CONFIG, **config}))
    (folder / "vocab.txt").write_text("[PAD]\n")
    if safe:
        from safetensors.torch import save_file

        save_file(
            {name: value.clone() for name, value in state.items()}, folder / "model.safetensors"
        )
    else:
        torch.save(dict(state), folder / "pytorch_model.bin")
    return folder


def run(tmp_path, *arguments):
    return fix_teacher_layers.main(["--models_dir", str(tmp_path), *arguments])


def snapshot(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def logits(folder):
    model = TinyBertForSequenceClassification.from_pretrained(folder)
    with torch.no_grad():
        return model(BATCH, torch.zeros_like(BATCH), MASK)[0]


@pytest.mark.parametrize("safe", [True, False], ids=["safetensors", "bin"])
def test_the_head_is_kept_and_the_logits_stay_those_of_transformers(tmp_path, safe):
    teacher = hub_model()
    folder = write_folder(tmp_path / "bert-base-uncased-rte", teacher.state_dict(), safe)
    assert run(tmp_path, "--models", folder.name) == 0
    assert {path.name for path in folder.iterdir()} == {
        *("config.json", "vocab.txt", "tokenizer_config.json", "pytorch_model.bin")
    }
    config = json.loads((folder / "config.json").read_text())
    assert config == {**CONFIG, "classifier_head": "hf"}
    state = torch.load(folder / "pytorch_model.bin", weights_only=True)
    assert torch.equal(state["classifier.weight"], teacher.classifier.weight)
    with torch.no_grad():
        expected = teacher(BATCH, attention_mask=MASK).logits
    torch.testing.assert_close(logits(folder), expected, rtol=0, atol=1e-5)

    loaded = pytest.importorskip("transformers").AutoModelForSequenceClassification.from_pretrained(
        folder
    )
    with torch.no_grad():
        torch.testing.assert_close(loaded.eval()(BATCH, attention_mask=MASK).logits, expected)


def test_missing_prefixes_and_old_names_are_corrected(tmp_path):
    teacher = hub_model()
    old = {}
    for name, value in teacher.state_dict().items():
        name = name.removeprefix("bert.")
        if "LayerNorm" in name:
            name = name.replace("weight", "gamma").replace("bias", "beta")
        old[name] = value
    old["embeddings.position_ids"] = torch.arange(16)[None]
    folder = write_folder(tmp_path / "t", old, safe=False)
    run(tmp_path, "--models", "t")
    state = torch.load(folder / "pytorch_model.bin", weights_only=True)
    assert set(state) == set(teacher.state_dict())
    assert all(torch.equal(state[name], value) for name, value in teacher.state_dict().items())


@pytest.mark.parametrize("safe", [True, False], ids=["safetensors", "bin"])
def test_a_second_run_has_nothing_to_do(tmp_path, safe, capsys):
    folder = write_folder(tmp_path / "t", hub_model().state_dict(), safe)
    run(tmp_path, "--models", "t")
    before = snapshot(folder)
    capsys.readouterr()
    run(tmp_path, "--models", "t")
    assert capsys.readouterr().out == f"{folder}: nothing to do\n"
    assert snapshot(folder) == before


def test_a_run_cut_short_before_its_end_is_started_again(tmp_path):
    teacher = hub_model()
    folder = write_folder(tmp_path / "t", teacher.state_dict())
    (folder / "pytorch_model.bin").write_bytes(b"torn")
    run(tmp_path, "--models", "t")
    state = torch.load(folder / "pytorch_model.bin", weights_only=True)
    assert torch.equal(state["classifier.weight"], teacher.classifier.weight)
    assert not (folder / "model.safetensors").exists()


def test_the_four_downloaded_teachers_are_the_default(tmp_path, monkeypatch):
    for task in ("mrpc", "sst2", "cola", "rte"):
        write_folder(tmp_path / "models" / f"bert-base-uncased-{task}", hub_model().state_dict())
    monkeypatch.chdir(tmp_path)
    assert fix_teacher_layers.main([]) == 0
    assert len(list(tmp_path.glob("models/*/pytorch_model.bin"))) == 4


@pytest.fixture
def headless():
    """What the published download leaves: the encoder alone, without the prefix."""
    return {
        name.removeprefix("bert."): value
        for name, value in hub_model().state_dict().items()
        if not name.startswith("classifier")
    }


def test_a_teacher_without_head_stops_the_program(tmp_path, headless):
    folder = write_folder(tmp_path / "t", headless, safe=False, architectures=["BertModel"])
    before = snapshot(folder)
    with pytest.raises(UserError, match="has no classifier head .* --init_head"):
        run(tmp_path, "--models", "t")
    assert snapshot(folder) == before


def test_a_random_head_is_made_only_when_asked_for_and_said_aloud(tmp_path, headless, capsys):
    folders = [
        write_folder(tmp_path / name, headless, safe=False, architectures=["BertModel"])
        for name in ("a", "b", "c")
    ]
    run(tmp_path, "--init_head", "--models", "a", "b")
    run(tmp_path, "--init_head", "--seed", "7", "--models", "c")
    assert capsys.readouterr().out.count("RANDOM classifier head") == 3
    heads = [
        torch.load(folder / "pytorch_model.bin", weights_only=True)["classifier.weight"]
        for folder in folders
    ]
    assert torch.equal(heads[0], heads[1]) and not torch.equal(heads[0], heads[2])
    assert heads[0].shape == (2, 8) and 0.005 < heads[0].std() < 0.05
    config = json.loads((folders[0] / "config.json").read_text())
    assert config["classifier_head"] == "tinybert"
    assert logits(folders[0]).shape == (2, 2)


@pytest.mark.parametrize(
    "recorded, flags, head",
    [
        ({"classifier_head": "tinybert"}, [], "hf"),  # transformers wrote the file after that
        ({"classifier_head": "tinybert", "architectures": ["Odd"]}, [], "tinybert"),
        ({"architectures": None}, [], "hf"),
        ({"architectures": ["BertForMaskedLM"], "finetuning_task": "rte"}, [], "hf"),
        ({"architectures": ["BertForMaskedLM"]}, ["--head", "tinybert"], "tinybert"),
        ({}, ["--head", "tinybert"], "tinybert"),
    ],
)
def test_the_head_is_that_which_every_program_reads(tmp_path, capsys, recorded, flags, head):
    folder = write_folder(tmp_path / "t", hub_model().state_dict(), **recorded)
    read = TinyBertForSequenceClassification.from_pretrained(folder)
    assert flags or read.config.classifier_head == head
    run(tmp_path, "--models", "t", *flags)
    assert f"{folder}: classifier head {head}" in capsys.readouterr().err
    after = TinyBertForSequenceClassification.from_pretrained(folder)
    assert after.config.classifier_head == head and not after.head.guessed
    assert (folder / "modeling_tinybert.py").exists() == (head == "tinybert")
    run(tmp_path, "--models", "t", *flags)
    assert "nothing to do" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["model.safetensors", "pytorch_model.bin"])
def test_shards_become_one_file(tmp_path, kind):
    teacher = hub_model()
    folder = write_folder(tmp_path / "t", {}, safe=False)
    (folder / "pytorch_model.bin").unlink()
    state = {name: value.clone() for name, value in teacher.state_dict().items()}
    stem, ending = kind.split(".")
    where = {}
    for number in (1, 2):
        part = dict(list(state.items())[number - 1 :: 2])
        shard = folder / f"{stem}-0000{number}-of-00002.{ending}"
        where |= dict.fromkeys(part, shard.name)
        if ending == "bin":
            torch.save(part, shard)
        else:
            from safetensors.torch import save_file

            save_file(part, shard)
    (folder / f"{kind}.index.json").write_text(json.dumps({"weight_map": where}))
    expected = logits(folder)
    run(tmp_path, "--models", "t")
    assert {path.name for path in folder.iterdir()} == {
        *("config.json", "vocab.txt", "tokenizer_config.json", "pytorch_model.bin")
    }
    assert torch.equal(logits(folder), expected)


class Malicious:
    def __reduce__(self):
        return (open, ("executed", "w"))


def put_code(folder, state):
    torch.save({**state, "classifier.weight": Malicious()}, folder / "pytorch_model.bin")


def tear(folder, state):
    path = folder / "pytorch_model.bin"
    path.write_bytes(path.read_bytes()[:-100])


def drop_a_layer(folder, state):
    kept = {name: value for name, value in state.items() if "layer.1.output.dense" not in name}
    torch.save(kept, folder / "pytorch_model.bin")


def drop_half_the_head(folder, state):
    kept = {name: value for name, value in state.items() if name != "classifier.bias"}
    torch.save(kept, folder / "pytorch_model.bin")


def widen(folder, state):
    torch.save({**state, "classifier.weight": torch.zeros(3, 8)}, folder / "pytorch_model.bin")


def change_kind(folder, state):
    (folder / "config.json").write_text(json.dumps({**CONFIG, "model_type": "gpt2"}))


def remove_weights(folder, state):
    (folder / "pytorch_model.bin").unlink()


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (put_code, "pytorch_model.bin: cannot be read"),
        (tear, "pytorch_model.bin: cannot be read"),
        (drop_a_layer, "layer.1.output.dense"),
        (drop_half_the_head, "holds classifier.weight only"),
        (widen, "classifier.weight has shape"),
        (change_kind, "gpt2"),
        (remove_weights, "pytorch_model.bin: no such file"),
    ],
)
def test_a_broken_teacher_is_refused_and_left_as_it_is(tmp_path, monkeypatch, harm, message):
    monkeypatch.chdir(tmp_path)
    state = hub_model().state_dict()
    folder = write_folder(tmp_path / "t", state, safe=False)
    harm(folder, state)
    before = snapshot(folder)
    with pytest.raises(UserError, match=message):
        run(tmp_path, "--models", "t")
    assert snapshot(folder) == before and not (tmp_path / "executed").exists()


def test_a_file_that_carries_code_is_one_line_on_the_terminal(tmp_path):
    state = hub_model().state_dict()
    put_code(write_folder(tmp_path / "t", state, safe=False), state)
    result = subprocess.run(
        [sys.executable, SCRIPT, "--models_dir", ".", "--models", "t"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert result.returncode == 2
    assert result.stderr.startswith("error: t/pytorch_model.bin") and result.stderr.count("\n") == 1
    assert not (tmp_path / "executed").exists()


def test_a_missing_folder_says_where_teachers_come_from(tmp_path):
    with pytest.raises(UserError, match="get_bert_models.py"):
        run(tmp_path)


def test_a_teacher_that_another_process_writes_is_refused_and_left_alone(tmp_path):
    folder = write_folder(tmp_path / "t", hub_model().state_dict())
    with sole_writer(folder):
        before = snapshot(folder)
        with pytest.raises(UserError, match=rf"t: process {os.getpid()} on .* is writing there"):
            run(tmp_path, "--models", "t")
        assert snapshot(folder) == before
    run(tmp_path, "--models", "t")
    with sole_writer(folder):  # nothing to do needs no lock
        run(tmp_path, "--models", "t")
