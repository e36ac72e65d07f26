"""The example's words: dump, articles, sentences, token arrays, augmentation."""

from __future__ import annotations

import bz2
import html
import json
import re

import numpy as np
import torch

from corpus.epochs import CorpusEpoch, open_epoch
from data_augmentation import language_model
from demo.make import VECTORS_NAME
from demo.walkthrough.page import agreed, table
from demo.walkthrough.run import DemoRun
from files.errors import UserError
from tasks.augmentation import Augmenter, augmented_rows
from tasks.likely_tokens import likely_tokens
from tasks.sentence_words import Sentence, replacement_tokens
from tasks.task import open_rows
from tasks.word_vectors import WordVectors, nearest_words, read_word_vectors
from transformer.modeling import BertForMaskedLM

_SHOWN = 5  # candidates shown with their probabilities or cosines
_SETTINGS = re.compile(r"N=(\d+) M=(\d+) p=([\d.]+) seed=(\d+)")


def corpus_facts(run: DemoRun) -> dict[str, str]:
    """One sentence from the dump to the token arrays."""
    data = run.folder / "data"
    article = first_article(run)
    source = page_of(run, article["title"])
    corpus = (data / "wiki_for_bert.txt").read_text(encoding="utf-8").splitlines()
    epoch = open_epoch(data / "json_wiki", 0, run.tokenizer)
    sentence, row = followed_sentence(run, article["text"], source, corpus, epoch)
    line = corpus.index(sentence)
    store = epoch.store
    ids = store.tokens[store.offsets[row] : store.offsets[row + 1]].tolist()
    facts = json.loads((data / "json_wiki/epoch_0_metrics.json").read_text(encoding="utf-8"))
    arrays = {
        "tokens": (store.tokens, "all sequences, end to end"),
        "offsets": (store.offsets, "sequence i is `tokens[offsets[i]:offsets[i+1]]`"),
        "boundaries": (store.boundaries, "where its second segment begins"),
        "is_random_next": (epoch.is_random_next, "1: the second segment is from another document"),
    }
    return {
        "wiki_command": run.command("wiki", "demo.make"),
        "dump_page": source,
        "extract_command": run.command("wiki", "wikiextractor.WikiExtractor"),
        "article": json.dumps(article, ensure_ascii=False),
        "prepare_command": run.command("wiki", "prepare_data.py"),
        "prepare_said": run.log("wiki").strip().splitlines()[-1],
        "corpus_first": str(max(line - 1, 0) + 1),
        "corpus_lines": "\n".join(corpus[max(line - 1, 0) : line + 3]),
        "corpus_line": str(line + 1),
        "sentence": sentence,
        "pregenerate_command": run.command("pregenerate", "pregenerate_training_data.py"),
        "arrays": table(
            ("file", "dtype", "shape", "holds"),
            (
                (f"`epoch_0.{name}.npy`", array.dtype, f"[{len(array):,}]", holds)
                for name, (array, holds) in arrays.items()
            ),
        ),
        "examples": f"{facts['num_training_examples']:,}",
        "tokens": f"{facts['num_tokens']:,}",
        "corpus_row": str(row),
        "row_offsets": f"{store.offsets[row]} and {store.offsets[row + 1]}",
        "row_ids": str(ids),
        "row_tokens": " ".join(run.tokenizer.ids_to_tokens[i] for i in ids),
        "row_boundary": str(store.boundaries[row]),
        "row_random": str(epoch.is_random_next[row]),
        "token_bytes": str(store.tokens.dtype.itemsize),
    }


def first_article(run: DemoRun) -> dict[str, str]:
    """The first article with a text, as WikiExtractor wrote it."""
    for path in sorted((run.folder / "data" / "extracted_wiki").glob("*/wiki_*")):
        for line in path.read_text(encoding="utf-8").splitlines():
            article = json.loads(line)
            if article["text"].strip():
                return article
    raise UserError(f"{run.folder}/data/extracted_wiki: no article with a text")


