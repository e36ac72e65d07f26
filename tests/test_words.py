"""The losses of DistilBERT against their equations, and the windows and masks they are taken of."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from corpus.documents import tokenize_corpus
from corpus.masking import CountedBatches
from corpus.packed import SPLITS, open_windows
from distillation.distributed import Runtime
from distillation.global_batches import global_batches
from distillation.initialisation import spread_layers, take_layers
from distillation.objective import Objectives, Setup
from distillation.objectives import words
from distillation.objectives.words import Triple, TripleLoss, vocabulary_loss
from distillation.validation import mean_losses
from files.errors import UserError
from transformer.encoder import Collect
from transformer.heads import WordStates
from transformer.modeling import BertForMaskedLM
from transformer.tokenization import BertTokenizer

PAPER = Triple(5.0, 2.0, 1.0, 2.0, ((2, 4),))


@pytest.fixture
def tokenizer(tiny_vocab):
    return BertTokenizer(tiny_vocab)


@pytest.fixture
def models(tiny_config, randomised):
    """A student of 2 layers of the DistilBERT family, and a BERT of 4."""
    teacher = randomised(BertForMaskedLM(tiny_config(num_hidden_layers=4)), 1)
    student = randomised(BertForMaskedLM(tiny_config(model_type="distilbert")), 2)
    return student, teacher


@pytest.fixture
def windows(tokenizer, tmp_path):
    """A function giving windows of a corpus of 40 documents."""
    lines = [
        f"the cat sees {'a dog ' * (i % 7)}.\n{'a bird sings . ' * (i % 3 + 1)}" for i in range(40)
    ]
    (tmp_path / "corpus.txt").write_text("\n\n".join(lines) + "\n")

    def make(length=12, fractions=None, seed=1):
        fractions = fractions or {"validation": 0.2, "test": 0.2}
        return open_windows(
            tmp_path / "corpus.txt", tokenizer, length, fractions, seed, tmp_path / "kept"
        )

    return make


def plain_triple(student, teacher, batch, triple, counted):
    """The losses written from their equations, over all positions at once."""
    inputs = {name: batch[name] for name in ("input_ids", "token_type_ids", "attention_mask")}
    masked = torch.zeros_like(batch["input_ids"], dtype=torch.bool)
    count = len(batch["masked_labels"])
    masked[batch["counted_rows"][:count], batch["counted_columns"][:count]] = True
    labels = torch.full_like(batch["input_ids"], -100)
    labels[batch["counted_rows"][:count], batch["counted_columns"][:count]] = batch["masked_labels"]
    theirs = teacher(**inputs, collect=Collect(hidden=(0, 1, 2, 3, 4)))
    ours = student(**inputs, collect=Collect(hidden=(0, 1, 2)))
    at = {
        "tokens": batch["attention_mask"].bool(),
        "masked": masked,
        "all": torch.ones_like(masked),
    }[counted]
    s, t = ours.output, theirs.output
    divergence = F.kl_div(
        F.log_softmax(s / triple.temperature, -1),
        F.softmax(t / triple.temperature, -1),
        reduction="none",
    ).sum(-1)[at]
    divisor = len(s) if triple.per_sequence else len(divergence)
    ce = triple.alpha_ce * triple.temperature**2 * divergence.sum() / divisor
    mlm = triple.alpha_mlm * F.cross_entropy(s.flatten(0, 1), labels.flatten(), ignore_index=-100)
    cosines = [
        (1 - F.cosine_similarity(ours.hidden[i], theirs.hidden[j], dim=-1))[at].mean()
        for i, j in triple.pairs
    ]
    return ce, mlm, triple.alpha_cos * sum(cosines) / len(cosines)


@pytest.mark.parametrize("chunk", [200, 1400, 1 << 22])
@pytest.mark.parametrize(
    ("triple", "counted"),
    [
        (PAPER, "tokens"),
        (PAPER, "masked"),
        (Triple(5.0, 2.0, 1.0, 2.0, ((1, 0), (2, 2)), per_sequence=True), "all"),
        (Triple(1.0, 0.0, 0.0, 3.0, ((2, 4),)), "tokens"),
        (Triple(0.0, 1.0, 0.0, 2.0, ((2, 4),)), "tokens"),
        (Triple(0.0, 0.0, 1.0, 2.0, ((2, 4),)), "tokens"),
    ],
)
def test_losses_and_gradients_are_those_of_the_equations(
    models, windows, tokenizer, monkeypatch, triple, counted, chunk
):
    monkeypatch.setattr(words, "CHUNK", chunk)
    student, teacher = models
    source = CountedBatches([windows()[0]["train"]], 4, 0, tokenizer=tokenizer, packed=True,
                            probability=0.3, counted=counted, pad_to=16)  # fmt: skip
    batch = source.collate(0, np.arange(4), 16)
    losses = Objectives([(TripleLoss(Setup(student.config, teacher.config), triple), 1.0)])
    found = losses.attach(teacher)(student, batch)
    expected = plain_triple(student, teacher, batch, triple, counted)
    for name, value in zip(("ce_loss", "mlm_loss", "cos_loss"), expected, strict=True):
        assert_close(found.named.get(name, torch.tensor(0.0)), value, rtol=1e-5, atol=1e-5)
    found.total().backward()
    ours = {name: p.grad for name, p in student.named_parameters()}
    student.zero_grad()
    sum(expected).backward()
    for name, p in student.named_parameters():
        expected = torch.zeros_like(p) if p.grad is None else p.grad
        if ours[name] is not None or expected.abs().max() > 0:
            assert_close(ours[name], expected, rtol=1e-4, atol=1e-5)


def test_the_gradient_is_scaled_by_what_comes_after():
    def states(width):
        parts = torch.randn(9, width), torch.randn(50, width), torch.randn(50)
        return WordStates(*(part.requires_grad_() for part in parts))

    student, teacher = states(6), states(8)
    labels = torch.tensor([3, 7])
    total, _, _ = vocabulary_loss(student, teacher, labels, 2.0, 0.5, 0.25)
    once = torch.autograd.grad(total, student)
    total, _, _ = vocabulary_loss(student, teacher, labels, 2.0, 0.5, 0.25)
    for one, three in zip(once, torch.autograd.grad(3 * total, student), strict=True):
        assert_close(3 * one, three)


def test_no_tensor_of_all_positions_and_the_vocabulary_is_held(monkeypatch):
    """Of 4,000 positions and 5,000 words one such tensor would have 20 million numbers."""
    monkeypatch.setattr(words, "CHUNK", 1 << 18)
    student = WordStates(
        torch.randn(4000, 8, requires_grad=True), torch.randn(5000, 8), torch.zeros(5000)
    )
    teacher = WordStates(torch.randn(4000, 8), torch.randn(5000, 8), torch.zeros(5000))
    with Sizes() as sizes:
        total, _, _ = vocabulary_loss(student, teacher, torch.arange(600), 2.0, 1.0, 1.0)
        total.backward()
    assert 1 << 17 < max(sizes.seen) <= 3 << 18


class Sizes(TorchDispatchMode):
    """Notes how many numbers each tensor has that an operation returns."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        out = operation(*args, **(kwargs or {}))
        self.seen += [
            tensor.numel() for tensor in tree_leaves(out) if isinstance(tensor, torch.Tensor)
        ]
        return out


