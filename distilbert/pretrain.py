"""Pre-train a DistilBERT: masked language modelling with soft targets and hidden states of a BERT.

    python distilbert/pretrain.py
    python distilbert/pretrain.py --corpus data/wiki_for_bert.txt --teacher_model models/bert-base-uncased \\
        --init teacher --bf16

The loss is 5 · soft targets + 2 · masked words + 1 · cosine of the last hidden states (DistilBERT, section
3), over the tokens of windows that are packed full of documents. A tenth of the documents is for validation,
a tenth for a test at the end; both report the same quantity as the training. --losses seed takes the losses
as the re-implementation had them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import torch
from tqdm import tqdm

from cli.flags import add_init_flags, add_model_flags, add_training_flags, proportion, whole_number
from cli.help import script_parser
from cli.plan import show_plan
from cli.settings import batching_from, mention_ignored_flags, settings_from
from cli.siblings import add_workers_flag, limit_workers
from cli.training import (
    Training,
    check_start,
    load_tokenizer,
    open_pair,
    run_training,
)
from corpus.masking import CountedBatches
from corpus.packed import open_windows
from corpus.token_store import TokenStore
from distillation.checkpoint import ModelSaver
from distillation.distributed import start_runtime
from distillation.initialisation import spread_layers, take_layers
from distillation.objective import Objectives, Setup
from distillation.objectives.words import Triple, TripleLoss
from distillation.records import RunRecord
from distillation.training import prepare_teacher
from distillation.validation import mean_losses
from files.atomic import atomic_open, find_input
from files.errors import UserError, run_script
from files.progress import progress_bar
from transformer.configuration import EncoderConfig
from transformer.modeling import BertForMaskedLM
from transformer.precision import autocast
from transformer.tokenization import BertTokenizer
from transformer.weights import weights_checksum

TEACHER = ROOT / "models/bert-base-uncased"
TRANSFORM = "cls.predictions.transform."
TEST_NAME = "test_losses.json"


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = script_parser(__doc__)
    group = parser.add_argument_group("inputs and output")
    group.add_argument(
        "--corpus",
        default=str(ROOT / "data/wiki_for_bert.txt"),
        help="what prepare_data.py writes: a sentence a line, a blank line between documents",
    )
    group.add_argument(
        "--teacher_model",
        default=str(TEACHER),
        help="BERT with its masked-language-model head: folder, hub name or address",
    )
    group.add_argument(
        "--student_model",
        "--model",
        default=str(ROOT / "distilbert/config"),
        help="folder with the student's config.json; distilbert/config_seed has the re-implementation's",
    )
    group.add_argument(
        "--output_dir",
        default=str(ROOT / "checkpoints/distilbert_pretrain"),
        help="folder for the student",
    )
    group.add_argument(
        "--tokenized_dir",
        default=str(ROOT / "tokenized"),
        help="where the tokenised corpus is kept, for every run that reads it in the same way",
    )
    add_model_flags(group)
    group = parser.add_argument_group("student")
    add_init_flags(group)
    group.add_argument(
        "--vocab_transform",
        action="store_true",
        help="with --init teacher: take the layer below the vocabulary from its head as well",
    )
    group = parser.add_argument_group("losses")
    for name, short, weight, what in (
        ("--alpha_ce", "--alpha", 5.0, "soft targets"),
        ("--alpha_mlm", "--beta", 2.0, "masked words"),
        ("--alpha_cos", "--gamma", 1.0, "the cosine of hidden states"),
    ):
        group.add_argument(name, short, type=float, default=weight, help=f"weight of {what}")
    group.add_argument("--temperature", type=float, default=2.0, help="softens both distributions")
    group.add_argument(
        "--restrict_to_masked",
        action="store_true",
        help="take soft targets and cosine at masked positions alone",
    )
    group.add_argument(
        "--losses",
        dest="loss_form",
        choices=("paper", "seed"),
        default="paper",
        help="seed: cosine of all layers, each with the teacher's one too low; soft targets divided by "
        "sequences in place of tokens; padding counted",
    )
    group = parser.add_argument_group("data")
    group.add_argument(
        "--masked_lm_prob", "--mlm_prob", type=proportion, default=0.15, help="tokens to hide"
    )
    for split in ("validation", "test"):
        group.add_argument(
            f"--{split}_fraction", type=proportion, default=0.1, help=f"documents for {split}"
        )
    group.add_argument(
        "--eval_windows",
        type=whole_number,
        help="validate and test on so many windows (default: all)",
    )
    add_workers_flag(group, 16)
    add_training_flags(parser, learning_rate=5e-5, num_train_epochs=1, eval_step=None)
    parser.set_defaults(
        optimizer="adamw", schedule="constant", warmup_proportion=0.0, max_grad_norm=0.0, seed=1
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    check_choices(args)
    limit_workers(args)
    runtime = start_runtime(args.no_cuda, args.local_rank)
    settings = settings_from(args, "warmup_constant", runtime)
    mention_ignored_flags(args)
    corpus = find_input(args.corpus, "a corpus: prepare_data.py makes it of a dump or of text")
    check_start(args, settings, runtime, corpus)
    tokenizer, teacher_config, student_config = read_configs(args)
    with runtime.one_after_another():
        stores, facts = read_corpus(args, corpus, tokenizer, runtime.is_main)

    torch.manual_seed(args.seed)
    teacher = BertForMaskedLM.from_pretrained(args.teacher_model, cache_dir=args.cache_dir)
    teacher_weights = weights_checksum(teacher.state_dict())
    student, start = make_student(args, student_config, teacher)
    student.to(runtime.device)
    prepare_teacher(teacher.to(runtime.device), settings)
    losses = make_losses(args, student_config, teacher_config).to(runtime.device).attach(teacher)

    counted = {"paper": "tokens", "seed": "all"}[args.loss_form]
    options = {
        "tokenizer": tokenizer,
        "probability": args.masked_lm_prob,
        "packed": True,
        "counted": "masked" if args.restrict_to_masked else counted,
    }
    source = CountedBatches(
        [stores["train"]], **options, **batching_from(args, args.max_seq_length)
    )
    told = ", ".join(f"{split} {len(store):,}" for split, store in stores.items())
    plan = {"data": f"{corpus}: windows of {args.max_seq_length} tokens: {told}", "student": start}
    show_plan("pre-training DistilBERT", plan, args, student, source, settings, runtime)

    def losses_on(split: str) -> dict[str, dict[str, float]]:
        rows = [stores[split].first(args.eval_windows)]
        batches = CountedBatches(rows, args.eval_batch_size, args.seed, **options)
        context = autocast(settings.precision, runtime.device)
        return {split: mean_losses(losses, student, batches, runtime.device, context)}

    record = RunRecord(
        "distilbert", vars(args), task=None, student=args.student_model, teacher=args.teacher_model,
        teacher_weights=teacher_weights, output_dir=args.output_dir, data=facts, start=start,
        main_metric="loss",
    )  # fmt: skip
    scorer = partial(losses_on, "validation") if "validation" in stores else None
    run_training(
        Training(
            args, record, student, tokenizer, losses, source, settings, runtime,
            lambda folder: ModelSaver(
                student, folder, scorer, lambda metrics: -metrics["validation"]["loss"]
            ),
            scored=scorer is not None,
        )
    )  # fmt: skip
    if "test" in stores and runtime.is_main and not args.dry_run:
        test(args, student, losses_on)
    runtime.wait()
    return 0


def check_choices(args: argparse.Namespace) -> None:
    """Refuse flags that contradict each other, and numbers out of their range."""
    if args.init == "random":
        for name in ("layers", "vocab_transform"):
            if getattr(args, name):
                raise UserError(f"--{name}: is for --init teacher; add it, or leave --{name} out")
    if args.loss_form == "seed" and args.restrict_to_masked:
        raise UserError("--losses seed and --restrict_to_masked: give one of them")
    weights = {name: getattr(args, name) for name in ("alpha_ce", "alpha_mlm", "alpha_cos")}
    for name, weight in weights.items():
        if not 0 <= weight < float("inf"):
            raise UserError(f"--{name} {weight}: expected a number from 0")
    if not any(weights.values()):
        raise UserError("--alpha_ce, --alpha_mlm, --alpha_cos are all 0: nothing would be learned")
    if not 0 < args.temperature < float("inf"):
        raise UserError(f"--temperature {args.temperature}: expected a number above 0")
    if args.validation_fraction + args.test_fraction >= 1:
        raise UserError("--validation_fraction and --test_fraction: nothing is left to train on")


def read_configs(
    args: argparse.Namespace,
) -> tuple[BertTokenizer, EncoderConfig, EncoderConfig]:
    """The teacher's tokenizer, and the shapes of teacher and student.

    Raises:
        UserError: there is no such model (of the default it says what fetches it), or the two do not fit.
    """
    if args.teacher_model == str(TEACHER):
        find_input(TEACHER, "the teacher: get_bert_models.py fetches it")
    tokenizer = load_tokenizer(args, args.teacher_model)
    tokenizer.require_mask()
    teacher, student = open_pair(args, tokenizer, args.max_seq_length)
    if student.vocab_size != teacher.vocab_size:
        raise UserError(
            f"{args.student_model}: vocab_size {student.vocab_size}; expected the teacher's, "
            f"{teacher.vocab_size}"
        )
    return tokenizer, teacher, student


def read_corpus(
    args: argparse.Namespace, corpus: Path, tokenizer: BertTokenizer, shown: bool
) -> tuple[dict[str, TokenStore], dict[str, Any]]:
    """The windows of each split, and the facts of their making."""
    fractions = {"validation": args.validation_fraction, "test": args.test_fraction}
    with contextlib.ExitStack() as stack:

        @cache  # there is no bar where the corpus was tokenised before
        def bar() -> tqdm:
            size = corpus.stat().st_size
            return stack.enter_context(progress_bar(size, "B", "tokenising", disable=not shown))

        stores, facts = open_windows(
            corpus, tokenizer, args.max_seq_length, fractions, args.seed, Path(args.tokenized_dir),
            lambda done: bar().update(done),
        )  # fmt: skip
    common = {"path": str(corpus), "sha256": facts["sha256"]}
    return stores, {
        split: common | {"rows": len(store)} | facts["splits"][split]
        for split, store in stores.items()
    }


def make_losses(
    args: argparse.Namespace, student: EncoderConfig, teacher: EncoderConfig
) -> Objectives:
    """The triple loss: of the last hidden states, or with `--losses seed` of all layers'."""
    last = student.num_hidden_layers, teacher.num_hidden_layers
    pairs: tuple[tuple[int, int], ...] = (last,)
    if args.loss_form == "seed":
        step = max((last[1] + 1) // last[0], 1)
        pairs = tuple((k, step * (k - 1)) for k in range(1, last[0] + 1))
    triple = Triple(
        args.alpha_ce,
        args.alpha_mlm,
        args.alpha_cos,
        args.temperature,
        pairs,
        args.loss_form == "seed",
    )
    return Objectives([(TripleLoss(Setup(student, teacher), triple), 1.0)])


def make_student(
    args: argparse.Namespace, config: EncoderConfig, teacher: BertForMaskedLM
) -> tuple[BertForMaskedLM, str]:
    """The student, and in words what it starts from."""
    student = BertForMaskedLM.from_scratch(config)
    if args.init == "random":
        return student, "random weights"
    depths = config.num_hidden_layers, teacher.config.num_hidden_layers
    layers = args.layers or spread_layers(*depths)
    take_layers(student, teacher, layers, () if args.vocab_transform else (TRANSFORM,))
    return student, f"the teacher's layers {','.join(map(str, layers))}"


def test(args: argparse.Namespace, student: BertForMaskedLM, losses_on) -> None:
    """Say what the best student loses on documents that nothing was chosen by."""
    folder = Path(args.output_dir)
    best = BertForMaskedLM.from_pretrained(folder)
    student.load_state_dict(best.state_dict())
    losses = losses_on("test")
    with atomic_open(folder / TEST_NAME) as file:
        json.dump(losses, file, indent=1)
    told = ", ".join(f"{name} {value:.4f}" for name, value in losses["test"].items())
    print(f"test: {told}", file=sys.stderr)


if __name__ == "__main__":
    run_script(main)
