"""Make the demo's inputs in seconds: what the full profile downloads, from a small synthetic language.

    python -m demo.make --stage wiki   --output_dir runs/demo/data
    python -m demo.make --stage glue   --output_dir runs/demo/data
    python -m demo.make --stage glove  --output_dir runs/demo/data
    python -m demo.make --stage models --output_dir runs/demo/models
    python -m demo.make --stage qqp    --output_dir runs/demo/data           with distilbert, for make
    python -m demo.make --stage distilbert --output_dir runs/demo/models     demo-distilbert
    python -m demo.make --stage squad  --output_dir runs/demo/data           for make demo-squad
    python -m demo.make --stage own    --output_dir runs/demo/data           a task of one's own

Each stage runs alone. The same seed and sizes give the same bytes.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from cli.help import script_parser
from demo import corpus, glue, lexicon, models, vectors
from demo.language import sentence
from demo.own_task import write_own_task
from demo.questions import write_questions
from files.errors import UserError, run_script

DUMP_NAME = "enwiki-demo-pages-articles-multistream.xml.bz2"
VECTORS_NAME = "glove.demo.txt"


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = script_parser(__doc__)
    parser.prog = "python -m demo.make"
    parser.add_argument(
        "--stage",
        choices=("wiki", "glue", "glove", "models", "qqp", "distilbert", "squad", "own"),
        required=True,
        help="a MediaWiki dump; four GLUE tasks; word vectors; vocabulary and configurations; a fifth task; "
        "a DistilBERT's configuration; questions about stories; a task of one's own",
    )
    parser.add_argument("--output_dir", type=Path, required=True, help="folder to write into")
    parser.add_argument("--seed", type=int, default=42, help="random seed")
    sizes = parser.add_argument_group("sizes")
    sizes.add_argument("--articles", type=int, default=2000, help="articles of the corpus")
    sizes.add_argument(
        "--train_scale", type=float, default=1.0, help="times the usual number of training rows"
    )
    sizes.add_argument("--dev_size", type=int, default=400, help="rows of each dev set")
    sizes.add_argument("--test_size", type=int, default=100, help="rows of each test set")
    sizes.add_argument("--vocab_size", type=int, default=900, help="tokens of the vocabulary")
    sizes.add_argument("--vector_width", type=int, default=50, help="numbers of a word vector")
    args = parser.parse_args(argv)
    for name in ("articles", "train_scale", "dev_size", "test_size", "vocab_size", "vector_width"):
        if getattr(args, name) <= 0:
            raise UserError(f"--{name} {getattr(args, name)}: expected a number above 0")
    return args


def corpus_sentences(args: argparse.Namespace) -> Iterator[tuple[str, ...]]:
    """The words of every sentence of the corpus, in order."""
    for article in corpus.articles(args.seed, args.articles):
        for _, sentences in article.sections:
            yield from sentences


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    if args.stage == "wiki":
        path = args.output_dir / DUMP_NAME
        count = corpus.write_dump(path, args.seed, args.articles)
        print(f"{path}: {args.articles} articles, {count} sentences")
    elif args.stage in ("glue", "qqp"):
        folder = args.output_dir / "glue_data"
        tasks = glue.TASKS if args.stage == "glue" else glue.QUESTIONS
        sizes = glue.write_tasks(
            folder, args.seed, args.train_scale, args.dev_size, args.test_size, tasks
        )
        for name, rows in sizes.items():
            print(f"{folder / name}: " + ", ".join(f"{split} {n}" for split, n in rows.items()))
    elif args.stage == "glove":
        path = args.output_dir / VECTORS_NAME
        words = sorted(lexicon.ALL_WORDS)
        vectors.write_vectors(path, corpus_sentences(args), words, args.vector_width)
        print(f"{path}: {len(words)} words, {args.vector_width} numbers each")
    elif args.stage == "distilbert":
        print(models.write_distilbert(args.output_dir))
    elif args.stage == "squad":
        folder = args.output_dir / "squad"
        stories = {"train": int(900 * args.train_scale), "dev": max(args.dev_size // 4, 2)}
        counts = write_questions(folder, args.seed, stories)
        print(f"{folder}: " + ", ".join(f"{split} {n}" for split, n in counts.items()))
    elif args.stage == "own":
        folder = args.output_dir / "subjects"
        rows = {"train": int(1500 * args.train_scale), "dev": args.dev_size, "test": args.test_size}
        write_own_task(folder, args.seed, rows)
        print(f"{folder}: " + ", ".join(f"{split} {n}" for split, n in rows.items()))
    else:
        texts = (sentence(words) for words in corpus_sentences(args))
        vocabulary = models.learn_vocabulary(texts, args.vocab_size)
        models.write_models(args.output_dir, vocabulary)
        print(f"{args.output_dir}: {', '.join(models.SHAPES)}; {len(vocabulary)} tokens")
    return 0


if __name__ == "__main__":
    run_script(main)
