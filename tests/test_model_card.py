"""README.md of a trained model: a header the hub accepts, and the facts of the run."""

import dataclasses
import json

import pytest
import yaml
from huggingface_hub import ModelCard

from files.atomic import RUN_RECORD_NAME
from reporting.model_card import (
    CARD_NAME,
    base_model,
    write_card,
    write_export_card,
    write_layers_card,
)
from transformer.configuration import BertConfig

RECORD = {
    "stage": "prediction",
    "task": "STS-B",
    "student": "models/tmp_student",
    "teacher": "owner/teacher",
    "command": ["task_distill.py", "--task_name", "STS-B", "--data_dir", "my data/STS-B"],
    "data": {
        "train": {
            "path": "data/STS-B/train.tsv",
            "rows": 5749,
            "sha256": "ab" * 32,
            "dataset": "GLUE",
        },
        "dev": {"path": "data/STS-B/dev.tsv", "rows": 1500, "sha256": "cd" * 32, "dataset": "GLUE"},
    },
    "metrics": {"dev": {"pearson": 0.8126, "spearmanr": 0.8, "corr": 0.8063}},
    "best_step": 1200,
    "steps": 1500,
    "examples": 48000,
    "examples_per_second": 96.5,
    "model": {
        "parameters": 14_400_000,
        "encoder_parameters": 14_350_248,
        "config": {"num_hidden_layers": 4, "hidden_size": 312, "classifier_head": "tinybert"},
    },
    "hardware": {"cores": 2, "machine": "x86_64", "threads": 2},
    "versions": {"python": "3.11.9", "torch": "2.13.0"},
    "git_commit": "0" * 40,
}
GENERAL = RECORD | {
    "stage": "general",
    "task": None,
    "metrics": {},
    "data": {"train": {"path": "data/json_wiki", "rows": [7, 8], "sha256": ["ab" * 32, None]}},
}


@pytest.fixture
def card(tmp_path):
    def make(record):
        write_card(tmp_path, record)
        return ModelCard.load(tmp_path / CARD_NAME)

    return make


def test_the_header_is_what_the_hub_reads(card, tmp_path):
    data = card(RECORD).data
    assert (data.language, data.license, data.base_model) == ("en", "apache-2.0", "owner/teacher")
    assert data.datasets == ["nyu-mll/glue"] and data.metrics == ["pearsonr", "spearmanr"]
    assert {"tinybert", "knowledge-distillation", "custom_code"} <= set(data.tags)
    first, second = data.eval_results
    assert data.model_name == tmp_path.name
    assert (first.dataset_config, first.dataset_split) == ("stsb", "validation")
    assert (first.metric_type, first.metric_value) == ("pearsonr", 0.8126)
    assert second.metric_type == "spearmanr"


@pytest.mark.parametrize("dataset", [{}, {"dataset": None}])
def test_a_card_claims_no_glue_score_for_other_data(card, dataset):
    data = {
        split: {k: v for k, v in facts.items() if k != "dataset"} | dataset
        for split, facts in RECORD["data"].items()
    }
    loaded = card(RECORD | {"data": data})
    assert loaded.data.datasets is None and loaded.data.eval_results is None
    assert loaded.data.language is None and loaded.data.metrics is None
    assert "data in the layout of GLUE's STS-B, not known to be GLUE's" in loaded.text
    assert "GLUE's own" not in loaded.text and "| dev | pearson | 81.3 |" in loaded.text


def test_glues_dev_scores_are_its_own_whatever_was_trained_on(card):
    train = {"path": "train_aug.tsv", "rows": 9, "sha256": "ab" * 32, "dataset": None}
    loaded = card(RECORD | {"data": {"train_aug": train, "dev": RECORD["data"]["dev"]}})
    assert loaded.data.datasets == ["nyu-mll/glue"] and len(loaded.data.eval_results) == 2
    assert loaded.text.count("GLUE's own") == 1 and "- task: STS-B of GLUE\n" in loaded.text


def test_the_text_says_what_was_trained_on_what_and_how_to_use_it(card):
    text = card(RECORD).text
    for told in (
        "| dev | pearson | 81.3 |",
        "`train.tsv`, 5,749 rows, SHA-256 `" + "ab" * 32 + "`; GLUE's own",
        "--data_dir 'my data/STS-B'",
        "96.5 examples a second on 2 CPU cores",
        "14,350,248 parameters in the encoder",
        "trust_remote_code=True)",
        "python predict.py --model",
        "step 1,200 of 1,500",
        "Apache-2.0",
    ):
        assert told in text


def export_row(file, size, **scores):
    metrics = {"metrics": {"dev": scores}} if scores else {}
    return {"file": file, "bytes": size, "ms_batch_1": 1.234, "ms_batch_32": 20.0, **metrics}


EXPORT = {
    "original": export_row("pytorch_model.bin", 57_000_000, pearson=0.8126),
    "hf": export_row("model.safetensors", 56_000_000, pearson=0.8126),
    "int8": export_row("model_int8.onnx", 15_000_000, pearson=0.809),
}


