"""GLUE files as they are and as they should not be."""

import csv
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from files.errors import UserError
from tasks.glue import TASKS, find_task, guess_task
from tasks.submissions import submission_name, write_predictions
from tasks.task import check_label_order, dev_splits, read_split, split_path
from tasks.tsv import read_rows

# Header and one row of each official file; A and B stand for the texts, Y for the label.
LAYOUTS = {
    ("cola", "train"): (None, "gj04 Y * A"),
    ("cola", "test"): ("index sentence", "0 A"),
    ("sst2", "train"): ("sentence label", "A Y"),
    ("sst2", "test"): ("index sentence", "0 A"),
    ("mrpc", "train"): ("\ufeffQuality id1 id2 string1 string2", "Y 17 18 A B"),
    ("mrpc", "test"): ("index id1 id2 string1 string2", "0 17 18 A B"),
    ("qqp", "train"): ("id qid1 qid2 question1 question2 is_duplicate", "5 6 7 A B Y"),
    ("qqp", "test"): ("id question1 question2", "0 A B"),
    ("stsb", "train"): (
        "index genre filename year old_index source1 source2 sentence1 sentence2 score",
        "0 main MSRvid 2012 0001 none none A B Y",
    ),
    ("stsb", "test"): (
        "index genre filename year old_index source1 source2 sentence1 sentence2",
        "0 main MSRvid 2012 0001 none none A B",
    ),
    ("mnli", "train"): (
        "index promptID pairID genre p1 p2 p3 p4 sentence1 sentence2 label1 gold_label",
        "0 1 2 fiction p p p p A B x Y",
    ),
    ("mnli", "dev_matched"): (
        "index promptID pairID genre p1 p2 p3 p4 sentence1 sentence2 l1 l2 l3 l4 l5 gold_label",
        "0 1 2 fiction p p p p A B x x x x x Y",
    ),
    ("mnli", "test_mismatched"): (
        "index promptID pairID genre p1 p2 p3 p4 sentence1 sentence2",
        "0 1 2 fiction p p p p A B",
    ),
    ("qnli", "train"): ("index question sentence label", "0 A B Y"),
    ("qnli", "test"): ("index question sentence", "0 A B"),
    ("rte", "train"): ("index sentence1 sentence2 label", "0 A B Y"),
    ("rte", "test"): ("index sentence1 sentence2", "0 A B"),
    ("wnli", "train"): ("index sentence1 sentence2 label", "0 A B Y"),
    ("wnli", "test"): ("index sentence1 sentence2", "0 A B"),
    ("ax", "test"): ("index sentence1 sentence2", "0 A B"),
}
RTE_HEADER = "index\tsentence1\tsentence2\tlabel\n"


def write_layout(folder, key, split, label, count=1, end="\n"):
    header, row = LAYOUTS[key, split]
    fill = {"A": 'He said " yes .', "B": "it's \" ", "Y": label}
    cells = [fill.get(cell, cell) for cell in row.split(" ")]
    lines = ([header.replace(" ", "\t")] if header else []) + ["\t".join(cells)] * count
    task = TASKS[key]
    files = {"train": "train.tsv", **task.dev_files, **task.test_files}
    (folder / files[split]).write_bytes((end.join(lines) + end).encode())


def rte(folder, content):
    data = content if isinstance(content, bytes) else content.encode()
    (folder / "train.tsv").write_bytes(data)
    return read_split(TASKS["rte"], folder, "train")


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("key, split", LAYOUTS)
def test_every_official_layout_is_read(tmp_path, key, split, end):
    task = TASKS[key]
    label = "3.800" if task.labels is None else task.labels[-1]
    write_layout(tmp_path, key, split, label, count=2, end=end)
    examples = read_split(task, tmp_path, split)
    assert examples.text_a == ['He said " yes .'] * 2
    assert examples.text_b == (["it's \" "] * 2 if task.pair else None)
    first = 1 if LAYOUTS[key, split][0] is None else 2
    assert examples.ids.tolist() == [first, first + 1]
    if split.startswith("test"):
        assert examples.labels is None
    elif task.labels is None:
        assert examples.labels.dtype == np.float32 and examples.labels == pytest.approx(3.8)
    else:
        assert examples.labels.dtype == np.int64
        assert examples.labels.tolist() == [len(task.labels) - 1] * 2


