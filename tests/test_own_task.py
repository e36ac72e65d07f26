"""A task that a JSON file describes: its file, its rows, and what is refused."""

import json

import numpy as np
import pytest
from sklearn.metrics import f1_score as sklearn_f1
from sklearn.metrics import matthews_corrcoef

from files.errors import UserError
from tasks.metrics import chance_score, compute_metrics
from tasks.own import make_task, read_task_file
from tasks.task import check_label_order, dev_splits, open_rows, read_split

TICKETS = {
    "name": "tickets",
    "files": {"train": "train.csv", "dev": "dev.csv", "test": "test.csv"},
    "text": "subject",
    "text_b": "body",
    "label": "team",
    "labels": ["billing", "technical", "other"],
}
ROWS = (
    'id,team,subject,body\n1,other,"Hello, all","He said ""no""\nand left"\n2,billing,Paid,twice\n'
)


@pytest.fixture
def make(tmp_path):
    """A function that writes a task's file and files of rows, and reads the task."""

    def write(changes=None, **files):
        definition = {k: v for k, v in (TICKETS | (changes or {})).items() if v is not None}
        path = tmp_path / "task.json"
        path.write_text(json.dumps(definition))
        for name, content in files.items():
            data = content if isinstance(content, bytes) else content.encode()
            (tmp_path / name.replace("_", ".")).write_bytes(data)
        return read_task_file(path)

    return write


def refusal(function, *args):
    with pytest.raises(UserError) as error:
        function(*args)
    return str(error.value)


def test_quoted_commas_quotes_and_line_breaks_of_csv_are_text(make, tmp_path):
    examples = read_split(make(train_csv=ROWS), tmp_path, "train")
    assert examples.text_a == ["Hello, all", "Paid"]
    assert examples.text_b == ['He said "no" and left', "twice"]
    assert examples.labels.tolist() == [2, 0]
    assert examples.ids.tolist() == [2, 4]  # the lines where the rows begin


@pytest.mark.parametrize(
    "change", [lambda text: "\ufeff" + text, lambda text: text.replace("\n", "\r\n")]
)
def test_byte_order_marks_and_windows_line_ends_change_nothing(make, tmp_path, change):
    plain = read_split(make(train_csv=ROWS), tmp_path, "train")
    changed = read_split(make(train_csv=change(ROWS)), tmp_path, "train")
    assert (changed.text_a, changed.text_b) == (plain.text_a, plain.text_b)
    assert changed.labels.tolist() == plain.labels.tolist()


def test_the_same_rows_in_three_formats_are_the_same(make, tmp_path):
    rows = [("Paid", "twice", 1), ("It's down", 'the "server"', 0)]
    keys = ("subject", "body", "team")
    lines = "".join(json.dumps(dict(zip(keys, row, strict=True))) + "\n" for row in rows)
    tables = {
        "csv": 'team,body,subject\n1,twice,Paid\n0,"the ""server""",It\'s down\n',
        "tsv": 'team\tbody\tsubject\n1\ttwice\tPaid\n0\tthe "server"\tIt\'s down\n',
        "jsonl": lines,
    }
    for kind, content in tables.items():
        changes = {"labels": [0, 1], "files": {"train": f"train.{kind}", "dev": f"dev.{kind}"}}
        task = make(changes, **{f"train_{kind}": content})
        examples = read_split(task, tmp_path, "train")
        assert (examples.text_a, examples.text_b) == (
            ["Paid", "It's down"],
            ["twice", 'the "server"'],
        )
        assert examples.labels.tolist() == [1, 0]


def test_files_without_a_header_have_numbered_columns(make, tmp_path):
    changes = {
        "text": 2,
        "text_b": None,
        "label": 1,
        "format": "tsv",
        "files": {"train": "a", "dev": "b"},
    }
    task = make(changes, a="billing\tPaid twice\nother\tHello\n")
    assert read_split(task, tmp_path, "train").text_a == ["Paid twice", "Hello"]


def test_regression_reads_any_number(make, tmp_path):
    task = make({"labels": "regression", "text_b": None}, train_csv="subject,team\na,-3.5\nb,1e2\n")
    assert read_split(task, tmp_path, "train").labels.tolist() == [-3.5, 100]
    assert (task.num_labels, task.metric, task.main_metric) == (1, "corr", "corr")


