"""Masked language modelling on pregenerated text: a language-model head for an encoder that has none.

    python pretrain_mlm.py --pregenerated_data data/json_wiki --bert_model models/encoder \\
        --output_dir models/encoder-mlm --train_batch_size 32 --learning_rate 1e-4 --num_train_epochs 1

data_augmentation.py needs a model whose head was really trained. 15 % of the tokens are hidden again in
every epoch (BERT, section 3.1); the next-sentence objective is left out.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace

import torch

from cli.flags import add_model_flags, add_training_flags, proportion
from cli.help import script_parser
from cli.plan import show_plan
from cli.settings import batching_from, mention_ignored_flags, settings_from
from cli.training import (
    Training,
    check_length,
    check_start,
    check_vocabulary,
    load_tokenizer,
    run_training,
)
from corpus.epochs import available_epochs, corpus_facts, open_epoch, start_check
from corpus.masking import MaskedBatches
from distillation.checkpoint import ModelSaver
from distillation.distributed import start_runtime
from distillation.objectives import masked_language_modelling
from distillation.records import RunRecord
from files.atomic import find_input
from files.errors import UserError, run_script
from transformer.loading import read_config
from transformer.modeling import BertForMaskedLM


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = script_parser(__doc__)
    group = parser.add_argument_group("inputs and output")
    group.add_argument(
        "--pregenerated_data",
        "--data_dir",
        required=True,
        help="folder written by pregenerate_training_data.py with nothing masked",
    )
    group.add_argument(
        "--bert_model",
        "--model",
        required=True,
        help="the encoder: folder, hub name or address",
    )
    group.add_argument("--output_dir", required=True, help="folder for the trained model")
    group.add_argument(
        "--from_scratch",
        action="store_true",
        help="start from fresh weights: --bert_model needs config.json and vocab.txt",
    )
    add_model_flags(group)
    group = parser.add_argument_group("masking")
    group.add_argument(
        "--masked_lm_prob", type=proportion, default=0.15, help="fraction of the tokens to hide"
    )
    add_training_flags(
        parser,
        learning_rate=1e-4,
        num_train_epochs=1,
        eval_step=1000,
        on_corpus=True,
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    runtime = start_runtime(args.no_cuda, args.local_rank)
    # A recording serves one number of masked places, and that differs from batch to batch.
    settings = replace(settings_from(args, "warmup_linear", runtime), recorded=False)
    mention_ignored_flags(args)
    data = find_input(args.pregenerated_data, "the output of pregenerate_training_data.py")
    check_start(args, settings, runtime, data)
    config = read_config(args.bert_model, args.cache_dir)
    tokenizer = load_tokenizer(args, args.bert_model)
    check_vocabulary(tokenizer, config, args.bert_model, args.cache_dir)
    tokenizer.require_mask()
    with runtime.one_after_another():  # the published format is turned into arrays once
        epochs = [open_epoch(data, i, tokenizer) for i in range(available_epochs(data))]
    length = max(epoch.max_seq_len for epoch in epochs)
    check_length(config, length, args.bert_model, f"{data}: sequences of up to")
    if any(epoch.masked for epoch in epochs):
        raise UserError(f"{data}: its tokens are masked already; make it with --masked_lm_prob 0")

    checked = start_check(data, epochs) if runtime.is_main else None
    torch.manual_seed(args.seed)
    if args.from_scratch:
        model = BertForMaskedLM.from_scratch(config)
    else:
        fresh = ("cls.predictions.", "bert.pooler.")
        model = BertForMaskedLM.from_pretrained(args.bert_model, fresh, args.cache_dir)
    model.to(runtime.device).bert.pooler.requires_grad_(False)

    source = MaskedBatches(
        [epoch.store for epoch in epochs],
        tokenizer=tokenizer,
        probability=args.masked_lm_prob,
        **batching_from(args, length),
    )
    rows = f"{data}: {len(epochs)} epochs, {len(epochs[0].store):,} sequences in the first"
    show_plan("masked language modelling", {"data": rows}, args, model, source, settings, runtime)

    record = RunRecord(
        "mlm",
        vars(args),
        task=None,
        student=args.bert_model,
        teacher=None,
        output_dir=args.output_dir,
        data={"train": corpus_facts(data, epochs)},
        main_metric=None,
    )
    run_training(
        Training(
            args, record, model, tokenizer, masked_language_modelling, source, settings, runtime,
            lambda folder: ModelSaver(model, folder, check=checked),
            scored=False,
        )
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    run_script(main)
