"""Rows of the table that prepare data: augmentation, features, pregeneration."""

from __future__ import annotations

import statistics
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

import data_augmentation
import prepare_data
from benchmarks.bench import Bench
from benchmarks.figures import Figure, Target
from benchmarks.measure import Program, alternate, run_program, timed
from benchmarks.reference import MaskedLanguageModel
from benchmarks.shapes import masked_word_macs
from corpus.batches import StoreBatches
from corpus.epochs import available_epochs, open_epoch
from corpus.sentences import make_splitter, train_punkt
from corpus.token_store import TokenStore
from tasks.feature_cache import cached_split
from tasks.glue import find_task
from tasks.sentence_words import Sentence, SentenceSplitter

MEGABYTE = 1e6
SHORT_RUNS = (
    "augmentation: runs of one to three seconds, in which a GPU still meets most shapes of a batch for the "
    "first time, which may be why bfloat16 gains nothing in them; published is the CPU's rate, not scaled, "
    "and so no measure of the GPU: plain is"
)


def augmentation(bench: Bench) -> list[Figure]:
    """Data augmentation of SST-2 and RTE: the whole command, less one on a single row."""
    vectors = bench.work.vectors()
    figures = []
    for task, rows, published, targets in (
        ("SST-2", bench.sizes.augmented[0], 1.87, (2.5, 5)),
        ("RTE", bench.sizes.augmented[1], 0.25, (1.8, 4)),
    ):
        many = bench.work.glue(f"augment-{task}", task, rows, 1)
        one = bench.work.glue(f"augment-{task}-one", task, 1, 1)
        sides = bench.work.texts(task, rows)
        work = SentenceWork(bench, [text for side in sides for text in side])
        for precision, value in zip(("fp32", "bf16"), targets, strict=True):
            library = "oneDNN" * (bench.on_cpu and precision == "fp32")
            # A GPU is asked for 30 times a CPU's rate.
            target = Target("published", value if bench.on_cpu else 30, library=library)
            if precision == "bf16" and not bench.bf16:
                figures.append(figures[-1].without_bf16(target))
                continue
            arguments = [
                "--pretrained_bert_model", bench.work.bert, "--glove_embs", vectors,
                "--task_name", task, "--batch_size", bench.sizes.wide_batch, *bench.flags(precision),
            ]  # fmt: skip

            def command(folder: Path, arguments: list = arguments) -> None:
                bench.run(data_augmentation.main, [*arguments, "--glue_dir", folder])

            jobs = {"start": lambda: command(one), "whole": lambda: command(many)}  # noqa: B023
            if precision == "fp32":
                jobs["reference"] = work.plainly
            ceiling = bench.ceiling()
            seconds = {
                name: statistics.median(taken)
                for name, taken in alternate(
                    jobs, ceiling, max(1, bench.sizes.repeats - 1), warmups=0
                ).items()
            }
            if precision == "fp32":
                plain_rate = work.plain_rate(seconds["reference"])
            figures.append(
                bench.figure(
                    row="augmentation",
                    job=f"augmentation, {task}, {work.passes:.1f} masked passes a sentence of "
                    f"{work.length:.0f} tokens, {precision}",
                    unit="sentences/s",
                    ours=len(sides) * (rows - 1) / max(seconds["whole"] - seconds["start"], 1e-3),
                    samples=max(1, bench.sizes.repeats - 1), ceiling=ceiling.rates(),
                    precision=precision, gflop=work.gflop, published=published,
                    published_scales=bench.on_cpu, target=target,
                    reference=plain_rate,
                    reference_is="transformers, eager, fp32, one mask at a time",
                    note="" if bench.on_cpu else SHORT_RUNS,
                )
            )  # fmt: skip
    return figures


class SentenceWork:
    """What augmenting some sentences means in arithmetic, and a plain loop over a few of them.

    Attributes:
        gflop, passes: of a sentence, on average.
        length: of a masked pass, on average.
    """

    def __init__(self, bench: Bench, texts: list[str]) -> None:
        self.tokenizer, config = bench.work.tokenizer, bench.sizes.teacher
        splitter = SentenceSplitter(self.tokenizer, config.max_length)
        self.sentences = [splitter(text) for text in texts]
        lengths = [
            min(2 * len(sentence.ids) + 3, config.max_length)
            for sentence in self.sentences
            for _ in sentence.masked
        ]
        self.passes = len(lengths) / len(texts)
        self.length = statistics.mean(lengths)
        work = [2e-9 * masked_word_macs(config, length) for length in lengths]
        self.gflop = sum(work) / len(texts)
        # The plain loop takes a few passes of about the mean length; its rate is by work.
        self.nearest = sorted(
            (sentence for sentence in self.sentences if sentence.masked),
            key=lambda sentence: abs(2 * len(sentence.ids) + 3 - self.length),
        )[:3]
        self.plain_gflop = sum(
            2e-9 * masked_word_macs(config, min(2 * len(s.ids) + 3, config.max_length))
            for s in self.nearest
            for _ in s.masked[:4]
        )
        self.model = MaskedLanguageModel(config, bench.device)

    def plainly(self) -> None:
        """The few passes, one at a time."""
        for sentence in self.nearest:
            for _, place in sentence.masked[:4]:
                self.model.likeliest(*self._inputs(sentence, place), place, 15)

    def _inputs(self, sentence: Sentence, place: int) -> tuple[torch.Tensor, torch.Tensor]:
        tokens, tokenizer = sentence.ids.tolist(), self.tokenizer
        ids = [tokenizer.cls_id, *tokens, tokenizer.sep_id, *tokens, tokenizer.sep_id]
        ids[place] = tokenizer.mask_id
        segments = [0] * (len(tokens) + 2) + [1] * (len(tokens) + 1)
        return torch.tensor([ids]), torch.tensor([segments])

    def plain_rate(self, seconds: float) -> float:
        """Sentences a second, if all took as long for their work as those few."""
        return self.plain_gflop / seconds / self.gflop