def page_of(run: DemoRun, title: str) -> str:
    """The text of a page as it stands in the dump."""
    with bz2.open(run.dump, "rt", encoding="utf-8") as file:
        dump = file.read()
    page = dump[dump.index(f"<title>{html.escape(title, quote=False)}</title>") :]
    return html.unescape(re.search(r"<text[^>]*>(.*?)</text>", page, re.DOTALL)[1])


def followed_sentence(
    run: DemoRun, text: str, source: str, corpus: list[str], epoch: CorpusEpoch
) -> tuple[str, int]:
    """A sentence of the article and the first sequence of the epoch that holds all of it.

    One that the extraction had to free of markup is preferred.
    """
    tokens = epoch.store.tokens
    held = []
    for sentence in corpus[: corpus.index("")]:
        if sentence not in text:
            raise UserError(f"{sentence!r}: not in the article it should come from")
        ids = run.tokenizer.encode_flat([sentence])[0].astype(tokens.dtype)
        place = _position(tokens, ids)
        if place is not None:
            row = int(np.searchsorted(epoch.store.offsets, place, side="right")) - 1
            held.append((sentence, row))
    if not held:
        raise UserError("no sentence of the first article stands whole in the first epoch")
    return next((found for found in held if found[0] not in source), held[0])


def _position(tokens: np.ndarray, ids: np.ndarray) -> int | None:
    """Where `ids` first stand in `tokens`."""
    for start in np.flatnonzero(tokens[: len(tokens) - len(ids) + 1] == ids[0]):
        if (tokens[start : start + len(ids)] == ids).all():
            return int(start)
    return None


def augmentation_facts(run: DemoRun) -> dict[str, str]:
    """The places, the candidates, and the rows made of the example."""
    log = run.log(f"augment-{run.task.key}")
    draws, count, probability, seed = (float(v) for v in _SETTINGS.search(log).groups())
    count = int(count)
    model = BertForMaskedLM.from_pretrained(run.models / "bert-base-uncased")
    allowed = replacement_tokens(run.tokenizer)
    vectors = read_word_vectors(run.folder / "data" / VECTORS_NAME)
    sentences = {text: run.splitter(text) for text in run.texts(run.row)}
    predict = language_model(model, allowed, bf16=False)

    def likely(asked):
        length = model.config.max_length
        return likely_tokens(asked, predict, run.tokenizer, count, 64, length)

    compounds = {s.words[index] for s in sentences.values() for index in s.compound}
    neighbours = nearest_words(vectors, compounds, count)
    augmenter = Augmenter(
        run.splitter, run.tokenizer.ids_to_tokens, likely, neighbours, int(draws), probability,
        int(seed), window=1,
    )  # fmt: skip
    sides = [run.train.text_a] + ([run.train.text_b] if run.task.pair else [])
    (variants,) = augmenter.variants(sides, range(run.row, run.row + 1))
    first = next(s for s in sentences.values() if s.masked)
    index, place = first.masked[0]
    return {
        "augment_command": run.command(f"augment-{run.task.key}", "data_augmentation.py"),
        "augment_said": log.strip().splitlines()[-1].split("/")[-1],
        "settings": f"N = {draws:g}, M = {count}, p = {probability:g}, seed {seed:g}",
        "M": str(count),
        "p": f"{probability:g}",
        "words": table(
            ("sentence", "asked of the language model", "asked of the word vectors", "left alone"),
            (word_row(text, sentence) for text, sentence in sentences.items()),
        ),
        "masked_word": first.words[index],
        "masked_input": masked_input(run, first, place),
        "candidates": table(
            ("word", f"first {_SHOWN} of {count}, with the probability", "the rest"),
            model_rows(run, model, allowed, first, likely([first])[0]),
        ),
        "neighbours": neighbour_table(vectors, neighbours),
        "augmented": "\n".join(rows_made(run, variants)),
    }


