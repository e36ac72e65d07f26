"""What the benchmarks run on: models of the right shapes with random weights, and made-up text.

The text consists of invented words, drawn with the frequencies of a natural language (Zipf's law);
sentences of a GLUE task are as long as the task's own, in tokens, with as many words that augmentation
asks about. Nothing is downloaded.
"""

from __future__ import annotations

import itertools
import json
import string
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from benchmarks.lengths import load_lengths, spread
from tasks.classifiers import label_names
from tasks.glue import find_task
from tasks.sentence_words import STOP_WORDS
from transformer.configuration import BertConfig
from transformer.file_utils import VOCAB_NAME
from transformer.modeling import (
    BertForPreTraining,
    BertPreTrainedModel,
    TinyBertForPreTraining,
    TinyBertForSequenceClassification,
)
from transformer.tokenization import BertTokenizer

COMMON = sorted(word for word in STOP_WORDS if word.isalpha())
# No invented word holds a q, every continuation token begins with one: a word's tokens are then those it
# was made of, whatever the tokenizer tries first.
LETTERS = string.ascii_lowercase.replace("q", "")
ENDINGS = ["q" + first + second for first in LETTERS for second in LETTERS]
MARKS = [*string.punctuation, *string.digits]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


@dataclass(frozen=True)
class Sizes:
    """How large a run of the benchmarks is.

    Attributes:
        teacher, student, student_6l: their shapes.
        batch, length: of training; augmentation has batches of `wide_batch`.
        general_batches: of general distillation, the first being `batch`.
        compiled: whether general distillation is measured with --compile as well, in the largest of them.
        steps: of general distillation that are timed.
        task_steps: SST-2 and RTE, intermediate layers.
        task_rows: at most so many, over and over.
        prediction_rows, eval_rows: SST-2.
        augmented: sentences of SST-2, rows of RTE (two sentences each).
        feature_rows: RTE.
        prepared_tokens: of a corpus that is split into sentences.
        corpus_tokens: of pregeneration.
        repeats: of what is measured whole.
        full_sequences: sequences in an epoch whose order is drawn, as many as Wikipedia gives.
    """

    teacher: BertConfig
    student: BertConfig
    student_6l: BertConfig
    batch: int
    general_batches: tuple[int, ...]
    compiled: bool
    length: int
    wide_batch: int
    steps: int
    task_steps: tuple[int, int]
    task_rows: int
    prediction_rows: int
    eval_rows: int
    augmented: tuple[int, int]
    feature_rows: int
    prepared_tokens: int
    corpus_tokens: int
    repeats: int
    full_sequences: int


CPU = Sizes(
    teacher=BertConfig(),
    student=BertConfig(num_hidden_layers=4, hidden_size=312, intermediate_size=1200),
    student_6l=BertConfig(num_hidden_layers=6),
    batch=32, general_batches=(32,), compiled=False, length=128, wide_batch=64, steps=5,
    task_steps=(16, 8), task_rows=512, prediction_rows=800, eval_rows=872,
    augmented=(120, 6), feature_rows=10_000, prepared_tokens=12_000_000, corpus_tokens=8_000_000,
    repeats=3, full_sequences=34_000_000,
)  # fmt: skip
GPU = replace(
    CPU, general_batches=(32, 256), compiled=True, wide_batch=512, steps=40, task_steps=(1200, 600),
    task_rows=9600, prediction_rows=32_000, eval_rows=8720, augmented=(1500, 80), repeats=2,
)  # fmt: skip
_TINY = {"vocab_size": 3000, "num_attention_heads": 2, "max_position_embeddings": 160}
QUICK = Sizes(
    teacher=BertConfig(**_TINY, num_hidden_layers=4, hidden_size=16, intermediate_size=32),
    student=BertConfig(**_TINY, num_hidden_layers=2, hidden_size=8, intermediate_size=16),
    student_6l=BertConfig(**_TINY, num_hidden_layers=2, hidden_size=16, intermediate_size=32),
    batch=4, general_batches=(4,), compiled=False, length=32, wide_batch=8, steps=3, task_steps=(4, 4),
    task_rows=16, prediction_rows=12, eval_rows=16, augmented=(3, 2), feature_rows=20,
    prepared_tokens=3000, corpus_tokens=6000, repeats=1, full_sequences=1000,
)  # fmt: skip