def test_labels_come_in_the_order_of_the_published_programs():
    assert TASKS["mnli"].labels == ("contradiction", "entailment", "neutral")
    assert TASKS["rte"].labels == TASKS["qnli"].labels == ("entailment", "not_entailment")
    assert {TASKS[key].labels for key in ("cola", "sst2", "mrpc", "qqp", "wnli")} == {("0", "1")}


def test_published_defaults_of_intermediate_distillation():
    resolved = {key: (task.intermediate_epochs, task.max_length) for key, task in TASKS.items()}
    assert resolved == {
        "cola": (50, 64), "mnli": (5, 128), "mrpc": (20, 128), "sst2": (10, 64),
        "stsb": (20, 128), "qqp": (5, 128), "qnli": (10, 128), "rte": (20, 128),
        "wnli": (3, 128), "ax": (3, 128),
    }  # fmt: skip


def test_published_numbers_of_variants():
    resolved = {key: task.augment_n for key, task in TASKS.items() if key not in ("wnli", "ax")}
    assert resolved == {
        "cola": 30, "mnli": 10, "mrpc": 30, "sst2": 20, "stsb": 30, "qqp": 10, "qnli": 20,
        "rte": 30,
    }  # fmt: skip


def test_models_are_selected_as_published():
    other = {key: task.main_metric for key, task in TASKS.items() if task.main_metric != "acc"}
    assert other == {"cola": "mcc", "stsb": "corr"}


def test_labelled_test_set_of_mrpc_keeps_its_labels(tmp_path):
    write_layout(tmp_path, "mrpc", "train", "1")
    (tmp_path / "train.tsv").rename(tmp_path / "test.tsv")
    examples = read_split(TASKS["mrpc"], tmp_path, "test")
    assert examples.labels.tolist() == [1]
    assert examples.text_a == ['He said " yes .']


def test_augmented_file_has_the_layout_of_the_training_file(tmp_path):
    write_layout(tmp_path, "cola", "train", "0")
    (tmp_path / "train.tsv").rename(tmp_path / "train_aug.tsv")
    assert read_split(TASKS["cola"], tmp_path, "train_aug").labels.tolist() == [0]


def test_only_tabs_and_line_feeds_separate(tmp_path):
    odd = 'a\u2028b\x85c\x0bd\x0ce,"f\xa0'
    assert rte(tmp_path, f"{RTE_HEADER}0\t{odd}\t'b'\tentailment\n").text_a == [odd]


def test_missing_last_line_end_and_blank_lines_at_the_end_are_fine(tmp_path):
    row = "0\ta\tb\tentailment"
    assert len(rte(tmp_path, RTE_HEADER + row)) == 1
    assert len(rte(tmp_path, f"{RTE_HEADER}{row}\n\n\r\n")) == 1


def test_empty_texts_are_texts(tmp_path):
    examples = rte(tmp_path, f"{RTE_HEADER}0\t\t\tentailment\n")
    assert (examples.text_a, examples.text_b) == ([""], [""])


# What the Hub's data sets look like when they are written as tab-separated files.
HUB = {
    "cola": ("sentence label idx", "A 1 0", 1),
    "sst2": ("idx sentence label", "0 A 0", 0),
    "mrpc": ("sentence1 sentence2 label idx", "A B 1 0", 1),
    "qqp": ("question1 question2 label idx", "A B 0 0", 0),
    "stsb": ("label sentence2 sentence1 idx", "2.5 B A 0", 2.5),
    "mnli": ("premise hypothesis label idx", "A B 0 0", 1),
    "qnli": ("question sentence label idx", "A B 1 0", 1),
    "rte": ("idx label sentence2 sentence1", "0 1 B A", 1),
    "wnli": ("sentence1 sentence2 idx label", "A B 0 1", 1),
}


