"""Shortened sequences: drop and restore against a slow reading of its definition, and its invariants."""

import math

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig as TheirConfig
from transformers import BertForQuestionAnswering as TheirModel

from files.errors import UserError
from search.lengths import (
    chain,
    multiply_accumulates,
    published_floor,
    shortened,
    spread_uniform,
    uniform,
)
from transformer.lengths import LengthConfig, parse_lengths, received_attention
from transformer.modeling import BertForQuestionAnswering, TinyBertForSequenceClassification


@pytest.fixture
def model(tiny_config, randomised):
    config = tiny_config(num_hidden_layers=4, hidden_size=32)
    return randomised(BertForQuestionAnswering(config)).eval()


def batch_of(lengths, width=None, seed=0):
    generator = torch.Generator().manual_seed(seed)
    width = width or max(lengths)
    mask = (torch.arange(width) < torch.tensor(lengths)[:, None]).long()
    ids = torch.randint(5, 200, (len(lengths), width), generator=generator) * mask
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)}


@torch.no_grad()
def slowly(model, ids, lengths, keep_first=False):
    """The scores of one sequence, layer by layer from the paper: attention of all, the best m tokens on."""
    hidden = model.bert.embeddings(ids[None], torch.zeros_like(ids)[None])[0]
    places, restored = list(range(len(ids))), hidden.clone()
    for layer, length in zip(model.bert.encoder.layer, lengths, strict=True):
        count, own = len(places), layer.attention.self
        heads = [
            linear(hidden).view(count, own.heads, -1).transpose(0, 1)
            for linear in (own.query, own.key, own.value)
        ]
        probs = (heads[0] @ heads[1].transpose(1, 2) / math.sqrt(heads[0].shape[-1])).softmax(-1)
        context = (probs @ heads[2]).transpose(0, 1).flatten(1)
        attended = layer.attention.output(context, hidden)
        received = probs.sum((0, 1))
        ranked = sorted(range(count), key=lambda j, r=received: -r[j])
        if keep_first:
            first = places.index(0)
            ranked = [first, *(j for j in ranked if j != first)]
        kept = ranked[: min(length, count)]
        attended = attended[kept]
        hidden = layer.output(layer.intermediate(attended), attended)
        places = [places[j] for j in kept]
        restored[places] = hidden
    return model.qa_outputs(restored)


@torch.no_grad()
@pytest.mark.parametrize("keep_first", [False, True])
@pytest.mark.parametrize("lengths", [(20, 20, 20, 20), (14, 9, 9, 3), (19, 12, 5, 2)])
def test_scores_are_those_of_the_definition(model, lengths, keep_first):
    batch = batch_of([20])
    config = LengthConfig(lengths, keep_first=keep_first)
    actual = model(**batch, lengths=config).output[0]
    expected = slowly(model, batch["input_ids"][0], lengths, keep_first)
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_nothing_dropped_is_the_plain_model(model):
    batch = batch_of([20, 13, 4])
    for lengths in ((20,) * 4, (1.0,) * 4, (384,) * 4):
        shortened = model(**batch, lengths=LengthConfig(lengths)).output
        assert torch.equal(shortened, model(**batch).output)


@torch.no_grad()
@pytest.mark.parametrize("lengths", [(0.8, 0.64, 0.51, 0.41), (12, 8, 5, 3)])
def test_a_sequence_has_the_same_scores_in_every_batch(model, lengths):
    config = LengthConfig(lengths)
    rows = [20, 13, 7, 2, 1]
    together = model(**batch_of(rows, 24), lengths=config).output
    for i, length in enumerate(rows):
        alone = {k: v[i : i + 1, :length] for k, v in batch_of(rows, 24).items()}
        torch.testing.assert_close(
            together[i, :length], model(**alone, lengths=config).output[0], atol=1e-5, rtol=1e-5
        )


