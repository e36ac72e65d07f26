"""What is made once and read by many runs: never stale, never torn, never wrong."""

import contextlib
import os

import numpy as np
import pytest
import torch

import task_distill
from files.errors import UserError
from tasks import feature_cache as module
from tasks.classifiers import load_classifier
from tasks.evaluation import predict_logits
from tasks.feature_cache import cached_logits, cached_split, feature_cache
from tasks.glue import TASKS
from transformer.file_utils import WEIGHTS_NAME
from transformer.modeling import TinyBertForSequenceClassification
from transformer.tokenization import BertTokenizer

SST = TASKS["sst2"]
ROWS = 21
LABELS = {"id2label": ["negative", "positive"], "max_position_embeddings": 48}


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "SST-2"
    folder.mkdir()
    for name, rows in (("train", ROWS), ("dev", 10)):
        lines = [
            f"the {'old ' * (i % 6)}{('bad', 'good')[i % 2]} film {i} \t{i % 2}"
            for i in range(rows)
        ]
        (folder / f"{name}.tsv").write_text("\n".join(["sentence\tlabel", *lines]) + "\n")
    return folder


@pytest.fixture
def teacher_dir(tiny_model_dir):
    return tiny_model_dir("teacher", TinyBertForSequenceClassification, 1, **LABELS)


@pytest.fixture
def tokenizer(tiny_vocab):
    return BertTokenizer(tiny_vocab)


def split_of(tmp_path, data, tokenizer, length=32):
    return cached_split(tmp_path / "cache", SST, data, "train", tokenizer, length)


def logits_of(tmp_path, data, tokenizer, teacher_dir, precision="fp32"):
    teacher = load_classifier(SST, teacher_dir, ())
    rows, key = split_of(tmp_path, data, tokenizer)
    return cached_logits(
        tmp_path / "cache", SST.folder, teacher_dir, teacher, rows.store, key, 4, precision
    )  # fmt: skip


def refuse(*args, **options):
    raise AssertionError("made again")


def test_rows_are_tokenised_once(tmp_path, data, tokenizer, monkeypatch, capsys):
    first, key = split_of(tmp_path, data, tokenizer)
    monkeypatch.setattr(module, "write_split", refuse)
    again, same = split_of(tmp_path, data, tokenizer)
    assert key == same and len(again.store) == ROWS
    np.testing.assert_array_equal(first.store.tokens, again.store.tokens)
    assert said(capsys) == []


def test_rows_of_another_length_or_vocabulary_stand_beside(tmp_path, data, tokenizer, tiny_vocab):
    cased = BertTokenizer(tiny_vocab, do_lower_case=False)
    keys = {
        split_of(tmp_path, data, tokenizer)[1],
        split_of(tmp_path, data, tokenizer, 16)[1],
        split_of(tmp_path, data, cased, 24)[1],
    }
    assert len(keys) == 3
    assert len(list((tmp_path / "cache").glob("*.json"))) == 3


def test_changed_data_are_noticed_and_tokenised_again(tmp_path, data, tokenizer, capsys):
    split_of(tmp_path, data, tokenizer)
    (data / "train.tsv").write_text("sentence\tlabel\na cat\t1\n")
    split, _ = split_of(tmp_path, data, tokenizer)
    assert len(split.store) == 1
    notes = capsys.readouterr().err.splitlines()
    assert len(notes) == 1 and "train.tsv has changed since; made again" in notes[0]
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 8, "the old entry stays"


@pytest.mark.parametrize("name", ["tokens", "offsets", "labels", "logits", "json"])
@pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
def test_a_damaged_entry_is_made_again(
    tmp_path, data, tokenizer, teacher_dir, capsys, name, damage
):
    expected = np.array(logits_of(tmp_path, data, tokenizer, teacher_dir))
    tokens = split_of(tmp_path, data, tokenizer)[0].store.tokens.copy()
    for path in [p for p in (tmp_path / "cache").iterdir() if name in p.name.split(".")]:
        content = bytearray(path.read_bytes())
        content[-3] ^= 0x40
        path.unlink()
        if damage != "gone":
            path.write_bytes(content if damage == "flipped" else content[:-3])
    capsys.readouterr()
    assert np.array_equal(logits_of(tmp_path, data, tokenizer, teacher_dir), expected)
    assert np.array_equal(split_of(tmp_path, data, tokenizer)[0].store.tokens, tokens)
    told = capsys.readouterr().err
    assert ("is damaged; made again" in told) == ((name, damage) != ("json", "gone"))
    logits_of(tmp_path, data, tokenizer, teacher_dir)
    assert said(capsys) == []


def said(capsys):
    """Lines of messages, but those that name a loaded classifier's head."""
    lines = capsys.readouterr().err.splitlines()
    return [line for line in lines if ": classifier head " not in line]


def test_logits_are_those_of_the_teacher(tmp_path, data, tokenizer, teacher_dir):
    logits = logits_of(tmp_path, data, tokenizer, teacher_dir)
    assert isinstance(logits, np.memmap) and logits.dtype == np.float32
    teacher = load_classifier(SST, teacher_dir, ())
    store = split_of(tmp_path, data, tokenizer)[0].store
    with torch.no_grad():
        alone = [teacher(**store.collate(np.array([i]))).output[0] for i in range(ROWS)]
    np.testing.assert_allclose(logits, torch.stack(alone).numpy(), atol=1e-5)


def test_logits_are_computed_once(tmp_path, data, tokenizer, teacher_dir, monkeypatch, capsys):
    logits_of(tmp_path, data, tokenizer, teacher_dir)
    capsys.readouterr()
    monkeypatch.setattr(module, "predict_logits", refuse)
    logits_of(tmp_path, data, tokenizer, teacher_dir)
    assert said(capsys) == []
    with pytest.raises(AssertionError, match="made again"):  # bfloat16 has logits of its own
        logits_of(tmp_path, data, tokenizer, teacher_dir, "bf16")