def features(bench: Bench) -> list[Figure]:
    """Reading and tokenising a training set as long as RTE's."""
    import transformers

    task, rows = find_task("RTE"), bench.sizes.feature_rows
    folder = bench.work.glue("features", "RTE", rows, 1) / "RTE"
    theirs = transformers.AutoTokenizer.from_pretrained(bench.work.bert, use_fast=True)

    def plainly() -> None:
        lines = (folder / "train.tsv").read_text(encoding="utf-8").splitlines()[1:]
        fields = [line.split("\t") for line in lines]
        theirs(
            [row[1] for row in fields], [row[2] for row in fields],
            truncation=True, max_length=128, padding="max_length",
        )  # fmt: skip

    ceiling = bench.ceiling()
    jobs = {
        # In a new folder each time: nothing is there yet.
        "ours": lambda: cached_split(
            bench.new_folder(), task, folder, "train", bench.work.tokenizer, 128
        ),
        "reference": plainly,
    }
    seconds = alternate(jobs, ceiling, bench.sizes.repeats)
    return [
        bench.figure(
            row="features", job=f"features of {rows:,} RTE rows", unit="s",
            ours=statistics.median(seconds["ours"]), samples=bench.sizes.repeats,
            ceiling=ceiling.rates(), reference=statistics.median(seconds["reference"]),
            reference_is="transformers' fast tokenizer, padded to 128", published=3.8,
            target=Target("published", 10),
        )
    ]  # fmt: skip


def preparation(bench: Bench) -> list[Figure]:
    """Splitting a corpus into sentences: the command less one on a third, beside Punkt by itself."""
    import nltk
    from nltk.tokenize.punkt import save_punkt_params

    folder, workers = bench.new_folder(), torch.get_num_threads()
    (folder / "english").mkdir(parents=True)
    corpus = bench.work.corpus("prepared", bench.sizes.prepared_tokens).read_text(encoding="utf-8")
    # A sentence begins with a capital letter, as Punkt expects; a document is a line.
    documents = [
        " ".join(line.capitalize() for line in text.splitlines()) for text in corpus.split("\n\n")
    ]
    # As many workers have been started when a third is done.
    third = len(documents) // 3
    texts = {"start": documents[:third], "ours": documents}
    for name, part in texts.items():
        (folder / f"{name}.txt").write_text("\n\n".join(part) + "\n", encoding="utf-8")
    parameters = train_punkt(documents[:200])
    nltk.data.path.insert(0, str(folder))  # it writes nowhere else
    save_punkt_params(parameters, str(folder / "english"))

    def command(name: str) -> None:
        bench.run(
            prepare_data.main,
            ["--input", folder / f"{name}.txt", "--output", folder / f"{name}.out",
             "--punkt_dir", folder, "--num_workers", workers],
        )  # fmt: skip

    shares = [documents[third + i :: workers] for i in range(workers)]
    with ProcessPoolExecutor(
        workers, get_context("spawn"), initializer=_start_punkt, initargs=(parameters,)
    ) as pool:
        list(pool.map(_punkt, [documents[:1]] * 4 * workers))  # they are up
        ceiling = bench.ceiling()
        seconds = {
            name: statistics.median(taken)
            for name, taken in alternate(
                {
                    "start": lambda: command("start"),
                    "ours": lambda: command("ours"),
                    "reference": lambda: list(pool.map(_punkt, shares)),
                },
                ceiling, bench.sizes.repeats, warmups=0,
            ).items()
        }  # fmt: skip
    sizes = {name: (folder / f"{name}.txt").stat().st_size / MEGABYTE for name in texts}
    megabytes = sizes["ours"] - sizes["start"]
    return [
        bench.figure(
            row="preparation", job=f"sentences of a corpus, {workers} processes", unit="MB/s",
            ours=megabytes / max(seconds["ours"] - seconds["start"], 1e-3),
            samples=bench.sizes.repeats, ceiling=ceiling.rates(),
            reference=megabytes / seconds["reference"],
            reference_is="Punkt by itself, in as many processes", target=Target("plain", 0.8),
        )
    ]  # fmt: skip