def test_a_test_set_needs_no_labels(make, tmp_path):
    assert read_split(make(test_csv=ROWS), tmp_path, "test").labels.tolist() == [2, 0]
    hidden = read_split(make(test_csv="body,subject\nx,y\n"), tmp_path, "test")
    assert (hidden.text_a, hidden.text_b, hidden.labels) == (["y"], ["x"], None)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("id,subject,body\n1,a,b\n", "train.csv:1: no column is called 'team'"),
        ("subject,body,team,team\na,b,other,other\n", "train.csv:1: two columns are called 'team'"),
        (
            ROWS + "3,Other,a,b\n",
            "train.csv:5: label 'Other', expected one of billing, technical, other",
        ),
        (ROWS + "3,other, ,b\n", "train.csv:5: the text is empty"),
        (ROWS + "3,other,a,\n", "train.csv:5: the text_b is empty"),
        (ROWS + "3,other,a\n", "train.csv:5: 3 columns, expected 4"),
        (ROWS + '3,other,a,"b\n', "train.csv:5: not CSV"),
        (b"subject,body,team\n\xff,b,other\n", "not UTF-8"),
        ("subject,body,team\n", "train.csv: no rows"),
        ("", "train.csv: the file is empty"),
    ],
)
def test_what_is_wrong_with_a_row_is_one_line_with_file_and_number(make, tmp_path, content, told):
    message = refusal(read_split, make(train_csv=content), tmp_path, "train")
    assert told in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (
            '{"subject": "a", "body": "b", "team": "other"}\n[1]\n',
            "train.jsonl:2: expected a JSON object",
        ),
        ('{"subject": "a", "team": "other"}\n', "train.jsonl:1: 'body' is None"),
        ('{"subject": ["a"], "body": "b", "team": "other"}\n', "train.jsonl:1: 'subject' is ['a']"),
        (
            '{"subject": "a", "subject": "b", "body": "c", "team": "other"}\n',
            "'subject' appears twice",
        ),
        ("{\n", "train.jsonl:1: not JSON"),
    ],
)
def test_what_is_wrong_with_json_lines_is_told(make, tmp_path, content, told):
    task = make({"files": {"train": "train.jsonl", "dev": "dev.jsonl"}}, train_jsonl=content)
    assert told in refusal(read_split, task, tmp_path, "train")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"name": None}, "lacks name"),
        ({"name": "sst-2"}, "a task of GLUE"),
        ({"name": "../x"}, "name is '../x'"),
        ({"lables": []}, "'lables' is not a key of a task"),
        ({"labels": ["a"]}, "expected a list of two labels or more"),
        ({"labels": ["a", "a"]}, "expected different ones"),
        ({"labels": "classes"}, 'or "regression"'),
        ({"files": {"train": "train.csv"}}, "files lacks dev"),
        ({"files": {"train": "a.csv", "dev": "./a.csv"}}, "files names a.csv twice"),
        ({"files": {"train": "a.csv", "dev": "b.csv", "eval": "c.csv"}}, "files has 'eval'"),
        ({"text_b": "subject"}, "one is named twice"),
        ({"text_b": 2}, "names and numbers"),
        ({"text": True}, "text is True"),
        ({"metric": "f1"}, "expected for 3 labels one of accuracy, macro_f1, matthews"),
        ({"format": "xlsx"}, "expected one of csv, tsv, jsonl"),
        ({"max_length": 0}, "expected a number from 1"),
    ],
)
def test_what_is_wrong_with_a_tasks_file_is_told_with_its_name(make, changes, told):
    message = refusal(make, changes)
    assert told in message
    assert "task.json: " in message


def test_a_file_of_unknown_kind_is_refused(make, tmp_path):
    task = make({"files": {"train": "train.txt", "dev": "dev.txt"}}, train_txt="a")
    assert '"format" in the task\'s file' in refusal(read_split, task, tmp_path, "train")


def test_a_missing_dev_set_is_told_with_the_key_to_correct(make, tmp_path):
    assert 'correct "dev" in its files' in refusal(dev_splits, make(), tmp_path)


def test_rows_are_read_one_after_another(make, tmp_path):
    _, _, rows = open_rows(make(train_csv=ROWS + "3,other,a\n"), tmp_path, "train")
    assert next(rows)[1] == ["Hello, all", 'He said "no" and left', "other"]


@pytest.mark.parametrize(
    ("labels", "names", "order"),
    [
        (["1", "0"], {0: "0", 1: "1"}, [1, 0]),
        (["C++", "C#", "C"], {0: "C", 1: "C++", 2: "C#"}, [1, 2, 0]),
        (["猫", "犬"], {0: "犬", 1: "猫"}, [1, 0]),
        (["a", "b"], {0: "LABEL_0", 1: "LABEL_1"}, [0, 1]),
    ],
)
def test_a_models_classes_are_brought_into_the_tasks_order(labels, names, order):
    task = make_task(TICKETS | {"labels": labels})
    assert check_label_order(task, names).tolist() == order


def test_labels_that_differ_only_in_punctuation_are_not_guessed():
    task = make_task(TICKETS | {"labels": ["C++", "C#"]})
    assert "expected C++, C#" in refusal(check_label_order, task, {0: "c", 1: "java"})


@pytest.mark.parametrize("metric", ["macro_f1", "matthews", "accuracy"])
def test_metrics_of_several_classes_are_scikit_learns(metric):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 200)
    predictions = np.where(rng.random(200) < 0.6, labels, rng.integers(0, 3, 200))
    task = make_task(TICKETS | {"metric": metric})
    expected = {
        "macro_f1": sklearn_f1(labels, predictions, average="macro"),
        "matthews": matthews_corrcoef(labels, predictions),
        "accuracy": (labels == predictions).mean(),
    }
    score = compute_metrics(task, predictions, labels)[task.main_metric]
    assert score == pytest.approx(expected[metric], abs=1e-12)
    assert 0 < chance_score(task, labels) < score


def test_tasks_that_differ_in_what_they_read_have_different_keys():
    same = make_task(TICKETS | {"files": {"train": "x.csv", "dev": "y.csv"}})
    other = make_task(TICKETS | {"text": "body", "text_b": "subject"})
    assert make_task(TICKETS).key == same.key != other.key