def read_text(folder, key, split, text):
    task = TASKS[key]
    files = {"train": "train.tsv", **task.dev_files, **task.test_files}
    (folder / files[split]).write_bytes(text.encode())
    return read_split(task, folder, split)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("key", HUB)
def test_exports_of_the_hub_are_read_by_the_names_in_their_headers(tmp_path, key, end):
    header, row, label = (
        cell.replace(" ", "\t") if isinstance(cell, str) else cell for cell in HUB[key]
    )
    examples = read_text(tmp_path, key, "train", f"\ufeff{header}{end}{row}{end}")
    assert examples.text_a == ["A"] and examples.labels.tolist() == [label]
    assert examples.text_b == (["B"] if TASKS[key].pair else None)
    hidden = "-1.0" if key == "stsb" else "-1"
    cells = dict(zip(header.split("\t"), row.split("\t"), strict=True)) | {"label": hidden}
    row = "\t".join(cells.values())
    for split in TASKS[key].test_files:
        test = read_text(tmp_path, key, split, f"{header}{end}{row}{end}")
        assert (test.text_a, test.text_b, test.labels) == (["A"], examples.text_b, None)


def test_numbers_for_labels_of_inference_are_those_of_the_hub_which_is_said(tmp_path, capsys):
    text = "premise\thypothesis\tlabel\na\tb\t0\na\tb\t1\na\tb\t2\n"
    labels = read_text(tmp_path, "mnli", "train", text).labels
    names = [TASKS["mnli"].labels[label] for label in labels]
    assert names == ["entailment", "neutral", "contradiction"]
    read_text(tmp_path, "mnli", "train", text)
    told = capsys.readouterr().err
    assert told.count("its labels are numbers") == 1
    assert "0 entailment, 1 neutral, 2 contradiction" in told


def test_labels_in_other_peoples_words_are_read(tmp_path):
    text = "sentence\tlabel\nfine\tpositive\nawful\tnegative\n"
    assert read_text(tmp_path, "sst2", "train", text).labels.tolist() == [1, 0]


SNLI = "index captionID pairID b1 b2 p1 p2 sentence1 sentence2 label1 gold_label".replace(" ", "\t")


def test_snli_in_the_place_of_mnli_leaks_no_label(tmp_path):
    row = "0\tc\tp\tx\tx\tx\tx\tthe cat\tthe dog\tentailment\tneutral\n"
    examples = read_text(tmp_path, "mnli", "train", f"{SNLI}\n{row}")
    assert (examples.text_a, examples.text_b) == (["the cat"], ["the dog"])
    assert examples.labels.tolist() == [TASKS["mnli"].labels.index("neutral")]
    with pytest.raises(UserError, match="train.tsv:2: label '-', .* leave such rows out"):
        read_text(tmp_path, "mnli", "train", f"{SNLI}\n{row}".replace("\tneutral", "\t-"))


def test_further_columns_are_left_alone(tmp_path):
    text = "genre\tsentence2\tidx\tidx\tsentence1\tlabel\tnote\nx\tB\t0\t0\tA\tentailment\tx\n"
    examples = read_text(tmp_path, "rte", "dev", text)
    assert (examples.text_a, examples.text_b, examples.labels.tolist()) == (["A"], ["B"], [0])


def test_an_unknown_header_of_the_official_shape_is_read_by_position_and_told(tmp_path, capsys):
    assert read_text(tmp_path, "sst2", "train", "text\tmood\nfine\t1\n").text_a == ["fine"]
    assert "the text is column 1 (text)" in capsys.readouterr().err


