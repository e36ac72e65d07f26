#!/usr/bin/env bash
# What each part of the method is worth: TinyBERT's Tables 2 to 4 for the 4-layer student, on any task.
#
#   ./ablation.sh --profile demo           on top of a finished ./reproduction.sh --profile demo
#   ./ablation.sh                          the same for the full profile
#   ./ablation.sh --tasks RTE,SST-2        other tasks than the profile's ABLATION_TASKS
#   ./ablation.sh --list                   the stages; --from and --only choose among them
#   ./ablation.sh --dry-run                every command, none run
#
# Options, profiles and the way commands are run, skipped and resumed are those of reproduction.sh. Its report
# is rewritten and shows the scores beside the published ones. To leave a part out yourself: --emb_weight 0,
# --att_weight 0, --rep_weight 0 and --layer_map top|bottom of general_distill.py and task_distill.py.

# The profile's *_FLAGS are lists of words.
# shellcheck disable=SC2086,SC2046
cd "$(dirname "${BASH_SOURCE[0]}")" || exit
source ./reproduction.sh

unset 'STAGES[-1]' # the report, which comes last
OWN_STAGES=(ablation_general ablation_task report)
STAGES+=("${OWN_STAGES[@]}")
ABOUT[ablation_general]="general distillation without one of its losses, and with other layer mappings"
ABOUT[ablation_task]="task distillation without one of its parts"
OWN_TASKS=ABLATION_TASKS # the profile's variable

# What is left out of general and of task distillation alike.
declare -A WITHOUT=(
  [no_emb]="--emb_weight 0"
  [no_att]="--att_weight 0"
  [no_hid]="--rep_weight 0"
  [no_trm]="--att_weight 0 --rep_weight 0"
  [top]="--layer_map top"
  [bottom]="--layer_map bottom"
)
VARIANTS=(no_emb no_att no_hid no_trm top bottom)

stage_ablation_general() {
  local variant
  for variant in "${VARIANTS[@]}"; do
    chain "$variant"
    general_distillation "$STUDENT_4L" "$MODELS/ablation_4l_$variant" $GENERAL_4L_FLAGS ${WITHOUT[$variant]}
  done
}

stage_ablation_task() {
  local task seed name data variant
  for task in $TASKS; do
    for seed in $SEEDS; do
      name=$(key "$task")$(seed_suffix "$seed")
      for variant in "${VARIANTS[@]}"; do
        chain "$variant-$name"
        task_distillation "$task" "$MODELS/ablation_4l_$variant" "tmp_ablation_4l_${variant}_$name" \
          "ablation_4l_${variant}_$name" "$seed" ${WITHOUT[$variant]}
      done
      chain "no_da-$name"
      AUGMENTED='' task_distillation "$task" "$MODELS/distilled_tinybert_4l" "tmp_ablation_4l_no_da_$name" \
        "ablation_4l_no_da_$name" "$seed"
      chain "no_td-$name"
      labels_alone "$task" distilled_tinybert_4l "ablation_4l_no_td_$name" "$seed" $LABELS_ONLY_FLAGS
      # The layers are distilled as ever; the classifier then learns the labels of the original rows.
      chain "no_pred-$name"
      labels_alone "$task" "tmp_distilled_tinybert_4l_$name" "ablation_4l_no_pred_$name" "$seed" \
        $(for_labels $PREDICTION_FLAGS)
    done
  done
}

for_labels() { # FLAG...: without what only learning from a teacher knows
  while (($#)); do
    case $1 in
      --temperature | --ce_reduction) shift ;;
      --temperature=* | --ce_reduction=* | --hard_labels | --teacher_dropout | --allow_weak_teacher) ;;
      *) printf '%s ' "$1" ;;
    esac
    shift
  done
}

labels_alone() { # TASK STUDENT MODEL SEED FLAG...
  train python finetune_teacher.py --data_dir "$DATA/glue_data/$1" --bert_model "$MODELS/$2" \
    --output_dir "$MODELS/$3" "${@:5}" $(seed_flag "$4")
  evaluation "$1" "$3"
}

preflight() { # STAGE...: what reproduction.sh has to have made before
  local task seed path
  MISSING=()
  check_packages torch numpy tqdm tokenizers safetensors
  [[ ${NEED_GPU:-no} == no ]] || check_gpu
  for path in "$DATA/json_wiki" "$MODELS/distilled_tinybert_4l"; do
    [[ -e $path ]] || missing "$path: run ./reproduction.sh --profile $PROFILE first"
  done
  for task in $TASKS; do
    for path in "$(teacher "$task")" "$DATA/glue_data/$task/train_aug.tsv"; do
      [[ -e $path ]] || missing "$path: run ./reproduction.sh --profile $PROFILE --tasks $task first"
    done
    for seed in $SEEDS; do
      path="$MODELS/tmp_distilled_tinybert_4l_$(key "$task")$(seed_suffix "$seed")"
      [[ -e $path ]] || missing "$path: run ./reproduction.sh --profile $PROFILE --seeds $seed first"
    done
  done
  say_what_is_missing
}

main "$@"
