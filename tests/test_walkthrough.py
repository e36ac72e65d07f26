"""docs/walkthrough.md: its quotes are those of the source, its losses those of the paper's formulas."""

import pytest
import torch

from demo.walkthrough import page
from demo.walkthrough.__main__ import main
from demo.walkthrough.losses import layer_values, plain_cross_entropy
from demo.walkthrough.page import ROOT, TEMPLATE, agreed, fill, quote, quotes_in, stale
from distillation.mapping import layer_mapping
from distillation.objectives.logits import soft_cross_entropy
from files.errors import UserError
from transformer.modeling import BertModel, TinyBertForPreTraining

SOURCE = """
def near():
    return 1


def far(x):
    if x > 1:
        value = [
            x,
        ]
    return value or near()
"""


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "ROOT", tmp_path)
    path = tmp_path / "module.py"
    path.write_text(SOURCE)
    return path


def test_the_committed_page_quotes_the_source_as_it_is():
    text = (ROOT / "docs" / "walkthrough.md").read_text(encoding="utf-8")
    template = TEMPLATE.read_text(encoding="utf-8")
    assert len(quotes_in(text)) > 20
    wrong = stale(text, template)
    assert not wrong, "docs/walkthrough.md is out of date, run `make walkthrough`:\n" + "\n".join(
        wrong
    )


def test_the_committed_page_has_the_headings_of_its_template():
    heads = [
        [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
        for path in (ROOT / "docs" / "walkthrough.md", TEMPLATE)
    ]
    assert heads[0] == heads[1], "docs/walkthrough.md is out of date, run `make walkthrough`"


def test_a_statement_is_quoted_whole_with_its_line(source, tmp_path):
    found = quote("module.py", "far", "x,")
    assert (found.line, found.code) == (8, "value = [\n    x,\n]")
    text = found.markdown(tmp_path / "docs")
    assert text.startswith("[`module.py`, lines 8–10](../module.py#L8), in `far`:")
    assert [(q.file, q.line, q.code) for q in quotes_in(text)] == [("module.py", 8, found.code)]


@pytest.mark.parametrize(
    "function, text, reason",
    [
        ("near", "return 2", "0 lines of near"),
        ("far", "x", "lines of far hold"),
        ("nearer", "return", "0 definitions of nearer"),
    ],
)
def test_a_line_that_is_not_there_once_is_not_quoted(source, function, text, reason):
    with pytest.raises(LookupError, match=reason):
        quote("module.py", function, text)


def test_a_changed_line_makes_the_page_stale_and_a_moved_one_does_not(source, tmp_path):
    template = "see <<code module.py near | return>> and <<code module.py far | or near>>"
    text = fill(template, {}, tmp_path)
    assert stale(text, template) == []
    source.write_text("\n\n" + SOURCE)
    assert stale(text, template) == []
    source.write_text(SOURCE.replace("return 1", "return 2"))
    assert len(stale(text, template)) == 1 and "return 2" in stale(text, template)[0]
    source.write_text(SOURCE.replace("or near", "and near"))
    assert "0 lines of far" in stale(text, template)[0]


def test_a_fact_that_is_missing_or_not_used_is_noticed(tmp_path):
    assert fill("a <<b>> c", {"b": "1"}, tmp_path) == "a 1 c"
    with pytest.raises(LookupError):
        fill("a <<b>> c", {}, tmp_path)
    with pytest.raises(LookupError, match="does not use d"):
        fill("a <<b>> c", {"b": "1", "d": "2"}, tmp_path)


@pytest.mark.parametrize(
    "flags, reason",
    [([], "not there; expected a finished run"), (["--task", "STS-B"], "a task with classes")],
)
def test_without_a_finished_run_nothing_is_written(tmp_path, flags, reason):
    output = tmp_path / "page.md"
    with pytest.raises(UserError, match=reason):
        main(["--run", str(tmp_path / "run"), "--output", str(output), *flags])
    assert not output.exists()


@pytest.fixture
def values(tiny_config, tiny_batch, randomised):
    """A function giving the losses of a padded batch, by the code and by the formulas."""
    teacher = randomised(BertModel(tiny_config(num_hidden_layers=4)), 1)
    student = randomised(TinyBertForPreTraining(tiny_config(hidden_size=12, fit_size=24)), 2)
    mapping = layer_mapping("uniform", 2, 4)
    return lambda: layer_values(student, teacher, mapping, tiny_batch(length=9))


def test_code_and_formulas_agree_on_a_padded_batch(values):
    found = values()
    assert [name for name, *_ in found] == [
        "attention, layer 1 and 2",
        "attention, layer 2 and 4",
        "embeddings",
        "hidden state, layer 1 and 2",
        "hidden state, layer 2 and 4",
        "sum",
    ]
    for name, *both in found:
        agreed(name, *both)


@pytest.mark.parametrize(
    "name, wrong, loss",
    [
        ("attention.PADDING_THRESHOLD", -1e9, "attention, layer 1 and 2"),  # masked scores count
        (
            "hidden.HiddenMSE.formula",
            staticmethod(
                lambda s, t, mask: [(a - b).abs().mean() for a, b in zip(s, t, strict=True)]
            ),
            "hidden state, layer 2 and 4",
        ),
    ],
)
def test_a_wrong_loss_is_caught(values, monkeypatch, name, wrong, loss):
    monkeypatch.setattr(f"distillation.objectives.{name}", wrong)
    caught = set()
    for title, *both in values():
        try:
            agreed(title, *both)
        except ArithmeticError:
            caught.add(title)
    assert loss in caught and "sum" in caught


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_the_plain_cross_entropy_is_the_code_s(temperature):
    student, teacher = torch.tensor([[0.3, -1.2, 2.0]]), torch.tensor([[1.5, 0.1, -0.4]])
    by_code = soft_cross_entropy(student, teacher, temperature).item()
    plain = plain_cross_entropy(student[0].tolist(), teacher[0].tolist(), temperature)
    agreed("prediction loss", by_code, plain)
    with pytest.raises(ArithmeticError, match="prediction loss: the code gives"):
        agreed("prediction loss", by_code, 1.001 * plain)