def word_row(text: str, sentence: Sentence) -> tuple[str, ...]:
    """Which words of a sentence may be replaced, and by whom."""
    asked = [index for index, _ in sentence.masked]
    left = set(range(len(sentence.words))) - {*asked, *sentence.compound}
    groups = (asked, sentence.compound, sorted(left))
    named = (", ".join(sentence.words[i] for i in group) or "–" for group in groups)
    return text, *named


def masked_input(run: DemoRun, sentence: Sentence, place: int) -> str:
    """[CLS] masked sentence [SEP] sentence [SEP], in tokens."""
    tokens = [run.tokenizer.ids_to_tokens[i] for i in sentence.ids]
    masked = [*tokens[: place - 1], "[MASK]", *tokens[place:]]
    return " ".join(["[CLS]", *masked, "[SEP]", *tokens, "[SEP]"])


def model_rows(run: DemoRun, model, allowed: np.ndarray, sentence: Sentence, found: np.ndarray):
    """The candidates of each masked word, computed a second time with nothing left out.

    Raises:
        ArithmeticError: the program's are others.
    """
    tokens = run.tokenizer.ids_to_tokens
    for (index, place), ours in zip(sentence.masked, found, strict=True):
        read = masked_input(run, sentence, place).split(" ")
        ids = torch.tensor([[run.tokenizer.vocab[token] for token in read]])
        segments = (torch.arange(ids.shape[1]) >= len(sentence.ids) + 2).long()[None]
        with torch.no_grad():
            odds = model(ids, segments).output[0, place].double().softmax(0).numpy()
        best = np.argsort(-np.where(allowed, odds, -1))[: len(ours)]
        if set(best.tolist()) != set(ours.tolist()):
            raise ArithmeticError(f"{sentence.words[index]}: other candidates than the program's")
        shown = ", ".join(f"{tokens[i]} {odds[i]:.3f}" for i in best[:_SHOWN])
        yield sentence.words[index], shown, ", ".join(tokens[i] for i in best[_SHOWN:])


def neighbour_table(vectors: WordVectors, neighbours: dict[str, list[str]]) -> str:
    """The nearest words of each word of several tokens, by the cosine written out."""
    rows = []
    for word, near in sorted(neighbours.items()):
        own = vectors.matrix[vectors.rows[word]].astype(np.float64)
        cosines = {
            other: float(vectors.matrix[vectors.rows[other]] @ own) for other in vectors.words
        }
        del cosines[word]
        best = sorted(cosines, key=lambda other: -cosines[other])[: len(near)]
        # Nearly equal ones may change places.
        agreed(f"nearest to {word}", sum(map(cosines.get, near)), sum(map(cosines.get, best)))
        shown = ", ".join(f"{other} {cosines[other]:.3f}" for other in best[:_SHOWN])
        rows.append((word, shown, ", ".join(best[_SHOWN:])))
    if not rows:
        return "This row has no word of several tokens with a vector."
    return table(("word", f"first {_SHOWN}, with the cosine", "the rest"), rows)


def rows_made(run: DemoRun, variants: list[list[str]]) -> list[str]:
    """The example's lines of train_aug.tsv, once they have been found to be those drawn here.

    Raises:
        ArithmeticError: the file holds others.
    """
    _, layout, rows = open_rows(run.task, run.glue, "train")
    columns = [column for column in layout.columns[:2] if column is not None]
    fields = [fields for _, fields in rows][run.row]
    made = ["\t".join(row) for row in augmented_rows(fields, columns, variants)]
    written = (run.glue / "train_aug.tsv").read_text(encoding="utf-8").split("\n")
    start = written.index(made[0])
    if written[start : start + len(made)] != made:
        raise ArithmeticError(f"{run.glue}/train_aug.tsv: other rows than those drawn again")
    return made
