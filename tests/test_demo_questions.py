"""The demo's questions: each has one answer, and neither a position nor a single word gives it away."""

import json
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from demo.questions import write_questions
from tasks.squad import read_questions
from tasks.squad_metrics import question_scores

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def splits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("questions")
    counts = write_questions(folder, 42, {"train": 300, "dev": 100})
    found = {split: read_questions(folder / f"{split}-v1.1.json") for split in counts}
    assert {split: len(questions) for split, questions in found.items()} == counts
    return found


def test_answers_stand_where_they_are_said_to(splits, capsys):
    for questions in splits.values():
        for i in range(len(questions)):
            start, text = questions.starts[i][0], questions.answers[i][0]
            assert questions.context(i)[start : start + len(text)] == text
    assert "nearest" not in capsys.readouterr().err


def test_no_story_of_the_dev_set_is_in_the_training_set(splits):
    assert not {*splits["train"].contexts} & {*splits["dev"].contexts}


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        write_questions(tmp_path / name, 7, {"dev": 5})
    first, second = ((tmp_path / name / "dev-v1.1.json").read_bytes() for name in ("a", "b"))
    assert first == second and json.loads(first)["version"] == "1.1"


def test_every_kind_of_question_is_asked(splits):
    kinds = Counter(text.split()[0] for text in splits["train"].texts)
    assert {*kinds} == {"Who", "What", "Where"} and min(kinds.values()) > 0.2 * sum(kinds.values())


def test_no_position_gives_the_answer_away(splits):
    """The phrase of the right kind in the first, or in the last, sentence."""
    questions = splits["dev"]
    for which in (0, -1):
        guesses = []
        for i in range(len(questions)):
            words = questions.context(i).removesuffix(".").split(". ")[which].split()
            kind = questions.texts[i].split()[0]
            guesses.append(" ".join(words[-3:] if kind == "Where" else words[:2]))
        assert question_scores(questions, guesses)[:, 0].mean() < 0.35


def test_the_commonest_answer_is_rarely_right(splits):
    questions = splits["dev"]
    common, _ = Counter(answers[0] for answers in splits["train"].answers).most_common(1)[0]
    assert question_scores(questions, [common] * len(questions))[:, 0].mean() < 0.1


@pytest.mark.parametrize("profile", ["demo", "full"])
def test_the_chain_of_steps_is_planned(profile, tmp_path):
    done = subprocess.run(
        ["bash", "dynamic_tinybert/reproduction.sh", "--profile", profile, "--dry-run"],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    steps = [line for line in done.stdout.splitlines() if "run_squad.py" in line]
    assert ["--do_train" in line for line in steps] == [True] * 5 + [False] * 3
    assert "checkpoint-last" in steps[2] and "--inplace_kl reverse" in steps[4]