def test_another_teacher_in_the_same_place_is_noticed(
    tmp_path, data, tokenizer, teacher_dir, capsys
):
    before = np.array(logits_of(tmp_path, data, tokenizer, teacher_dir))
    state = torch.load(teacher_dir / WEIGHTS_NAME)
    state["classifier.bias"] += 1.0
    torch.save(state, teacher_dir / WEIGHTS_NAME)
    capsys.readouterr()
    after = logits_of(tmp_path, data, tokenizer, teacher_dir)
    np.testing.assert_allclose(after, before + 1.0, atol=1e-5)
    assert "teacher has changed since; made again" in capsys.readouterr().err
    assert len(list((tmp_path / "cache").glob("*.logits.npy"))) == 2, "the old entry stays"


@pytest.mark.parametrize("batches", [0, 1, 3])
def test_a_killed_computation_goes_on_where_it_stopped(
    tmp_path, data, tokenizer, teacher_dir, monkeypatch, batches
):
    whole = np.array(logits_of(tmp_path / "whole", data, tokenizer, teacher_dir))
    asked = []

    def counted(model, *args):
        model.register_forward_hook(lambda *call: asked.append(len(call[2].output)))
        return predict_logits(model, *args)

    def killed(model, *args):
        def stop(*_):
            if len(asked) == batches:
                raise KeyboardInterrupt

        model.register_forward_pre_hook(stop)
        return counted(model, *args)

    monkeypatch.setattr("tasks.evaluation._BATCHES_AT_ONCE", 1)
    monkeypatch.setattr(module, "predict_logits", killed)
    with pytest.raises(KeyboardInterrupt):
        logits_of(tmp_path, data, tokenizer, teacher_dir)
    assert not list((tmp_path / "cache").glob("*.logits.npy"))
    monkeypatch.setattr(module, "predict_logits", counted)
    resumed = logits_of(tmp_path, data, tokenizer, teacher_dir)
    assert sum(asked) == ROWS
    np.testing.assert_array_equal(resumed, whole)


def test_a_teacher_without_finite_logits_is_refused(tmp_path, data, tokenizer, teacher_dir):
    state = torch.load(teacher_dir / WEIGHTS_NAME)
    for name in ("classifier.weight", "classifier.bias"):
        state[name].fill_(3e38)  # finite, as a file's weights must be; the logits are not
    torch.save(state, teacher_dir / WEIGHTS_NAME)
    with pytest.raises(UserError, match="--teacher_model .*not finite"):
        logits_of(tmp_path, data, tokenizer, teacher_dir)
    assert not list((tmp_path / "cache").glob("*.logits.npy*"))


def test_the_folder_of_one_run_is_removed_with_it(tmp_path):
    for error in (None, UserError, KeyboardInterrupt):
        with suppressed(error), feature_cache(None, f"{tmp_path}/model/") as folder:
            assert folder == tmp_path / "model.cache"
            folder.mkdir(exist_ok=True)
            if error:
                raise error
        assert folder.exists() == (error is KeyboardInterrupt)  # --resume finds it
    with feature_cache(str(tmp_path / "shared"), tmp_path / "model") as folder:
        folder.mkdir()
    assert folder.exists()


def suppressed(error):
    return contextlib.suppress(error) if error else contextlib.nullcontext()


@pytest.fixture
def distil(tmp_path, data, teacher_dir, tiny_model_dir, monkeypatch):
    """A function running prediction distillation; it returns the weights and the rows the teacher saw."""
    student = tiny_model_dir("student", TinyBertForSequenceClassification, 2, **LABELS)

    def run(name, *flags):
        seen, load = [], load_classifier

        def loaded(task, source, *args, **settings):
            model = load(task, source, *args, **settings)
            if os.fspath(source) == str(teacher_dir):
                model.register_forward_hook(lambda *call: seen.append(len(call[2].output)))
            return model

        monkeypatch.setattr(task_distill, "load_classifier", loaded)
        monkeypatch.setattr(task_distill, "score_teacher", lambda *args: None)
        task_distill.main([
            "--pred_distill", "--task_name", "SST-2", "--data_dir", str(data), "--no_cuda",
            "--teacher_model", str(teacher_dir), "--student_model", str(student),
            "--output_dir", str(tmp_path / name), "--train_batch_size", "4",
            "--learning_rate", "1e-3", "--max_seq_length", "32", *flags,
        ])  # fmt: skip
        return torch.load(tmp_path / name / "last_pytorch_model.bin"), sum(seen)

    return run


def test_each_logit_is_computed_once_for_all_epochs(distil, tmp_path, monkeypatch):
    cached, asked = distil("cached")
    assert asked == ROWS
    assert not (tmp_path / "cached.cache").exists()
    # A teacher without dropout answers the same with --teacher_dropout, and is asked each time.
    plain, asked = distil("plain", "--teacher_dropout")
    assert asked == 3 * ROWS
    for name, weight in plain.items():
        torch.testing.assert_close(cached[name], weight, rtol=1e-4, atol=1e-5)


def test_runs_share_a_folder(distil, tmp_path):
    shared = ("--feature_cache", str(tmp_path / "shared"))
    assert distil("first", *shared)[1] == ROWS
    assert distil("second", *shared, "--seed", "7")[1] == 0
    assert distil("third", *shared, "--bf16", "--force_bf16")[1] == ROWS


def test_a_run_that_meets_no_row_twice_computes_what_it_meets(distil):
    assert distil("short", "--max_steps", "2")[1] == 8