class Words:
    """An invented language over a vocabulary of a given size."""

    def __init__(self, vocab_size: int) -> None:
        fixed = [*SPECIAL, *MARKS, *string.ascii_lowercase]
        fixed += [f"##{letter}" for letter in string.ascii_lowercase]
        fixed += [word for word in COMMON if len(word) > 1]
        endings = ENDINGS[: max(8, vocab_size // 60)]
        room = vocab_size - len(fixed) - len(endings)
        self.whole = [*itertools.islice(_invented_words(), room)]
        self.vocabulary = [*fixed, *(f"##{ending}" for ending in endings), *self.whole]
        generator = np.random.default_rng(1)
        generator.shuffle(self.whole)
        self.compound = {
            tokens: [
                stem + "".join(generator.choice(endings, tokens - 1)) for stem in self.whole[:2000]
            ]
            for tokens in (2, 3, 4)
        }

    def sentence(self, tokens: int, counts: dict, generator: np.random.Generator) -> str:
        """A sentence of so many tokens, with a task's shares of words that augmentation replaces."""
        words: list[str] = []
        left = tokens
        for _ in range(generator.binomial(tokens, counts["compound"])):
            size = min(2 + generator.binomial(2, (counts["compound_pieces"] - 2) / 2), left)
            if size > 1:
                words.append(self.compound[size][generator.integers(len(self.compound[size]))])
                left -= size
        masked = min(left, generator.binomial(tokens, counts["masked"]))
        words += [self.whole[i] for i in generator.integers(len(self.whole), size=masked)]
        words += [COMMON[i] for i in generator.integers(len(COMMON), size=left - masked)]
        generator.shuffle(words)
        return " ".join(words)

    def corpus(self, tokens: int, sentences_per_document: int, seed: int) -> list[list[str]]:
        """Documents of about so many tokens together: half common words, one word in twelve compound."""
        generator = np.random.default_rng(seed)
        count = int(tokens / 1.2)  # of words; the full stop and the compound words make up the rest
        pools = (COMMON, self.whole, self.compound[2], self.compound[3])
        kinds = generator.choice(4, size=count, p=(0.47, 0.45, 0.06, 0.02))
        words = np.empty(count, dtype=object)
        for kind, pool in enumerate(pools):
            places = np.flatnonzero(kinds == kind)
            shares = 1 / np.arange(3, len(pool) + 3)
            drawn = generator.choice(len(pool), size=len(places), p=shares / shares.sum())
            words[places] = np.array(pool, dtype=object)[drawn]
        sizes = generator.lognormal(2.9, 0.5, size=count // 4).astype(np.int64) + 3
        ends = np.cumsum(sizes)
        ends = ends[: np.searchsorted(ends, count)]
        starts = [0, *ends.tolist()]
        sentences = [" ".join(words[a:b]) + " ." for a, b in itertools.pairwise(starts)]
        step = sentences_per_document
        return [sentences[i : i + step] for i in range(0, len(sentences), step)]


def _invented_words() -> Iterator[str]:
    """Words of two syllables, then of three: 10,000 and a million."""
    vowels = "aeiou"
    syllables = [a + b for a in LETTERS if a not in vowels for b in vowels]
    for count in (2, 3):
        words = map("".join, itertools.product(syllables, repeat=count))
        yield from (word for word in words if word not in STOP_WORDS)


class Workspace:
    """A folder in which models and data appear when they are asked for."""

    def __init__(self, folder: Path, sizes: Sizes) -> None:
        self.folder, self.sizes = folder, sizes

    @cached_property
    def words(self) -> Words:
        """The language of the texts."""
        return Words(self.sizes.teacher.vocab_size)

    @cached_property
    def tokenizer(self) -> BertTokenizer:
        """The tokenizer of every model here."""
        return BertTokenizer.from_pretrained(self.bert)

    @cached_property
    def bert(self) -> Path:
        """The teacher of general distillation, which is the language model of augmentation too."""
        model = BertForPreTraining(self.sizes.teacher)
        # Real BERT's favourites stand out; those of fresh weights would be computed again as too close.
        with torch.no_grad():
            model.bert.embeddings.word_embeddings.weight.mul_(8)
        return self._write("bert", model)

    @cached_property
    def student_config(self) -> Path:
        """A student's config.json alone."""
        folder = self.folder / "student_config"
        folder.mkdir()
        self.sizes.student.to_json_file(folder / "config.json", "BertForPreTraining")
        return folder

    @cached_property
    def distilbert_config(self) -> Path:
        """The config.json of a DistilBERT as deep and wide as the 6-layer student."""
        folder = self.folder / "distilbert_config"
        folder.mkdir()
        shape = replace(self.sizes.student_6l, model_type="distilbert")
        shape.to_json_file(folder / "config.json", "DistilBertForMaskedLM")
        return folder

    @cached_property
    def general_student(self) -> Path:
        """The student as general distillation leaves it."""
        shape = {"fit_size": self.sizes.teacher.hidden_size}
        model = TinyBertForPreTraining.from_scratch(self.sizes.student, **shape)
        return self._write("general_student", model)

    def classifier(self, which: str, task: str) -> Path:
        """A classifier for a task: `which` is `teacher` or `student`."""
        folder = self.folder / f"{which}-{task}"
        if not folder.exists():
            config = self.sizes.teacher if which == "teacher" else self.sizes.student
            labels = label_names(find_task(task))
            model = TinyBertForSequenceClassification.from_scratch(config, id2label=labels)
            self._write(folder.name, model)
        return folder

    def _write(self, name: str, model: BertPreTrainedModel) -> Path:
        folder = self.folder / name
        model.save_pretrained(folder)
        (folder / VOCAB_NAME).write_text("\n".join(self.words.vocabulary) + "\n", encoding="utf-8")
        settings = {"do_lower_case": True, "model_max_length": 512}
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
        return folder

    def corpus(self, name: str, tokens: int, sentences_per_document: int = 25) -> Path:
        """A corpus, one sentence a line and a blank line between documents."""
        path = self.folder / f"{name}.txt"
        documents = self.words.corpus(tokens, sentences_per_document, seed=len(name))
        path.write_text("\n\n".join(map("\n".join, documents)) + "\n", encoding="utf-8")
        return path

    def texts(self, task: str, rows: int, split: str = "train") -> list[list[str]]:
        """For each sentence of a row, `rows` texts as long as the task's, in random order."""
        counts = load_lengths(task)
        generator = np.random.default_rng(2)
        sides = []
        for histogram in counts["sides" if split == "train" else f"{split}_sides"]:
            lengths = generator.permutation(spread(histogram, rows))
            sides.append([self.words.sentence(int(n), counts, generator) for n in lengths])
        return sides

    def glue(self, name: str, task: str, train_rows: int, dev_rows: int) -> Path:
        """A folder NAME/TASK with train.tsv and dev.tsv in the layout of GLUE; returns NAME."""
        folder = self.folder / name / task
        folder.mkdir(parents=True)
        labels = find_task(task).labels
        for split, rows in (("train", train_rows), ("dev", dev_rows)):
            lines = ["sentence\tlabel" if task == "SST-2" else "index\tsentence1\tsentence2\tlabel"]
            for row, texts in enumerate(zip(*self.texts(task, rows, split), strict=True)):
                first = [] if task == "SST-2" else [str(row)]
                lines.append("\t".join([*first, *texts, labels[row % len(labels)]]))
            (folder / f"{split}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        return folder.parent

    def vectors(self) -> Path:
        """Word vectors of the compound words, in GloVe's format."""
        path = self.folder / "vectors.txt"
        generator = np.random.default_rng(3)
        with path.open("w", encoding="utf-8") as file:
            for word in itertools.chain.from_iterable(self.words.compound.values()):
                numbers = " ".join(f"{number:.4f}" for number in generator.normal(size=50))
                file.write(f"{word} {numbers}\n")
        return path