def test_an_export_has_the_card_of_its_run_with_its_files(tmp_path):
    source, folder = tmp_path / "run", tmp_path / "sts"
    source.mkdir()
    folder.mkdir()
    (source / RUN_RECORD_NAME).write_text(json.dumps(RECORD))
    write_export_card(folder, source, EXPORT, BertConfig())
    card = ModelCard.load(folder / CARD_NAME)
    assert card.data.model_name == "sts" and card.data.eval_results
    for told in (
        "| `model_int8.onnx` | 15,000,000 | 1.23 | 20.00 | dev pearson 80.9 |",
        '.from_pretrained("sts", trust_remote_code=True)',
        'InferenceSession("sts/model_int8.onnx")',
    ):
        assert told in card.text
    assert "flags.json" not in card.text, "it is not there"

    write_export_card(
        folder, source, {k: export_row(k, 1) for k in ("original", "onnx")}, BertConfig()
    )
    text = ModelCard.load(folder / CARD_NAME).text
    assert "AutoModel" not in text and "| `onnx` | 1 | 1.23 | 20.00 | not measured |" in text


def test_the_card_of_an_export_describes_the_head_that_was_exported(tmp_path):
    """The folder of a run may have been saved again by transformers since."""
    (tmp_path / RUN_RECORD_NAME).write_text(json.dumps(RECORD))
    write_export_card(tmp_path, tmp_path, EXPORT, BertConfig(classifier_head="hf"))
    assert "trust_remote_code" not in ModelCard.load(tmp_path / CARD_NAME).text


@pytest.mark.parametrize("record", [None, {"stage": "theirs"}])
def test_a_model_of_others_gets_no_card_of_ours(tmp_path, record):
    if record is not None:
        (tmp_path / RUN_RECORD_NAME).write_text(json.dumps(record))
    write_export_card(tmp_path, tmp_path, EXPORT, BertConfig())
    assert not (tmp_path / CARD_NAME).exists()


def test_a_head_that_transformers_has_needs_no_code_from_the_folder(card):
    config = RECORD["model"]["config"] | {"classifier_head": "hf"}
    loaded = card(RECORD | {"model": RECORD["model"] | {"config": config}})
    assert "trust_remote_code" not in loaded.text and "custom_code" not in loaded.data.tags


def test_a_general_student_claims_no_language_task_or_score(card):
    loaded = card(GENERAL)
    assert loaded.data.language is None and loaded.data.eval_results is None
    assert loaded.data.datasets is None and "## Scores" not in loaded.text
    assert "`json_wiki`, 8 rows, SHA-256 `not recorded`" in loaded.text
    assert "import AutoTokenizer, AutoModel\n" in loaded.text


def test_the_base_model_is_found_by_the_records_on_the_way(tmp_path):
    base, teacher, student = (tmp_path / name for name in ("base", "teacher", "student"))
    for folder in (base, teacher, student):
        folder.mkdir()
    (base / "source.json").write_text(json.dumps({"model": "google-bert/bert-base-uncased"}))
    (teacher / RUN_RECORD_NAME).write_text(json.dumps({"teacher": None, "student": str(base)}))
    (student / RUN_RECORD_NAME).write_text(json.dumps({"teacher": str(teacher), "student": "x"}))
    assert base_model(student) == "google-bert/bert-base-uncased"
    assert base_model("bert-base-uncased") == "bert-base-uncased"
    (base / "source.json").unlink()
    assert base_model(student) is None, "a path of this machine is not a model of the hub"
    (base / RUN_RECORD_NAME).write_text(json.dumps({"student": str(base)}))
    assert base_model(student) is None


def test_a_run_outside_a_repository_has_no_commit(card):
    assert "; commit not known." in card(RECORD | {"git_commit": None}).text


@pytest.mark.parametrize("head", [None, "tinybert", "hf"])
def test_a_student_made_of_layers_has_a_card_that_claims_no_score(tmp_path, head):
    config = BertConfig(vocab_size=9, num_hidden_layers=3, hidden_size=12, num_attention_heads=2)
    config = dataclasses.replace(config, classifier_head=head or "tinybert")
    source = tmp_path / "teacher"
    source.mkdir()
    (source / "source.json").write_text(json.dumps({"model": "google-bert/bert-base-uncased"}))
    write_layers_card(tmp_path, "smart", source, "0,2,4", config, head is not None)
    card = ModelCard.load(tmp_path / CARD_NAME)
    assert card.data.base_model == "google-bert/bert-base-uncased"
    assert card.data.model_name == "smart" and card.data.eval_results is None
    assert card.data.pipeline_tag == (head and "text-classification")
    assert ("trust_remote_code" in card.text) == (head == "tinybert")
    assert ("AutoModelForSequenceClassification" in card.text) == (head is not None)
    for told in ("layers 0,2,4 of", "nothing has been scored", "3 layers, 12 wide", "Apache-2.0"):
        assert told in card.text


@pytest.mark.parametrize(
    "name", ["no", "1.0", "null", "a: b", "# x", "- y", "é'\"", "2026-01-01", "{z"]
)
def test_the_header_is_yaml_whatever_the_folder_is_called(tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    write_card(folder, RECORD)
    header = (folder / CARD_NAME).read_text(encoding="utf-8").split("---\n")[1]
    values = yaml.safe_load(header)
    assert values["model-index"][0]["name"] == name and values["license"] == "apache-2.0"
    ModelCard.load(folder / CARD_NAME)