@pytest.mark.parametrize(
    "key, split, text, message",
    [
        ("sst2", "test", "0\tfine\n", "test.tsv:1: a row of data, expected a header"),
        ("sst2", "test", "fine\t-1\t0\n", "test.tsv:1: 3 columns, expected 2"),
        ("sst2", "test", "text\tlabel\nfine\t1\n", "test.tsv:1: the header names no text"),
        ("sst2", "train", "fine\t1\nbad\t0\n", "train.tsv:1: a row of data, expected a header"),
        ("sst2", "dev", "index\tquestion\tsentence\tlabel\n", "names question, which no file of SST-2"),
        ("sst2", "dev", "sentence\tlabel\tlabel\n", "two columns for the same, label and label"),
        ("sst2", "dev", '"sentence"\t"label"\n', "dev.tsv:1: the header is quoted"),
        ("sst2", "dev", "sentence\tlabel\na\t1\nsentence\tlabel\n", "dev.tsv:3: the header again"),
        ("sst2", "dev", "sentence\tlabel\na\t-1\n", "-1 stands for the hidden labels of a test set"),
        ("cola", "test", "gj04\t1\t\tfine\n", "test.tsv:1: 4 columns, expected 2"),
        ("cola", "train", "index\tsentence\n0\tfine\n", "names no column as the label"),
        ("rte", "dev", "sentence1\tlabel\na\tentailment\n", "names no column as the second text"),
        ("rte", "dev", "premise\tsentence1\tsentence2\tlabel\n", "the same, premise and sentence1"),
        ("rte", "dev", "question\tsentence\tlabel\n", "names question, which no file of RTE"),
        ("wnli", "dev", "a\tb\tlabel\tidx\nx\ty\t1\t0\n", "names the label in another place"),
        ("mnli", "train", "a\tb\tneutral\t0\n", "train.tsv:1: 4 columns, expected at least 12"),
        ("mnli", "train", "premise\thypothesis\tlabel\na\tb\tneutral\na\tb\t1\n", "3: label '1', exp"),
    ],
)  # fmt: skip
def test_headers_that_contradict_the_task_are_refused(tmp_path, key, split, text, message):
    with pytest.raises(UserError, match=re.escape(message)):
        read_text(tmp_path, key, split, text)


TEXT = st.text(st.characters(exclude_characters="\t\n\r\0", exclude_categories=["Cs"]), max_size=20)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(TEXT, TEXT, st.sampled_from(["0", "1"])), min_size=1, max_size=8))
def test_reading_equals_the_csv_module_without_quoting(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("csv")
    lines = ["index\ta\tb\tlabel"] + [f"{n}\t{a}\t{b}\t{y}" for n, (a, b, y) in enumerate(rows)]
    (folder / "dev.tsv").write_bytes("\n".join(lines).encode())
    examples = read_split(TASKS["wnli"], folder, "dev")
    with open(folder / "dev.tsv", encoding="utf-8", newline="\n") as file:
        theirs = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))[1:]
    assert [examples.text_a, examples.text_b] == [[row[n] for row in theirs] for n in (1, 2)]
    assert examples.labels.tolist() == [int(row[3]) for row in theirs]


ROW = "0\ta\tb\tentailment\n"


