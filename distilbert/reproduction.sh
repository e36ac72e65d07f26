#!/usr/bin/env bash
# DistilBERT: pre-training, fine-tuning with the cross grid, direct distillation, labels alone, and a comparison.
#
#   distilbert/reproduction.sh                   the published run, on Wikipedia and the five tasks
#   distilbert/reproduction.sh --profile demo    the same on embedded data: six minutes after make demo, twelve without
#   distilbert/reproduction.sh --list            the stages; --from and --only choose among them
#   distilbert/reproduction.sh --dry-run         every command, none run
#   distilbert/reproduction.sh --seeds 1,2,3     fine-tuning and direct distillation with these seeds too
#   distilbert/reproduction.sh --only distilbert_ablation   the paper's ablation
#
# Options, profiles and the way commands are run, skipped and resumed are those of reproduction.sh, whose first
# stages this begins with: what it has finished is not repeated.

# The profile's *_FLAGS are lists of words.
# shellcheck disable=SC2086,SC2046,SC2153
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit
source ./reproduction.sh

STAGES=(environment glue wiki models distilbert_inputs distilbert distilbert_report)
OWN_STAGES=("${STAGES[@]}")
STAGES+=(distilbert_ablation) # runs when it is asked for
ABOUT[distilbert_inputs]="what the tasks of DISTILBERT_TASKS need besides: data, and a fine-tuned BERT"
ABOUT[distilbert]="pre-training and fine-tuning; direct distillation; the same student on labels alone"
ABOUT[distilbert_ablation]="the paper's ablation: without each of the losses, and from random weights"
ABOUT[distilbert_report]="a table and a picture of what each scored"
DOES[distilbert/pretrain.py]="pre-training"
DOES[distilbert/finetune.py]="fine-tuning on every task"
DOES[distilbert/direct_distil.py]="distilling directly"
DOES[distilbert/report.py]="comparing"

stage_distilbert_inputs() {
  local task name
  for name in DISTILBERT_{TASKS,STUDENT,PRETRAIN_FLAGS,FINETUNE_FLAGS,DIRECT_FLAGS}; do
    [[ -v $name ]] || fail_usage "profile $PROFILE: no $name; profiles/full.env and demo.env have every name"
  done
  if [[ $INPUTS == demo ]]; then
    makes "$MODELS/distilbert_config"
    needs "$MODELS/bert-base-config"
    run python -m demo.make --stage distilbert --output_dir "$MODELS"
    makes "$DATA/glue_data/QQP"
    run python -m demo.make --stage qqp --output_dir "$DATA" $GLUE_FLAGS
    barrier
  fi
  for task in $DISTILBERT_TASKS; do
    [[ " $TASKS " == *" $task "* ]] && continue
    chain "$(key "$task")"
    if [[ $INPUTS == demo ]]; then
      train python finetune_teacher.py --data_dir "$DATA/glue_data/$task" --bert_model "$MODELS/bert-base-uncased" \
        --output_dir "$MODELS/bert-base-uncased-$(key "$task")" $DOWNLOADED_FLAGS
    else
      makes "$DATA/glue_data/$task"
      fetch python download_glue.py --data_dir "$DATA/glue_data" --tasks "$(download_name "$task")"
      makes "$MODELS/bert-base-uncased-$(key "$task")"
      fetch python get_bert_models.py --output_dir "$MODELS" --tasks "$task"
    fi
  done
}

download_name() { printf '%s' "${1%%-*}"; } # download_glue.py calls SST-2 and STS-B SST and STS

# Three ways to a student of one shape.
stage_distilbert() {
  local seed tasks=${DISTILBERT_TASKS// /,} common
  common="--glue_dir $DATA/glue_data --tasks $tasks"
  chain pretrain
  needs "$DATA/wiki_for_bert.txt" "$MODELS/bert-base-uncased"
  train python distilbert/pretrain.py --corpus "$DATA/wiki_for_bert.txt" --teacher_model "$MODELS/bert-base-uncased" \
    --student_model "$DISTILBERT_STUDENT" --tokenized_dir "$DATA/tokenized" \
    --output_dir "$MODELS/distilbert_pretrain" $DISTILBERT_PRETRAIN_FLAGS
  for seed in $SEEDS; do
    train python distilbert/finetune.py --student_model "$MODELS/distilbert_pretrain" $common \
      --output_dir "$MODELS/distilbert_finetuned$(seed_suffix "$seed")" --seed "$seed" $DISTILBERT_FINETUNE_FLAGS
  done
  for seed in $SEEDS; do
    chain "direct-$seed"
    needs "$MODELS/bert-base-uncased"
    train python distilbert/direct_distil.py --student_model "$DISTILBERT_STUDENT" $common \
      --teacher_model "$MODELS/bert-base-uncased-{task}" --seed "$seed" \
      --output_dir "$MODELS/distilbert_direct$(seed_suffix "$seed")" $DISTILBERT_DIRECT_FLAGS
    chain "labels-$seed"
    train python distilbert/direct_distil.py --student_model "$DISTILBERT_STUDENT" $common \
      --teacher_model "$MODELS/bert-base-uncased-{task}" --seed "$seed" --alpha_soft 0 --alpha_cos 0 \
      --output_dir "$MODELS/distilbert_labels$(seed_suffix "$seed")" $DISTILBERT_DIRECT_FLAGS
  done
}

stage_distilbert_report() {
  local seed kind folders=()
  for kind in finetuned direct labels; do
    for seed in $SEEDS; do folders+=("$kind=$MODELS/distilbert_$kind$(seed_suffix "$seed")"); done
  done
  needs "${folders[@]#*=}"
  makes "$RESULTS/distilbert"
  run python distilbert/report.py --runs "${folders[@]}" --output_dir "$RESULTS/distilbert"
}

# Change of the GLUE score in the paper: -2.96, -1.46, -0.31, -3.69.
declare -A ABLATED=(
  [full]="--init teacher"
  [no_ce]="--init teacher --alpha_ce 0"
  [no_cos]="--init teacher --alpha_cos 0"
  [no_mlm]="--init teacher --alpha_mlm 0"
  [random]=""
)

stage_distilbert_ablation() {
  local name folders=()
  for name in full no_ce no_cos no_mlm random; do
    chain "$name"
    needs "$DATA/wiki_for_bert.txt" "$MODELS/bert-base-uncased"
    train python distilbert/pretrain.py --corpus "$DATA/wiki_for_bert.txt" --teacher_model "$MODELS/bert-base-uncased" \
      --student_model "$DISTILBERT_STUDENT" --tokenized_dir "$DATA/tokenized" \
      --output_dir "$MODELS/ablation_distilbert_$name" $DISTILBERT_PRETRAIN_FLAGS ${ABLATED[$name]}
    train python distilbert/finetune.py --student_model "$MODELS/ablation_distilbert_$name" \
      --glue_dir "$DATA/glue_data" --tasks "${DISTILBERT_TASKS// /,}" \
      --output_dir "$MODELS/ablation_distilbert_${name}_finetuned" $DISTILBERT_FINETUNE_FLAGS
    folders+=("$name=$MODELS/ablation_distilbert_${name}_finetuned")
  done
  barrier
  needs "${folders[@]#*=}"
  makes "$RESULTS/distilbert_ablation"
  run python distilbert/report.py --runs "${folders[@]}" --output_dir "$RESULTS/distilbert_ablation"
}

usage() { sed -n '2,/^$/s/^# \{0,1\}//p' distilbert/reproduction.sh; }

main "$@"