def _start_punkt(parameters: object) -> None:
    global _splitter
    _splitter = make_splitter(parameters)


def _punkt(documents: list[str]) -> None:
    for document in documents:
        _splitter.tokenize(document)


def pregeneration(bench: Bench) -> list[Figure]:
    """Making the pairs of general distillation: whole commands of one and of three epochs."""
    corpus = bench.work.corpus("corpus", bench.sizes.corpus_tokens)
    workers = str(torch.get_num_threads())
    programs: dict[int, list[Program]] = {1: [], 3: []}
    folders: dict[int, Path] = {}

    def command(epochs: int) -> None:
        folders[epochs] = bench.new_folder()
        words = [
            "pregenerate_training_data.py", "--train_corpus", corpus, "--do_lower_case",
            "--bert_model", bench.work.bert, "--output_dir", folders[epochs],
            "--epochs_to_generate", str(epochs), "--num_workers", workers,
        ]  # fmt: skip
        programs[epochs].append(run_program(words, bench.folder))

    def tokenize() -> None:
        for start in range(0, len(lines), 20_000):
            rust.encode_batch_fast(lines[start : start + 20_000])

    lines = corpus.read_text(encoding="utf-8").splitlines()
    rust = _rust_tokenizer(bench.work.bert)
    jobs = {
        "one": lambda: command(1),
        "reference": tokenize,
        "three": lambda: command(3),
    }
    ceiling = bench.ceiling()
    seconds = alternate(jobs, ceiling, max(1, bench.sizes.repeats - 1), warmups=0)
    tokens = {epochs: _tokens(bench, folder) for epochs, folder in folders.items()}
    size = sum(file.stat().st_size for file in folders[1].iterdir())
    shared = {
        "row": "pregeneration", "ceiling": ceiling.rates(), "samples": len(programs[1]),
    }  # fmt: skip
    rates = [
        bench.figure(
            **shared, job=f"pregeneration, {epochs} epoch{'s' * (epochs > 1)}", unit="tokens/s",
            ours=tokens[epochs] / statistics.median(p.seconds for p in programs[epochs]),
            reference=tokens[1] / statistics.median(seconds["reference"]),
            reference_is="tokenizing alone, once, the Rust library's own batches",
            published=130e3, target=Target("published", target),
        )
        for epochs, target in ((1, 5), (3, 8))
    ]  # fmt: skip
    peak = max(program.peak_bytes for epochs in programs.values() for program in epochs)
    return [
        *rates,
        bench.figure(
            **shared, job="pregeneration, on disk", unit="bytes a token", ours=size / tokens[1],
            published=12.2, published_scales=False, target=Target("limit", 2.2),
        ),
        bench.figure(
            **shared, job="pregeneration, largest process", unit="MB", ours=peak / MEGABYTE,
            target=Target("limit", 500),
        ),
        *_readiness(bench, folders[3], shared),
    ]  # fmt: skip


def _rust_tokenizer(model: Path):
    from tokenizers import BertWordPieceTokenizer

    return BertWordPieceTokenizer(str(model / "vocab.txt"), lowercase=True)._tokenizer


def _tokens(bench: Bench, folder: Path) -> int:
    epochs = range(available_epochs(folder))
    return sum(len(open_epoch(folder, i, bench.work.tokenizer).store.tokens) for i in epochs)


def _readiness(bench: Bench, folder: Path, shared: dict) -> list[Figure]:
    """How long general distillation waits for its data before its first step."""

    def first_batch() -> int:
        opened = range(available_epochs(folder))
        stores = [open_epoch(folder, i, bench.work.tokenizer).store for i in opened]
        return _collate_first(stores, bench.sizes.batch)

    count = bench.sizes.full_sequences
    generator = np.random.default_rng(0)
    lengths = np.where(generator.random(count) < 0.9, 128, generator.integers(5, 129, size=count))
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    tokens = np.broadcast_to(np.uint16(7), (int(offsets[-1]),))  # takes no memory
    whole = TokenStore(tokens, offsets, np.full(count, 3, np.uint16))
    found = []
    for name, work in (
        (f"three epochs of {bench.sizes.corpus_tokens:,} tokens", first_batch),
        (f"an epoch of {count:,} sequences", lambda: _collate_first([whole], bench.sizes.batch)),
    ):
        seconds = [timed(work, bench.device)[0] for _ in range(bench.sizes.repeats)]
        found.append(
            bench.figure(
                **shared | {"samples": len(seconds)}, job=f"general distillation's data ready, {name}",
                unit="s", ours=statistics.median(seconds), target=Target("limit", 1.0),
            )
        )  # fmt: skip
    return found


def _collate_first(stores: list[TokenStore], batch: int) -> int:
    source = StoreBatches(stores, batch, seed=42)
    rows = source.plan(0)[0]
    return len(source.collate(0, rows, source.width(0, rows)))