@pytest.mark.parametrize(
    "content, message",
    [
        ("", "train.tsv: the file is empty"),
        ("\n\n", "train.tsv: the file is empty"),
        (RTE_HEADER, "train.tsv: no rows below the header"),
        (f"{RTE_HEADER}{ROW}1\ta\tb\n", "train.tsv:3: 3 columns, expected 4"),
        (f"{RTE_HEADER}{ROW}1\ta\tb\tc\tentailment\n", "train.tsv:3: 5 columns, expected 4"),
        (f"{RTE_HEADER}\n{ROW}", "train.tsv:2: 0 columns, expected 4"),
        (f"{RTE_HEADER}{ROW}1\ta\tb\tEntailment\n", "train.tsv:3: label 'Entailment', expected"),
        (ROW, "train.tsv:1: a row of data, expected a header"),
        ("index,sentence1,sentence2,label\n", "train.tsv:1: 1 columns, expected at least 4"),
        (
            "index\tsentence1\tsentence2\n0\ta\tb\n",
            "train.tsv:1: the header names no column as the",
        ),
        ("sentence\tlabel\nfine\t1\n", "train.tsv:1: the header names sentence, which"),
        (f"{RTE_HEADER}{ROW}".encode() + b"1\tcaf\xe9\tb\tentailment\n", "train.tsv:3: byte 6 is"),
        (f"{RTE_HEADER}{ROW}".encode("utf-16"), "train.tsv:1: byte 1 is not UTF-8"),
        (f"{RTE_HEADER}0\ta\0\tb\tentailment\n", "train.tsv:2: holds a NUL byte"),
        (b"\x00" * 64, "train.tsv:1: holds a NUL byte"),
        (
            f"{RTE_HEADER}0\ta{' a' * 2**19}\tb\tentailment\n",
            "train.tsv:2: a line of more than 1,048,576",
        ),
        (b"\x1f\x8b\x08gzip", "train.tsv:1: byte 2 is not UTF-8"),
    ],
)
def test_a_bad_file_is_named_with_its_line(tmp_path, content, message):
    with pytest.raises(UserError, match=re.escape(message)):
        rte(tmp_path, content)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_bytes_are_read_or_refused_in_one_line(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("damaged")
    content = bytearray((RTE_HEADER + ROW * 3).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place : place + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    try:
        assert len(rte(folder, bytes(content))) > 0
    except UserError as error:
        assert str(folder) in str(error)


@pytest.mark.parametrize("score", ["", "five", "nan", "inf", "-0.1", "5.01"])
def test_impossible_scores_are_named(tmp_path, score):
    write_layout(tmp_path, "stsb", "train", score)
    with pytest.raises(UserError, match=r"train.tsv:2: score '.*', expected a number from 0 to 5"):
        read_split(TASKS["stsb"], tmp_path, "train")


def test_torn_rows_of_qqp_are_skipped_and_counted(tmp_path, capsys):
    write_layout(tmp_path, "qqp", "train", "1", count=3)
    lines = (tmp_path / "train.tsv").read_text().splitlines()
    lines[2:3] = ["1\t2\t3\tWhat", "is it ?\tWhy ?\t1"]
    (tmp_path / "train.tsv").write_text("\n".join(lines))
    examples = read_split(TASKS["qqp"], tmp_path, "train")
    assert examples.ids.tolist() == [2, 5]
    assert "2 of 5 lines have too few columns, skipped" in capsys.readouterr().err


def test_torn_rows_of_a_test_set_are_never_skipped(tmp_path):
    write_layout(tmp_path, "qqp", "test", None)
    with open(tmp_path / "test.tsv", "a") as file:
        file.write("1\ta\n")
    with pytest.raises(UserError, match="test.tsv:3: 2 columns, expected 3"):
        read_split(TASKS["qqp"], tmp_path, "test")


def test_missing_files_say_what_to_run(tmp_path):
    with pytest.raises(UserError, match="download_glue.py --tasks SST$"):
        read_split(TASKS["sst2"], tmp_path, "train")
    with pytest.raises(UserError, match="data_augmentation.py --task_name SST-2 first"):
        read_split(TASKS["sst2"], tmp_path, "train_aug")


@pytest.mark.parametrize("key, split", [("rte", "validation"), ("mnli", "dev"), ("ax", "train")])
def test_unknown_splits_list_the_known(tmp_path, key, split):
    with pytest.raises(UserError, match="expected one of"):
        split_path(TASKS[key], tmp_path, split)


def test_both_dev_sets_of_mnli_are_found(tmp_path, capsys):
    write_layout(tmp_path, "mnli", "dev_matched", "neutral")
    assert dev_splits(TASKS["mnli"], tmp_path) == ["dev_matched"]
    assert "no dev_mismatched.tsv" in capsys.readouterr().err
    (tmp_path / "dev_mismatched.tsv").write_bytes((tmp_path / "dev_matched.tsv").read_bytes())
    assert dev_splits(TASKS["mnli"], tmp_path) == ["dev_matched", "dev_mismatched"]


@pytest.mark.parametrize("key", ["rte", "mnli", "ax"])
def test_missing_dev_set_is_a_users_mistake(tmp_path, key):
    with pytest.raises(UserError):
        dev_splits(TASKS[key], tmp_path)


@pytest.mark.parametrize(
    "name, key",
    [
        ("RTE", "rte"), ("rte", "rte"), ("SST-2", "sst2"), ("sst-2", "sst2"), ("sst2", "sst2"),
        ("SST", "sst2"), ("cola", "cola"), ("STS-B", "stsb"), ("STS-b", "stsb"), ("STS", "stsb"),
        ("MNLI-mm", "mnli"), ("AX", "ax"), ("diagnostic", "ax"), ("Mrpc", "mrpc"),
    ],
)  # fmt: skip
def test_tasks_are_found_in_any_spelling(name, key):
    assert find_task(name) is TASKS[key]


@pytest.mark.parametrize("name", ["", "SNLI", "rte2", "../RTE/x"])
def test_unknown_task_lists_the_known(name):
    with pytest.raises(UserError, match="expected one of CoLA, SST-2, MRPC"):
        find_task(name)


@pytest.mark.parametrize(
    "folder, key",
    [
        ("data/glue_data/RTE", "rte"), ("SST-2/", "sst2"), ("x/my_cola_copy", "cola"),
        ("my-SST-2-copy", "sst2"), ("mnli_and_mnli-mm", "mnli"),
        ("runs/demo/data/glue_data/MRPC", "mrpc"), ("STS-B", "stsb"), ("glue/MNLI.", "mnli"),
    ],
)  # fmt: skip
def test_task_is_guessed_from_the_folders_name(folder, key):
    assert guess_task(folder) is TASKS[key]


def test_task_of_the_current_folder_is_guessed(tmp_path, monkeypatch):
    (tmp_path / "WNLI").mkdir()
    monkeypatch.chdir(tmp_path / "WNLI")
    assert guess_task(".") is TASKS["wnli"]


@pytest.mark.parametrize(
    "folder",
    ["glue_data", "RTE/train", "rte_and_cola", "chocolate", "quarterly_reviews", "carte", "colab"],
)
def test_unclear_folder_asks_for_the_task(folder):
    with pytest.raises(UserError, match="give --task_name"):
        guess_task(folder)


@pytest.mark.parametrize(
    "key, names, expected",
    [
        ("mnli", ["contradiction", "entailment", "neutral"], [0, 1, 2]),
        ("mnli", ["ENTAILMENT", "NEUTRAL", "CONTRADICTION"], [2, 0, 1]),
        ("mnli", ["contradiction", "neutral", "entailment"], [0, 2, 1]),
        ("mnli", ["LABEL_0", "LABEL_1", "LABEL_2"], [0, 1, 2]),
        ("rte", ["not_entailment", "entailment"], [1, 0]),
        ("qnli", ["entailment", "Not Entailment"], [0, 1]),
        ("sst2", ["NEGATIVE", "POSITIVE"], [0, 1]),
        ("mrpc", ["equivalent", "not_equivalent"], [1, 0]),
        ("wnli", ["not_entailment", "entailment"], [0, 1]),
        ("cola", ["0", "1"], [0, 1]),
        ("cola", ["1", "0"], [1, 0]),
        ("stsb", ["LABEL_0"], [0]),
    ],
)
def test_label_order_of_other_peoples_models_is_brought_into_ours(key, names, expected):
    order = check_label_order(TASKS[key], {str(n): name for n, name in enumerate(names)})
    assert order.dtype == np.int64 and order.tolist() == expected


def test_label_order_moves_logits_to_our_classes():
    theirs = {0: "entailment", 1: "neutral", 2: "contradiction"}
    logits = np.array([[9.0, 5.0, 1.0]])  # entailment is most likely
    ours = logits[:, check_label_order(TASKS["mnli"], theirs)]
    assert TASKS["mnli"].labels[ours.argmax()] == "entailment"


@pytest.mark.parametrize("id2label", [None, {}])
def test_model_without_label_names_is_trusted(id2label):
    assert check_label_order(TASKS["mnli"], id2label).tolist() == [0, 1, 2]


def test_nameless_labels_are_noted_where_the_order_matters(capsys):
    check_label_order(TASKS["rte"], {"0": "LABEL_0", "1": "LABEL_1"}, "m/config.json")
    assert "m/config.json does not name its labels" in capsys.readouterr().err
    check_label_order(TASKS["cola"], {"0": "LABEL_0", "1": "LABEL_1"})
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "key, id2label",
    [
        ("rte", {"0": "contradiction", "1": "entailment", "2": "neutral"}),
        ("mnli", {"0": "LABEL_0", "1": "LABEL_1"}),
        ("rte", {"0": "negative", "1": "positive"}),
        ("rte", {"0": "entailment", "1": "entailment"}),
        ("rte", {"0": "LABEL_1", "1": "LABEL_0"}),
        ("rte", {"1": "entailment", "2": "not_entailment"}),
        ("rte", {"a": "entailment", "b": "not_entailment"}),
        ("rte", {"0": 1, "1": None}),
        ("rte", ["entailment", "not_entailment"]),
        ("stsb", {"0": "LABEL_0", "1": "LABEL_1"}),
    ],
)
def test_labels_of_another_task_are_refused(key, id2label):
    with pytest.raises(UserError, match="^m/config.json: id2label"):
        check_label_order(TASKS[key], id2label, "m/config.json")


def test_submissions_have_the_names_of_the_glue_site():
    names = {submission_name(task, split) for task in TASKS.values() for split in task.test_files}
    assert names == {
        "CoLA.tsv", "SST-2.tsv", "MRPC.tsv", "QQP.tsv", "STS-B.tsv", "MNLI-m.tsv", "MNLI-mm.tsv",
        "QNLI.tsv", "RTE.tsv", "WNLI.tsv", "AX.tsv",
    }  # fmt: skip
    with pytest.raises(ValueError, match="not a test set"):
        submission_name(TASKS["rte"], "dev")


def test_submission_holds_label_names(tmp_path):
    write_predictions(TASKS["rte"], tmp_path / "new" / "RTE.tsv", np.array([1, 0]))
    expected = b"index\tprediction\n0\tnot_entailment\n1\tentailment\n"
    assert (tmp_path / "new" / "RTE.tsv").read_bytes() == expected


def test_submitted_scores_are_clipped(tmp_path):
    write_predictions(TASKS["stsb"], tmp_path / "s.tsv", np.array([[-0.4], [2.34567], [7.0]]))
    values = [row[1] for _, row in read_rows(tmp_path / "s.tsv")][1:]
    assert values == ["0.000", "2.346", "5.000"]


def test_predictions_for_other_splits_hold_the_labels(tmp_path):
    write_predictions(TASKS["rte"], tmp_path / "RTE-dev.tsv", np.array([1, 0]), np.array([0, 0]))
    assert (tmp_path / "RTE-dev.tsv").read_text().splitlines() == [
        "index\tprediction\tlabel", "0\tnot_entailment\tentailment", "1\tentailment\tentailment",
    ]  # fmt: skip


@pytest.mark.parametrize("key, bad", [("rte", 2), ("rte", -1), ("stsb", np.nan)])
def test_impossible_predictions_are_not_written(tmp_path, key, bad):
    with pytest.raises(ValueError):
        write_predictions(TASKS[key], tmp_path / "s.tsv", np.array([0, bad]))
    assert not list(tmp_path.iterdir())