@torch.no_grad()
def test_scores_do_not_depend_on_the_order_of_tokens(model):
    """Positions are in the embeddings, so that tokens may stand in any order."""
    model.bert.embeddings.position_embeddings.weight.zero_()
    batch = batch_of([16])
    order = torch.randperm(16, generator=torch.Generator().manual_seed(1))
    config = LengthConfig((12, 8, 5, 3))
    there = model(**batch, lengths=config).output[0]
    batch["input_ids"] = batch["input_ids"][:, order]
    torch.testing.assert_close(
        model(**batch, lengths=config).output[0], there[order], atol=1e-5, rtol=1e-5
    )


@torch.no_grad()
def test_padding_ranks_tokens_only_when_asked(model):
    attention = model.bert.encoder.layer[0].attention.self
    batch = batch_of([10], 16)
    hidden = model.bert.embeddings(batch["input_ids"], batch["token_type_ids"])
    query, key, _ = attention.project(hidden)
    mask = (1.0 - batch["attention_mask"][:, None, None].float()) * -10000.0
    probs = (query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1]) + mask).softmax(-1)
    torch.testing.assert_close(received_attention(query, key, mask), probs[:, :, :10].sum((1, 2)))
    torch.testing.assert_close(received_attention(query, key, mask, True), probs.sum((1, 2)))


@torch.no_grad()
def test_a_classifier_never_drops_its_first_token(tiny_config, randomised):
    model = randomised(TinyBertForSequenceClassification(tiny_config(id2label=["a", "b"]))).eval()
    batch = batch_of([12, 9])
    lengths = LengthConfig((3, 2))
    kept = model(**batch, lengths=lengths._replace(keep_first=True)).output
    assert torch.equal(model(**batch, lengths=lengths).output, kept)


def test_layers_that_do_not_run_are_passed_by(model):
    batch = batch_of([12])
    config = LengthConfig((1.0,) * 4, layers=(0, 2))
    actual = model(**batch, lengths=config).output
    shorter = BertForQuestionAnswering(model.config).eval()
    shorter.load_state_dict(model.state_dict())
    shorter.bert.encoder.layer = torch.nn.ModuleList(
        [shorter.bert.encoder.layer[0], shorter.bert.encoder.layer[2]]
    )
    assert torch.equal(actual, shorter(**batch).output)


def test_gradients_reach_the_embeddings_of_dropped_tokens(model):
    batch = batch_of([12])
    model(**batch, lengths=LengthConfig((6, 4, 3, 2))).output.sum().backward()
    gradient = model.bert.embeddings.word_embeddings.weight.grad[batch["input_ids"][0]]
    assert (gradient.abs().sum(1) > 0).all()