@pytest.mark.parametrize("counted", ["tokens", "masked", "all"])
def test_parts_of_a_batch_add_up_to_the_whole(models, windows, tokenizer, counted):
    student, teacher = models
    losses = Objectives([(TripleLoss(Setup(student.config, teacher.config), PAPER), 1.0)])
    losses.attach(teacher)
    source = CountedBatches([windows()[0]["train"]], 7, 0, tokenizer=tokenizer, packed=True,
                            probability=0.3, counted=counted)  # fmt: skip
    runtime = Runtime(torch.device("cpu"))
    found = []
    for accumulation in (1, 3):
        student.zero_grad()
        (whole,) = global_batches(source, accumulation, runtime, [source.count(0)], 0, 1)
        for batch, share in whole.parts:
            (losses(student, batch).total() * share).backward()
        found.append(
            {n: p.grad.clone() for n, p in student.named_parameters() if p.grad is not None}
        )
    for name, gradient in found[0].items():
        assert_close(gradient, found[1][name], rtol=1e-4, atol=1e-6)


def test_validation_does_not_depend_on_the_batch_size(models, windows, tokenizer):
    student, teacher = models
    losses = Objectives([(TripleLoss(Setup(student.config, teacher.config), PAPER), 1.0)])
    losses.attach(teacher)
    found = [
        mean_losses(
            losses, student,
            CountedBatches([windows()[0]["validation"]], size, 1, tokenizer=tokenizer, packed=True),
            torch.device("cpu"), torch.autocast("cpu", enabled=False),
        )
        for size in (1, 3, 100)
    ]  # fmt: skip
    for other in found[1:]:
        assert other == pytest.approx(found[0], rel=1e-5)
    assert found[0]["loss"] == pytest.approx(sum(v for k, v in found[0].items() if k != "loss"))


