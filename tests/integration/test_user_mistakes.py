"""What a user can get wrong: one line that says what and where, exit status 2, nothing written."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pickle
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.integration.workspace import (
    STUDENT_4L,
    VOCABULARY,
    config,
    run_line,
    succeed,
    write_bert,
    write_classifier,
    write_corpus,
    write_dump,
    write_glove,
    write_model,
    write_student,
    write_task,
    write_vocabulary,
)
from transformer.modeling import TinyBertForPreTraining
from transformer.optimization import BertAdam

TEACHER = {"num_hidden_layers": 4}
STUDENT = {**STUDENT_4L, "num_hidden_layers": 2}

AUGMENT = (
    "python data_augmentation.py --pretrained_bert_model models/bert --glove_embs glove.txt "
    "--glue_dir glue --task_name RTE"
)
FINE_TUNE = (
    "python finetune_teacher.py --data_dir glue/RTE "
    "--bert_model models/teacher --output_dir out/new"
)
PREPARE = "python prepare_data.py --input wiki.xml.bz2 --output out/wiki.txt"
PREGENERATE = (
    "python pregenerate_training_data.py --train_corpus corpus.txt --bert_model models/bert "
    "--output_dir out/new"
)
GENERAL = (
    "python general_distill.py --pregenerated_data pairs --teacher_model models/bert "
    "--student_model student_config --output_dir out/new"
)
MLM = (
    "python pretrain_mlm.py --pregenerated_data pairs --bert_model models/bert --output_dir out/new"
)
DISTIL = (
    "python task_distill.py --data_dir glue/RTE --task_name RTE --teacher_model models/teacher "
    "--student_model models/student --output_dir out/new --allow_weak_teacher"
)  # the weights are random: they know nothing
SCORE = (
    "python task_distill.py --do_eval --data_dir glue/RTE --task_name RTE "
    "--student_model models/teacher --output_dir out/new"
)
SMART = "python tinybert_6_from_bert.py --source models/bert --output_dir out/new --keep_layers 0,2"
FIX = "python fix_teacher_layers.py --models teacher"

Damage = Callable[[], object]


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("world")
    write_bert(root / "models/bert", **TEACHER)
    write_bert(root / "models/encoder", head=False, **TEACHER)
    write_classifier(root / "models/teacher", ["entailment", "not_entailment"], **TEACHER)
    student = TinyBertForPreTraining.from_scratch(config(**STUDENT), fit_size=24)
    write_model(student, root / "models/student")
    write_student(root / "student_config", **STUDENT)
    for task in ("RTE", "MNLI"):
        write_task(root / "glue" / task, task)
    write_glove(root / "glove.txt")
    write_corpus(root / "corpus.txt")
    write_dump(root / "wiki.xml.bz2", 2)
    with contextlib.chdir(root):
        succeed(f"{PREGENERATE} --epochs_to_generate 1")
        Path("out/new").rename("pairs")
        Path("out").rmdir()
    return root


def nothing() -> None:
    """Leave the world as it is: the command itself is the mistake."""


def write(path: str, content: str | bytes) -> Damage:
    def damage() -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(content if isinstance(content, bytes) else content.encode())

    return damage


def remove(path: str) -> Damage:
    return lambda: Path(path).unlink()


def change_line(path: str, number: int, change: Callable[[bytes], bytes]) -> Damage:
    """Change one line of a file, counted from 1."""

    def damage() -> None:
        lines = Path(path).read_bytes().split(b"\n")
        lines[number - 1] = change(lines[number - 1])
        Path(path).write_bytes(b"\n".join(lines))

    return damage


def lengthen_vocabulary(folder: str) -> Damage:
    return lambda: write_vocabulary(Path(folder), [*VOCABULARY, "one", "two", "three"])


def reorder_vocabulary(folder: str) -> Damage:
    return lambda: write_vocabulary(Path(folder), [*VOCABULARY[:-2], *reversed(VOCABULARY[-2:])])


def new_student(**sizes) -> Damage:
    def damage() -> None:
        shape = config(**{**STUDENT, **sizes})
        write_model(TinyBertForPreTraining.from_scratch(shape, fit_size=24), Path("models/student"))
        write_student(Path("student_config"), **{**STUDENT, **sizes})

    return damage


def one_answer() -> None:
    """A teacher that says the same to every row; half the rows have that label."""
    from safetensors.torch import load_file, save_file

    state = load_file("models/teacher/model.safetensors")
    state["classifier.weight"].zero_()
    state["classifier.bias"].copy_(torch.tensor([0.0, 1.0]))
    save_file(state, "models/teacher/model.safetensors", {"format": "pt"})


def headless_teacher() -> None:
    shutil.rmtree("models/teacher")
    Path("models/encoder").rename("models/teacher")


def lose(part: str) -> Damage:
    """Take weights out of the file, though config.json counts them."""

    def damage() -> None:
        path = Path("models/bert/pytorch_model.bin")
        state = torch.load(path, weights_only=True)
        torch.save({name: value for name, value in state.items() if part not in name}, path)

    return damage


def untie() -> None:
    path = Path("models/bert/pytorch_model.bin")
    state = torch.load(path, weights_only=True)
    embeddings = state["bert.embeddings.word_embeddings.weight"]
    torch.save(state | {"cls.predictions.decoder.weight": embeddings + 0.01}, path)


def tear(path: str) -> Damage:
    return lambda: Path(path).write_bytes(Path(path).read_bytes()[:1000])


class Trap:
    def __reduce__(self):
        return (open, ("trapped", "w"))


def link_weights() -> None:
    weights = Path("models/bert/pytorch_model.bin")
    Path("out/new").mkdir(parents=True)
    weights.rename("out/new/weights.bin")
    weights.symlink_to(Path("out/new/weights.bin").resolve())


def plant_code() -> None:
    Path("models/bert/pytorch_model.bin").write_bytes(pickle.dumps({"bert.x": Trap()}))


def masked_pairs() -> None:
    shutil.rmtree("pairs")
    succeed(f"{PREGENERATE} --masked_lm_prob 0.5")
    Path("out/new").rename("pairs")


def mnli_teacher(*labels: str) -> Damage:
    return lambda: write_classifier(Path("models/teacher"), list(labels), **TEACHER)


MNLI = DISTIL.replace("RTE", "MNLI")
MISTAKES: dict[str, tuple[Damage, str, tuple[str, ...]]] = {
    # files that are not there
    "no task folder": (nothing, DISTIL.replace("glue/RTE", "glue/nowhere"), ("glue/nowhere",)),
    "no training file": (remove("glue/RTE/train.tsv"), FINE_TUNE, ("glue/RTE/train.tsv",)),
    "no dev file": (remove("glue/RTE/dev.tsv"), FINE_TUNE, ("glue/RTE/dev.tsv",)),
    "no augmented file": (
        nothing,
        f"{DISTIL} --aug_train",
        ("glue/RTE/train_aug.tsv", "data_augmentation.py"),
    ),
    "no word vectors": (remove("glove.txt"), AUGMENT, ("glove.txt", "GloVe")),
    "no corpus": (remove("corpus.txt"), PREGENERATE, ("corpus.txt",)),
    "no dump": (remove("wiki.xml.bz2"), PREPARE, ("wiki.xml.bz2",)),
    "no pregenerated data": (
        nothing,
        GENERAL.replace("pairs", "nowhere"),
        ("nowhere", "pregenerate_training_data.py"),
    ),
    "an unfinished pregeneration": (
        remove("pairs/epoch_0_metrics.json"),
        GENERAL,
        ("pairs", "epoch_0"),
    ),
    "no weights": (remove("models/bert/pytorch_model.bin"), GENERAL, ("models/bert",)),
    "no configuration": (remove("models/student/config.json"), DISTIL, ("models/student",)),
    "no vocabulary": (remove("models/teacher/vocab.txt"), SCORE, ("models/teacher", "vocab.txt")),
    "no model": (
        nothing,
        FINE_TUNE.replace("models/teacher", "models/nowhere"),
        ("models/nowhere",),
    ),
    # files that say something else
    "a row with a column too few": (
        change_line("glue/RTE/train.tsv", 3, lambda line: line.rsplit(b"\t", 1)[0]),
        DISTIL,
        ("glue/RTE/train.tsv:3", "3 columns", "expected 4"),
    ),
    "a row with a column too many, to augment": (
        change_line("glue/RTE/train.tsv", 4, lambda line: line + b"\tmore"),
        AUGMENT,
        ("glue/RTE/train.tsv:4", "5 columns", "expected 4"),
    ),
    "an unknown label to train on": (
        change_line("glue/RTE/train.tsv", 2, lambda line: line.rsplit(b"\t", 1)[0] + b"\tmaybe"),
        FINE_TUNE,
        ("glue/RTE/train.tsv:2", "maybe", "not_entailment"),
    ),
    "an unknown label to score": (
        change_line("glue/RTE/dev.tsv", 5, lambda line: line.rsplit(b"\t", 1)[0] + b"\t1"),
        SCORE,
        ("glue/RTE/dev.tsv:5", "not_entailment"),
    ),
    "an empty training file": (
        write("glue/RTE/train.tsv", ""),
        DISTIL,
        ("glue/RTE/train.tsv", "empty"),
    ),
    "a training file with a header only": (
        write("glue/RTE/train.tsv", "index\tsentence1\tsentence2\tlabel\n"),
        AUGMENT,
        ("glue/RTE/train.tsv", "no rows"),
    ),
    "an empty corpus": (write("corpus.txt", "\n \n"), PREGENERATE, ("corpus.txt",)),
    "empty word vectors": (write("glove.txt", ""), AUGMENT, ("glove.txt",)),
    "an empty vocabulary": (write("models/bert/vocab.txt", ""), PREGENERATE, ("vocab.txt",)),
    "a training file in Latin-1": (
        change_line("glue/RTE/train.tsv", 3, lambda line: line.replace(b"the", b"caf\xe9")),
        DISTIL,
        ("glue/RTE/train.tsv:3", "UTF-8"),
    ),
    "a dev file in Latin-1": (
        change_line("glue/RTE/dev.tsv", 6, lambda line: b"\xe9" + line),
        SCORE,
        ("glue/RTE/dev.tsv:6", "UTF-8"),
    ),
    "a corpus in Latin-1": (
        change_line("corpus.txt", 8, lambda line: b"caf\xe9 " + line),
        PREGENERATE,
        ("corpus.txt:8", "UTF-8"),
    ),
    "a vocabulary in Latin-1": (
        change_line("models/bert/vocab.txt", 9, lambda line: b"caf\xe9"),
        PREGENERATE,
        ("models/bert/vocab.txt:9", "UTF-8"),
    ),
    "a configuration that is not JSON": (
        write("models/bert/config.json", "{vocab"),
        GENERAL,
        ("models/bert/config.json",),
    ),
    # models that do not belong together
    "a new student sized for another vocabulary": (
        write(
            "student_config/config.json",
            json.dumps(config(**STUDENT).to_dict() | {"vocab_size": 9}),
        ),
        GENERAL,
        (
            "student_config: the model has 9 word",
            f'set "vocab_size": {len(VOCABULARY)} in student_c',
        ),
    ),
    "a vocabulary larger than its model": (
        lengthen_vocabulary("models/teacher"),
        FINE_TUNE,
        ("models/teacher", str(len(VOCABULARY)), str(len(VOCABULARY) + 3)),
    ),
    "the same for augmentation": (
        lengthen_vocabulary("models/bert"),
        AUGMENT,
        ("models/bert", str(len(VOCABULARY)), str(len(VOCABULARY) + 3)),
    ),
    "teacher and student with other tokens": (
        reorder_vocabulary("models/student"),
        DISTIL,
        ("vocab.txt", "different tokens"),
    ),
    "data made with another vocabulary": (
        reorder_vocabulary("models/bert"),
        GENERAL,
        ("pairs", "another vocabulary"),
    ),
    "heads that cannot be matched": (
        new_student(num_attention_heads=2),
        DISTIL,
        ("2 attention heads", "4", "--att_weight 0"),
    ),
    "the same in general distillation": (
        new_student(num_attention_heads=2),
        GENERAL,
        ("2 attention heads", "4", "--att_weight 0"),
    ),
    "depths that cannot be matched": (
        new_student(num_hidden_layers=3),
        DISTIL,
        ("--layer_map", "4 layers", "3"),
    ),
    "the same depths in general distillation": (
        new_student(num_hidden_layers=3),
        GENERAL,
        ("--layer_map", "4 layers", "3"),
    ),
    "a layer that is not there": (nothing, f"{DISTIL} --layer_map 1:2,2:9", ("--layer_map 2:9",)),
    "plain BERT as teacher of a task": (
        nothing,
        DISTIL.replace("models/teacher", "models/bert"),
        ("models/bert", "classifier.weight"),
    ),
    "plain BERT to score": (
        nothing,
        SCORE.replace("models/teacher", "models/bert"),
        ("models/bert", "classifier"),
    ),
    "an encoder without its language-model head": (
        nothing,
        AUGMENT.replace("models/bert", "models/encoder"),
        ("models/encoder", "cls.predictions"),
    ),
    "smart initialisation from weights that lack a layer": (
        lose("layer.2."),
        SMART,
        ("layer",),
    ),
    "smart initialisation from weights that lack a matrix": (
        lose("layer.2.output.dense.weight"),
        SMART,
        ("models/bert", "output.dense.weight"),
    ),
    "a layer to keep that is not there": (
        nothing,
        SMART.replace("0,2", "0,4"),
        ("--keep_layers 0,4", "0,1,2,3"),
    ),
    "no teachers to make students of": (
        nothing,
        "python tinybert_6_from_bert.py",
        ("final_mrpc_teacher",),
    ),
    "a teacher without head": (headless_teacher, FIX, ("models/teacher", "--init_head")),
    "a teacher that knows nothing": (
        one_answer,
        DISTIL.replace(" --allow_weak_teacher", ""),
        ("models/teacher", "acc 0.500 on dev of RTE", "--allow_weak_teacher"),
    ),
    "the same for the predictions": (
        one_answer,
        DISTIL.replace("--allow_weak_teacher", "--pred_distill"),
        ("models/teacher", "acc 0.500 on dev of RTE", "--allow_weak_teacher"),
    ),
    "a teacher of another task": (
        mnli_teacher("negative", "neutral", "positive"),
        MNLI,
        ("models/teacher", "positive", "contradiction"),
    ),
    "a teacher with two classes for three": (
        nothing,
        MNLI,
        ("models/teacher", "contradiction"),
    ),
    "weights with code in them": (plant_code, GENERAL, ("models/bert/pytorch_model.bin",)),
    "code in the weights of the language model": (
        plant_code,
        AUGMENT,
        ("models/bert/pytorch_model.bin",),
    ),
    "a language model with a projection of its own": (
        untie,
        MLM,
        ("models/bert/pytorch_model.bin", "decoder.weight", "shares the word embeddings"),
    ),
    "the same in augmentation": (
        untie,
        AUGMENT,
        ("models/bert/pytorch_model.bin", "decoder.weight"),
    ),
    "torn weights": (
        tear("models/bert/pytorch_model.bin"),
        GENERAL,
        ("models/bert/pytorch_model.bin",),
    ),
    "torn safetensors": (
        tear("models/teacher/model.safetensors"),
        DISTIL,
        ("models/teacher/model.safetensors",),
    ),
    # what the flags ask for
    "an output folder with somebody's file": (
        write("out/new/notes.txt", "mine"),
        FINE_TUNE,
        ("--output_dir out/new", "notes.txt"),
    ),
    "the same for a student": (
        write("out/new/notes.txt", "mine"),
        DISTIL,
        ("--output_dir out/new", "notes.txt"),
    ),
    "the same for general distillation": (
        write("out/new/notes.txt", "mine"),
        GENERAL,
        ("--output_dir out/new", "notes.txt"),
    ),
    "the same for pregeneration": (
        write("out/new/notes.txt", "mine"),
        PREGENERATE,
        ("--output_dir out/new", "not empty"),
    ),
    "an unfinished run in the way": (
        write("out/new/metrics.jsonl", ""),
        DISTIL,
        ("--output_dir out/new", "--resume"),
    ),
    "a student in the way of smart initialisation": (
        write("out/new/notes.txt", "mine"),
        SMART,
        ("out/new", "notes.txt", "--overwrite_output_dir"),
    ),
    "an output folder that is a file": (write("out/new", ""), DISTIL, ("--output_dir out/new",)),
    "a folder of scores that is a file": (write("out/new", ""), SCORE, ("out/new",)),
    "an output folder under a file": (
        nothing,
        DISTIL.replace("out/new", "glue/RTE/train.tsv/x"),
        ("--output_dir glue/RTE/train.tsv/x:", "Not a directory"),
    ),
    "an output folder where nothing can be made": (
        nothing,
        FINE_TUNE.replace("out/new", "/proc/x"),
        ("--output_dir /proc/x:", "cannot be written"),
    ),
    "an output folder that is a link to itself": (
        lambda: Path("loop").symlink_to("loop"),
        DISTIL.replace("out/new", "loop"),
        ("--output_dir loop:", "leads nowhere"),
    ),
    "a teacher in the folder to be emptied": (
        nothing,
        f"{DISTIL.replace('out/new', 'models')} --overwrite_output_dir",
        ("--output_dir models:", "models/teacher", "--overwrite_output_dir"),
    ),
    "a student that is the folder to be emptied": (
        nothing,
        f"{DISTIL.replace('out/new', './models/student')} --overwrite_output_dir --dry_run",
        ("--output_dir models/student:", "remove models/student, which"),
    ),
    "task data in the folder to be emptied": (
        nothing,
        f"{FINE_TUNE.replace('out/new', 'glue')} --overwrite_output_dir",
        ("--output_dir glue:", "glue/RTE"),
    ),
    "pregenerated data in the folder to be emptied": (
        nothing,
        f"{GENERAL.replace('out/new', 'pairs')} --overwrite_output_dir",
        ("--output_dir pairs:", "pairs, which"),
    ),
    "a model behind a link in the folder to be emptied": (
        lambda: Path("link").symlink_to("models"),
        f"{MLM.replace('out/new', 'link')} --overwrite_output_dir",
        ("--output_dir link:", "models/bert"),
    ),
    "weights that are a link into the folder to be emptied": (
        link_weights,
        f"{GENERAL} --overwrite_output_dir",
        ("--output_dir out/new:", "models/bert/pytorch_model.bin"),
    ),
    "flags in the folder to be emptied": (
        write("out/new/mine.json", '{"seed": 1}'),
        f"{DISTIL} --config out/new/mine.json --overwrite_output_dir",
        ("--output_dir out/new:", "out/new/mine.json"),
    ),
    "a vocabulary in the folder to be emptied": (
        lambda: shutil.copytree("models/bert", "out/new/bert"),
        f"{FINE_TUNE} --vocab_model out/new/bert --overwrite_output_dir",
        ("--output_dir out/new:", "out/new/bert"),
    ),
    "tokenised rows in the output folder": (
        nothing,
        f"{DISTIL} --feature_cache out/new/cache",
        ("--feature_cache out/new/cache:", "--output_dir out/new"),
    ),
    "somebody's file in the folder of tokenised rows": (
        write("out/new.cache/notes.txt", "mine"),
        DISTIL,
        ("out/new.cache:", "notes.txt", "--feature_cache"),
    ),
    "smart initialisation in its teacher's place": (
        nothing,
        f"{SMART.replace('out/new', 'models/bert')} --overwrite_output_dir",
        ("--output_dir models/bert:", "--overwrite_output_dir"),
    ),
    "the same in a folder that holds it": (
        nothing,
        f"{SMART.replace('out/new', 'models')} --overwrite_output_dir",
        ("--output_dir models:", "models/bert"),
    ),
    "augmented rows in a folder's place": (
        lambda: Path("glue/RTE/train_aug.tsv").mkdir(),
        AUGMENT,
        ("glue/RTE/train_aug.tsv: is a folder",),
    ),
    "a corpus written over itself": (
        nothing,
        "python prepare_data.py --input corpus.txt --output ./corpus.txt",
        ("--output corpus.txt:", "the input corpus.txt"),
    ),
    "the same through a link": (
        lambda: Path("link.txt").symlink_to("corpus.txt"),
        "python prepare_data.py --input link.txt --output corpus.txt",
        ("--output corpus.txt:", "the input link.txt"),
    ),
    "the same through a folder": (
        write("wiki/AA/wiki_00", '{"text": "It is."}\n'),
        "python prepare_data.py --input wiki --output wiki/AA/wiki_00",
        ("--output wiki/AA/wiki_00:", "the input wiki/AA/wiki_00"),
    ),
    "answers written over what was asked": (
        nothing,
        "python predict.py --model models/teacher --input corpus.txt --output corpus.txt",
        ("--output corpus.txt:", "the input corpus.txt"),
    ),
    "a batch smaller than its micro-steps": (
        nothing,
        f"{DISTIL} --train_batch_size 4 --gradient_accumulation_steps 8",
        ("--train_batch_size 4", "--gradient_accumulation_steps 8"),
    ),
    "the same batch in general distillation": (
        nothing,
        f"{GENERAL} --train_batch_size 1 --gradient_accumulation_steps 2",
        ("--train_batch_size 1", "--gradient_accumulation_steps 2"),
    ),
    "a corpus of one document": (
        write("corpus.txt", "It is the cat.\nIt was a dog.\n"),
        PREGENERATE,
        ("corpus.txt", "single document", "--one_seq"),
    ),
    "an unknown task": (
        nothing,
        DISTIL.replace("--task_name RTE", "--task_name SQuAD"),
        ("--task_name SQuAD", "SST-2"),
    ),
    "a task that the folder's name does not tell": (
        lambda: Path("glue/RTE").rename("glue/mine"),
        FINE_TUNE.replace("glue/RTE", "glue/mine"),
        ("glue/mine", "--task_name"),
    ),
    "training without a teacher": (
        nothing,
        DISTIL.replace("--teacher_model models/teacher ", ""),
        ("--teacher_model", "--do_eval"),
    ),
    "half precision on the CPU": (nothing, f"{DISTIL} --fp16 --no_cuda", ("--fp16", "CUDA")),
    "the same in fine-tuning": (nothing, f"{FINE_TUNE} --fp16 --no_cuda", ("--fp16", "CUDA")),
    "more epochs than can be counted": (
        nothing,
        f"{DISTIL} --num_train_epochs 1e12",
        ("--num_train_epochs 1000000000000", "100,000"),
    ),
    "minutes that are not a number": (
        nothing,
        f"{GENERAL} --save_minutes nan",
        ("--save_minutes nan",),
    ),
    "minutes below nought": (nothing, f"{DISTIL} --save_minutes -1", ("--save_minutes -1",)),
    "two precisions": (nothing, f"{GENERAL} --fp16 --bf16", ("--bf16 and --fp16",)),
    "sentences longer than the model": (
        nothing,
        f"{DISTIL} --max_seq_length 200",
        ("--max_seq_length 200", "128"),
    ),
    "a negative weight of a loss": (nothing, f"{DISTIL} --att_weight -1", ("--att_weight -1",)),
    "labels asked of a task that learns from its teacher": (
        nothing,
        f"{DISTIL} --pred_distill --hard_labels",
        ("--hard_labels", "STS-B"),
    ),
    "no learning rate": (nothing, f"{FINE_TUNE} --learning_rate 0", ("--learning_rate 0",)),
    "an infinite learning rate": (
        nothing,
        f"{DISTIL} --learning_rate inf",
        ("--learning_rate inf",),
    ),
    "an infinite decay": (nothing, f"{GENERAL} --weight_decay inf", ("--weight_decay inf",)),
    "nothing but warm-up": (
        nothing,
        f"{GENERAL} --warmup_proportion 1",
        ("--warmup_proportion 1",),
    ),
    "a seed beyond 64 bits": (nothing, f"{DISTIL} --seed {2**64}", (f"--seed {2**64}",)),
    "a temperature of nought": (
        nothing,
        f"{DISTIL} --pred_distill --temperature 0",
        ("--temperature 0",),
    ),
    "an infinite temperature": (
        nothing,
        f"{DISTIL} --pred_distill --temperature inf",
        ("--temperature inf",),
    ),
    "a temperature that is not a number": (
        nothing,
        f"{DISTIL} --pred_distill --temperature nan",
        ("--temperature nan",),
    ),
    "masked data for masked language modelling": (
        masked_pairs,
        MLM,
        ("pairs", "masked"),
    ),
}


@pytest.mark.parametrize("value", ["inf", "nan", "0", "2.5", "many"])
def test_a_number_of_epochs_must_be_one(value):
    outcome = run_line(f"{DISTIL} --num_train_epochs {value}")
    assert outcome.status == 2
    assert "argument --num_train_epochs" in outcome.stderr.splitlines()[-1]


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.md5(path.read_bytes()).hexdigest()
        if path.is_file()
        else ""
        for path in folder.rglob("*")
    }


@pytest.mark.parametrize(("damage", "line", "expected"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line_and_writes_nothing(
    world, tmp_path, monkeypatch, damage, line, expected
):
    place = tmp_path / "place"
    shutil.copytree(world, place)
    monkeypatch.chdir(place)
    damage()
    before = contents(place)

    outcome = run_line(line)

    lines = outcome.stderr.splitlines()
    errors = [text for text in lines if text.startswith("error: ")]
    assert outcome.status == 2 and errors == lines[-1:], outcome.stderr
    for text in expected:
        assert text in errors[0]
    assert contents(place) == before


@pytest.mark.parametrize("line", [GENERAL, MLM])
@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("tokens", len(VOCABULARY), "tokens.npy: sequence 0 holds the id"),
        ("offsets", 2**40, "offsets.npy, .boundaries.npy: sequence "),
        ("offsets", -1, "offsets.npy, .boundaries.npy: sequence "),
        ("boundaries", 60_000, "offsets.npy, .boundaries.npy: sequence 5 "),
    ],
)
def test_what_is_damaged_is_one_line_though_the_check_has_not_come_to_it(
    world, tmp_path, monkeypatch, line, name, value, told
):
    """In an epoch so large that nobody looks at each sequence before the first step."""
    shutil.copytree(world, tmp_path / "world")
    monkeypatch.chdir(tmp_path / "world")
    monkeypatch.setattr("corpus.epochs._CHECK_FIRST_SECONDS", 0.01)
    monkeypatch.setattr("corpus.epochs.check_corpus", lambda *given: threading.Event().wait(60))
    for module in ("epochs", "token_store", "batches"):
        monkeypatch.setattr(f"corpus.{module}.LARGE", 1)
    array = np.load(f"pairs/epoch_0.{name}.npy")
    array[5] = value
    np.save(f"pairs/epoch_0.{name}.npy", array)
    outcome = run_line(f"{line} --num_train_epochs 1 --train_batch_size 4")
    assert outcome.status == 2 and "Traceback" not in outcome.stderr
    last = outcome.stderr.splitlines()[-1]
    assert last.startswith(f"error: pairs/epoch_0.{told}"), last
    assert not list(Path("out/new").glob("*.bin")), "no model of damaged data is left"


def scale_teacher() -> None:
    path = "models/bert/pytorch_model.bin"
    state = torch.load(path, weights_only=True)
    torch.save({name: value * 1.01 for name, value in state.items()}, path)


def change_student() -> None:
    path = Path("student_config/config.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"layer_norm_eps": 0.1}))


OTHERS = {
    "another teacher": (scale_teacher, "", "a run with another teacher"),
    "another student": (change_student, "", "config.layer_norm_eps 1e-12, this one has 0.1"),
    "another weight of a loss": (nothing, "--att_weight 2", "att_weight 1.0, this one has 2.0"),
    "another mapping": (nothing, "--layer_map bottom", "layer_map uniform, this one has bottom"),
    "other batches": (nothing, "--random_batches", "random_batches False, this one has True"),
    "dropout": (nothing, "--teacher_dropout", "teacher_dropout False, this one has True"),
    "smaller batches for as many steps": (
        nothing,
        "--train_batch_size 3",
        "train_batch_size 4, this one has 3",
    ),
}


@pytest.fixture(scope="module")
def stopped(world, tmp_path_factory) -> Path:
    """A general distillation that ended in its third step."""
    place = tmp_path_factory.mktemp("stopped") / "place"
    shutil.copytree(world, place)
    calls = []

    def stopping(optimizer):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return due(optimizer)

    due = BertAdam.due
    with contextlib.chdir(place), pytest.MonkeyPatch.context() as patch:
        patch.setattr(BertAdam, "due", stopping)
        assert run_line(f"{GENERAL} {SHORT} --save_steps 1").status == 130
    assert (place / "out/new/checkpoint.pt").is_file()
    return place


SHORT = "--train_batch_size 4 --max_steps 6 --no_cuda"


@pytest.mark.parametrize(("change", "flags", "told"), OTHERS.values(), ids=OTHERS)
def test_a_run_goes_on_with_nothing_that_changes_what_it_learns(
    stopped, tmp_path, monkeypatch, change, flags, told
):
    shutil.copytree(stopped, tmp_path / "place")
    monkeypatch.chdir(tmp_path / "place")
    change()
    before = contents(Path("out/new"))
    outcome = run_line(f"{GENERAL} {SHORT} --resume {flags}")
    assert outcome.status == 2, outcome.stderr
    last = outcome.stderr.splitlines()[-1]
    assert last.startswith("error: out/new/checkpoint.pt: belongs to") and told in last
    assert contents(Path("out/new")) == before


def other_rows() -> None:
    path = Path("glue/RTE/dev.tsv")
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


def other_start() -> None:
    write_classifier(Path("models/teacher"), ["entailment", "not_entailment"], seed=7, **TEACHER)


FINISHED = {
    "a flag": (FINE_TUNE, nothing, "--learning_rate 7e-3", "--learning_rate was 2e-05, is 0.007"),
    "when it is evaluated": (FINE_TUNE, nothing, "--eval_step 2", "--eval_step was None, is 2"),
    "the data": (FINE_TUNE, other_rows, "", "the dev data were glue/RTE/dev.tsv (SHA-256 "),
    "where it starts": (
        FINE_TUNE,
        other_start,
        "",
        "the model to start from was models/teacher (SHA",
    ),
    "its length": (
        FINE_TUNE,
        nothing,
        "--max_steps 9",
        "to train its model further: --bert_model out/new --output_dir ANOTHER",
    ),
    "the teacher": (GENERAL, scale_teacher, "", "the teacher was models/bert (SHA-256 "),
    "a longer run": (GENERAL, nothing, "--max_steps 9", "--student_model out/new --continue_train"),
    "the stage": (DISTIL, nothing, "--pred_distill", "the stage was intermediate, is prediction"),
    "masking": (MLM, nothing, "--masked_lm_prob 0.3", "--masked_lm_prob was 0.15, is 0.3"),
}


@pytest.fixture(scope="module")
def finished(world, tmp_path_factory):
    """A function giving a copy of the world with a finished run."""
    places = {}

    def of(line, copy) -> None:
        if line not in places:
            places[line] = tmp_path_factory.mktemp("finished") / "place"
            shutil.copytree(world, places[line])
            with contextlib.chdir(places[line]):
                succeed(f"{line} {SHORT}")
                told = succeed(f"{line} {SHORT} --resume --report_to none --save_steps 3").stderr
                assert told.splitlines()[-1] == "out/new: this run is finished, nothing to resume"
        shutil.copytree(places[line], copy)

    return of


@pytest.mark.parametrize(("line", "change", "flags", "told"), FINISHED.values(), ids=FINISHED)
def test_a_finished_run_that_is_another_one_is_not_resumed(
    finished, tmp_path, monkeypatch, line, change, flags, told
):
    finished(line, tmp_path / "place")
    monkeypatch.chdir(tmp_path / "place")
    change()
    before = contents(Path("out"))
    outcome = run_line(f"{line} {SHORT} --resume {flags}")
    assert outcome.status == 2, outcome.stderr
    last = outcome.stderr.splitlines()[-1]
    assert (
        last.startswith("error: --output_dir out/new: --resume found a finished run")
        and told in last
    )
    assert contents(Path("out")) == before


def test_a_run_goes_on_with_its_files_elsewhere_and_told_otherwise(stopped, tmp_path, monkeypatch):
    shutil.copytree(stopped, tmp_path / "place")
    monkeypatch.chdir(tmp_path / "place")
    Path("models/bert").rename("teacher")
    Path("pairs").rename("data")
    line = GENERAL.replace("models/bert", "teacher").replace("pairs", "data")
    told = "--do_lower_case --eval_step 2 --report_to none --gradient_accumulation_steps 2"
    assert "resuming after step 2 of 6" in succeed(f"{line} {SHORT} --resume {told}").stderr


def test_a_damaged_log_costs_its_lines_and_nothing_else(stopped, tmp_path, monkeypatch):
    shutil.copytree(stopped, tmp_path / "place")
    monkeypatch.chdir(tmp_path / "place")
    log = Path("out/new/metrics.jsonl")
    first, second = log.read_bytes().splitlines(keepends=True)[:2]
    log.write_bytes(first[:9] + b"\0\xff" + first[11:] + second)
    outcome = succeed(f"{GENERAL} {SHORT} --resume")
    assert "note: out/new/metrics.jsonl: is damaged" in outcome.stderr
    lines = log.read_bytes().splitlines(keepends=True)
    assert lines[0] == second and [json.loads(line)["step"] for line in lines] == [2, 3, 4, 5, 6]


EARLY = {
    "somebody's file": (write("out/new/notes.txt", "mine"), ""),
    "half precision": (nothing, "--fp16 --no_cuda"),
    "no compiler": (lambda: os.environ.update(CXX="nowhere"), "--compile --no_cuda"),
    "its own input": (
        lambda: shutil.copytree("models/teacher", "out/new"),
        "--overwrite_output_dir",
    ),
}


@pytest.mark.parametrize("line", [DISTIL, FINE_TUNE, GENERAL, MLM])
@pytest.mark.parametrize(("damage", "flags"), EARLY.values(), ids=EARLY)
def test_what_needs_no_model_is_refused_before_one_is_opened(
    world, tmp_path, monkeypatch, damage, flags, line
):
    place = tmp_path / "place"
    shutil.copytree(world, place)
    monkeypatch.chdir(place)
    monkeypatch.setenv("CXX", os.environ.get("CXX", ""))
    damage()
    if flags == "--overwrite_output_dir":
        line = line.replace("models/teacher", "out/new").replace("models/bert", "out/new")
    shutil.rmtree("models")  # whoever opens one says so
    outcome = run_line(f"{line} {flags}")
    assert outcome.status == 2, outcome.stderr
    (error,) = outcome.stderr.splitlines()
    assert error.startswith(("error: --output_dir out/new", "error: --fp16", "error: --compile"))


def test_the_current_folder_may_be_the_output_folder(world, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    line = DISTIL.replace("out/new", ".").replace("models", f"{world}/models")
    line = line.replace("glue", f"{world}/glue")
    succeed(f"{line} --num_train_epochs 1 --no_cuda")
    assert Path("run.json").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]
    again = run_line(line)
    assert again.status == 2 and "error: --output_dir .: " in again.stderr
    succeed(f"{line} --num_train_epochs 1 --no_cuda --overwrite_output_dir")