@torch.no_grad()
def test_question_answering_equals_transformers(tmp_path, model):
    model.save_pretrained(tmp_path)
    theirs, told = TheirModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not told["missing_keys"] and not told["unexpected_keys"]
    batch = batch_of([20, 13])
    out = theirs.eval()(**batch)
    expected = torch.stack([out.start_logits, out.end_logits], -1)
    seen = batch["attention_mask"].bool()
    torch.testing.assert_close(model(**batch).output[seen], expected[seen], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_their_question_answering_is_read(tmp_path):
    config = TheirConfig(
        vocab_size=200, hidden_size=24, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=40, max_position_embeddings=48,
    )  # fmt: skip
    theirs = TheirModel(config).eval()
    theirs.save_pretrained(tmp_path)
    ours = BertForQuestionAnswering.from_pretrained(tmp_path)
    batch = batch_of([20])
    torch.testing.assert_close(
        ours(**batch).output[..., 0], theirs(**batch).start_logits, atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize(
    ("lengths", "told"),
    [
        ((5, 4), "expected one for each of 3"), ((5, 6, 4), "grow"), ((5, 4, 1), "from 2"),
        ((1.5, 0.5, 0.2), "shares above 0"), ((0.5, 0.4, 0.0), "shares above 0"),
    ],
)  # fmt: skip
def test_configurations_that_cannot_be_are_refused(lengths, told):
    with pytest.raises(UserError, match=told):
        LengthConfig(lengths).check(3)


def test_lengths_are_read_without_being_run():
    assert parse_lengths("(308, 247,198,)") == (308, 247, 198)
    assert parse_lengths("0.8,0.64") == (0.8, 0.64)
    for text in ("__import__('os')", "3;4", "", "0.5,7"):
        with pytest.raises(ValueError):
            parse_lengths(text)


def test_tokens_and_shares_of_the_longest_sequence_agree():
    config = LengthConfig((308, 247, 198, 159, 128, 103))
    assert config.of_shares(384).of_tokens(384).lengths == config.lengths
    tokens = torch.tensor([384, 100, 3, 2, 1])
    assert config.of_shares(384).kept(5, tokens).tolist() == [103, 27, 2, 2, 1]
    assert LengthConfig((0.7,)).kept(0, torch.tensor(10)) == 7


# --- cost: the table of the specification -------------------------------------------------------------


@pytest.mark.parametrize(
    ("drop", "lengths", "gmacs"),
    [
        (0.0, (384,) * 6, 17.667), (0.05, (365, 347, 330, 314, 299, 285), 15.037),
        (0.10, (346, 312, 281, 253, 228, 206), 12.789), (0.15, (327, 278, 237, 202, 172, 147), 10.911),
        (0.20, (308, 247, 198, 159, 128, 103), 9.344),
    ],
)  # fmt: skip
def test_multiply_accumulates_of_uniform_configurations(drop, lengths, gmacs):
    assert uniform(384, 6, drop) == lengths
    assert round(multiply_accumulates(lengths, 384, 768, 3072) / 1e9, 3) == gmacs


def test_multiply_accumulates_of_published_models():
    assert round(multiply_accumulates((384,) * 12, 384, 768, 3072) / 1e9, 3) == 35.333
    assert round(multiply_accumulates((91,) * 6, 384, 768, 3072) / 1e9, 3) == 4.846
    # QuaLA-MiniLM's notebook prints 2,485,456,896 by torchprofile, which counts LayerNorms as well, and 768
    # more.
    lengths = (269, 253, 252, 202, 104, 34)
    macs = multiply_accumulates(lengths, 384, 384, 1536)
    norms = 384 * (384 + sum(a + b for a, b in zip((384, *lengths), lengths, strict=False)))
    assert macs == 2_484_318_720 and macs + norms + 768 == 2_485_456_896


def test_multiply_accumulates_are_those_that_torch_counts(model):
    """Of the plain model; of a shortened layer the closed form counts attention that is not computed."""
    batch = batch_of([20])
    counted = {}
    for name, lengths in (("plain", None), ("shortened", LengthConfig((12, 8, 5, 3)))):
        with (
            FlopCounterMode(display=False) as counter, torch.no_grad(),
            sdpa_kernel(SDPBackend.MATH),  # of a CPU's fused kernel it counts nothing
        ):  # fmt: skip
            model(**batch, lengths=lengths)
        counted[name] = counter.get_total_flops()
    config = model.config
    whole, part = (
        multiply_accumulates(lengths, 20, config.hidden_size, config.intermediate_size)
        for lengths in ((20,) * 4, (12, 8, 5, 3))
    )
    assert counted["plain"] == 2 * whole
    assert counted["shortened"] < 2 * part


def test_the_published_floor_of_the_search():
    assert published_floor(384, 6) == 91


def test_ratios_never_make_lengths_grow():
    assert chain(100, (1.0, 0.5, 1.0, 0.1), 7) == (100, 50, 50, 7)
    assert chain(5, (0.1, 0.9), 7) == (5, 5)


def test_uniform_configurations_are_spread_between_the_bounds():
    found = spread_uniform(384, 6, 20, 0.2, 2)
    means = [sum(lengths) for lengths in found]
    assert len(set(found)) == 20 and means == sorted(means)
    assert sum(uniform(384, 6, 0.2)) <= means[0] and means[-1] < 6 * 384


def test_shortened_sequences_are_those_of_the_encoder():
    tokens = np.array([384, 100, 3, 2, 1])
    config = LengthConfig((0.8, 0.5, 0.05))
    for layer, left in enumerate(shortened(config.lengths, tokens)):
        assert left.tolist() == config.kept(layer, torch.from_numpy(tokens)).tolist()