def test_a_narrower_student_learns_a_projection_to_its_teachers_width(
    tiny_config, randomised, windows, tokenizer
):
    teacher = randomised(BertForMaskedLM(tiny_config(num_hidden_layers=4)), 1)
    student = BertForMaskedLM(tiny_config(model_type="distilbert", hidden_size=16))
    loss = TripleLoss(Setup(student.config, teacher.config), PAPER)
    assert loss.projection.weight.shape == (24, 16)
    source = CountedBatches([windows()[0]["train"]], 4, 0, tokenizer=tokenizer, packed=True)
    batch = source.collate(0, np.arange(4), 12)
    Objectives([(loss, 1.0)]).attach(teacher)(student, batch).total().backward()
    assert loss.projection.weight.grad.abs().sum() > 0


# Windows


def test_windows_hold_every_token_of_their_documents_once_and_in_order(
    windows, tokenizer, tmp_path
):
    stores, facts = windows()
    documents = tokenize_corpus(tmp_path / "corpus.txt", tokenizer, tmp_path)
    sentences, begins = documents.read("sentences"), documents.read("documents")
    tokens = documents.read("tokens")
    wanted = [
        tuple(tokens[sentences[a] : sentences[b]])
        for a, b in zip(begins[:-1], begins[1:], strict=True)
    ]
    found = []
    for split in SPLITS:
        store = stores[split]
        assert (store.lengths[:-1] == 12).all()
        inside = []
        for start, stop in zip(store.offsets[:-1], store.offsets[1:], strict=True):
            window = store.tokens[start:stop]
            assert (window[0], window[-1]) == (tokenizer.cls_id, tokenizer.sep_id)
            inside += window[1:-1].tolist()
        assert facts["splits"][split]["windows"] == len(store)
        # The separator after the last document is there if it filled a window.
        text = " ".join(map(str, inside)).removesuffix(f" {tokenizer.sep_id}")
        parts = text.split(f" {tokenizer.sep_id} ")
        found += [tuple(map(int, document.split())) for document in parts]
    assert sorted(found) == sorted(wanted)
    assert len(wanted) == 40


def test_windows_are_made_once(windows, capsys):
    first, facts = windows()
    assert "tokenised before" not in capsys.readouterr().err
    again, same = windows()
    assert "tokenised before" in capsys.readouterr().err
    assert same == facts
    assert (again["train"].tokens == first["train"].tokens).all()


def test_other_settings_make_other_windows_and_leave_these(windows, tmp_path):
    windows()
    windows(length=20)
    windows(seed=2)
    assert len(list((tmp_path / "kept").iterdir())) == 3


def test_a_corpus_without_documents_for_a_split_is_refused(tokenizer, tmp_path):
    (tmp_path / "one.txt").write_text("the cat sees a dog .\n")
    with pytest.raises(UserError, match="1 documents, and none is left for"):
        open_windows(
            tmp_path / "one.txt", tokenizer, 12, {"validation": 0.1, "test": 0.1}, 1, tmp_path
        )


def test_no_special_token_and_no_padding_is_masked(windows, tokenizer):
    store = windows()[0]["train"]
    source = CountedBatches([store], 4, 0, tokenizer=tokenizer, packed=True, probability=0.9)
    special = {tokenizer.cls_id, tokenizer.sep_id, tokenizer.pad_id}
    inner = 0
    for rows in source.plan(0):
        batch = source.collate(0, rows, 16)
        clean = store.collate(rows, 16)["input_ids"]
        count = len(batch["masked_labels"])
        places = batch["counted_rows"][:count], batch["counted_columns"][:count]
        assert (clean[places] == batch["masked_labels"]).all()
        assert not special & set(clean[places].tolist())
        inner += int((clean[:, 1:-5] == tokenizer.sep_id).sum())
    assert inner > 0


# Initialisation


def test_layers_are_spread_as_the_original_does():
    assert spread_layers(6, 12) == (0, 2, 4, 7, 9, 11)
    assert spread_layers(1, 12) == (0,)
    assert spread_layers(3, 3) == (0, 1, 2)


@pytest.mark.parametrize("transform", [False, True])
def test_a_student_takes_its_teachers_embeddings_and_layers(models, transform):
    student, teacher = models
    before = {name: value.clone() for name, value in student.state_dict().items()}
    take_layers(student, teacher, (1, 3), () if transform else ("cls.predictions.transform.",))
    own, theirs = student.state_dict(), teacher.state_dict()
    for name, value in own.items():
        source = name.replace("layer.1.", "layer.3.").replace("layer.0.", "layer.1.")
        kept = "predictions.transform" in name and not transform
        assert value.equal(before[name] if kept else theirs[source]), name


def test_layers_that_are_not_there_are_refused(models):
    with pytest.raises(UserError, match="--layers 1,9: expected layers among"):
        take_layers(*models, (1, 9))
    with pytest.raises(UserError, match="3 layers, expected 2"):
        take_layers(*models, (0, 1, 2))
