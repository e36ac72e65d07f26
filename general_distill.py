"""General distillation: a small BERT learns a large one's inner life on plain text (TinyBERT, section 3.2).

    python general_distill.py --pregenerated_data data/json_wiki --teacher_model models/bert-base-uncased \\
        --student_model tinybert_4l_config --output_dir models/distilled_tinybert_4l \\
        --do_lower_case --reduce_memory --train_batch_size 64 --eval_step 10000

The student matches the teacher's attention scores, embedding output and hidden states. It starts from fresh
weights, or from those in --student_model with --continue_train.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial

import torch

from cli.flags import add_drop_flags, add_model_flags, add_training_flags
from cli.help import script_parser
from cli.objectives import add_layer_flags, layer_objectives, mapping_from
from cli.plan import show_plan
from cli.settings import (
    advising_drops,
    batching_from,
    dropped_parts,
    mention_ignored_flags,
    settings_from,
)
from cli.training import (
    Training,
    check_start,
    load_tokenizer,
    open_pair,
    run_training,
)
from corpus.batches import StoreBatches
from corpus.epochs import available_epochs, corpus_facts, open_epoch, start_check
from distillation.checkpoint import ModelSaver
from distillation.distributed import start_runtime
from distillation.objective import Setup
from distillation.records import RunRecord
from distillation.training import prepare_teacher
from files.atomic import find_input
from files.errors import UserError, run_script
from transformer.modeling import BertModel, TinyBertForPreTraining
from transformer.weights import weights_checksum


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = script_parser(__doc__)
    group = parser.add_argument_group("inputs and output")
    group.add_argument(
        "--pregenerated_data",
        "--data_dir",
        required=True,
        help="folder written by pregenerate_training_data.py, in either format",
    )
    group.add_argument(
        "--teacher_model",
        required=True,
        help="BERT that was not fine-tuned: folder, hub name or address",
    )
    group.add_argument(
        "--student_model",
        "--model",
        required=True,
        help="folder with the student's config.json (and weights with --continue_train)",
    )
    group.add_argument("--output_dir", required=True, help="folder for the student")
    group.add_argument(
        "--continue_train",
        action="store_true",
        help="start from the student's weights instead of fresh ones",
    )
    add_drop_flags(group, head=False)
    add_model_flags(group)
    group = parser.add_argument_group("distillation")
    add_layer_flags(group)
    ignored = add_training_flags(
        parser,
        eval_batch_size=8,
        eval_step=1000,
        on_corpus=True,
    )
    ignored.add_argument(
        "--reduce_memory", action="store_true", help="data are always memory-mapped"
    )
    ignored.add_argument("--do_eval", action="store_true", help="there is nothing to evaluate on")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    runtime = start_runtime(args.no_cuda, args.local_rank)
    settings = settings_from(args, "warmup_linear", runtime)
    mention_ignored_flags(args)
    data = find_input(args.pregenerated_data, "the output of pregenerate_training_data.py")
    check_start(args, settings, runtime, data)
    tokenizer = load_tokenizer(args, args.student_model, args.teacher_model)
    with runtime.one_after_another():  # the published format is turned into arrays once
        epochs = [open_epoch(data, i, tokenizer) for i in range(available_epochs(data))]
    length = max(epoch.max_seq_len for epoch in epochs)

    asker = f"{data}: sequences of up to"
    teacher_config, student_config = open_pair(args, tokenizer, length, asker)
    mapping = mapping_from(args, student_config, teacher_config)
    torch.manual_seed(args.seed)
    objectives = layer_objectives(
        args, Setup(student_config, teacher_config, mapping, compiled=settings.compiled)
    )
    if objectives.reads:
        raise UserError("--objectives: expected objectives of layers; this student has no logits")

    checked = start_check(data, epochs) if runtime.is_main else None
    torch.manual_seed(args.seed)
    teacher = BertModel.from_pretrained(args.teacher_model, cache_dir=args.cache_dir)
    teacher_weights = weights_checksum(teacher.state_dict())
    prepare_teacher(teacher.to(runtime.device), settings, args.teacher_dropout)
    shape = {"fit_size": teacher_config.hidden_size}
    if args.continue_train:
        with advising_drops():
            student = TinyBertForPreTraining.from_pretrained(
                args.student_model, None, args.cache_dir, dropped_parts(args), **shape
            )
    else:
        student = TinyBertForPreTraining.from_scratch(student_config, **shape)
    student.to(runtime.device)
    # The pre-training heads and the pooler travel with the checkpoint; no objective here reads them.
    student.cls.requires_grad_(False)
    student.bert.pooler.requires_grad_(False)

    source = StoreBatches([epoch.store for epoch in epochs], **batching_from(args, length))
    rows = f"{data}: {len(epochs)} epochs, {len(epochs[0].store):,} sequences in the first"
    facts = {"data": rows, "layers": mapping.table()}
    show_plan("general distillation", facts, args, student, source, settings, runtime)

    # Nothing reads the teacher's pooled vector, nor layers above the last one mapped.
    objectives.to(runtime.device).attach(partial(teacher, pool=False))
    record = RunRecord(
        "general",
        vars(args),
        task=None,
        student=args.student_model,
        teacher=args.teacher_model,
        teacher_weights=teacher_weights,
        output_dir=args.output_dir,
        mapping=mapping._asdict(),
        data={"train": corpus_facts(data, epochs)},
        main_metric=None,
    )
    run_training(
        Training(
            args, record, student, tokenizer, objectives, source, settings, runtime,
            lambda folder: ModelSaver(student, folder, keep_steps=True, check=checked),
            scored=False,
        )
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    run_script(main)
