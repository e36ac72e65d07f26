#!/usr/bin/env bash
# Dynamic-TinyBERT: a teacher on SQuAD, its layers, its predictions, LengthDrop in two forms, and the search.
#
#   dynamic_tinybert/reproduction.sh                   the published steps, on SQUAD_DIR
#   dynamic_tinybert/reproduction.sh --profile demo    the same on embedded questions
#   dynamic_tinybert/reproduction.sh --list            the stages; --from and --only choose among them
#   dynamic_tinybert/reproduction.sh --dry-run         every command, none run
#   dynamic_tinybert/reproduction.sh --seeds 42,43,44  the student with these seeds too
#
# Options, profiles and the way commands are run, skipped and resumed are those of reproduction.sh.

# The profile's *_FLAGS are lists of words.
# shellcheck disable=SC2086,SC2046,SC2153
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit
source ./reproduction.sh

STAGES=(environment squad_wiki squad_models squad squad_search squad_report)
OWN_STAGES=("${STAGES[@]}")
ABOUT[squad_wiki]="a corpus; of the demo alone"
ABOUT[squad_models]="BERT, the general student, and of the demo the questions"
ABOUT[squad]="teacher, intermediate and prediction distillation, LengthDrop as here and as the original has it"
ABOUT[squad_search]="length configurations of every student"
ABOUT[squad_report]="a table of what each scored"
DOES[dynamic_tinybert/run_squad.py]="answering questions"
DOES[dynamic_tinybert/report.py]="comparing"

stage_squad_wiki() {
  [[ $INPUTS == demo ]] && stage_wiki
  return 0
}

stage_squad_models() {
  local name
  for name in SQUAD_{DIR,GENERAL,FLAGS,TEACHER_FLAGS,INTERMEDIATE_FLAGS,PREDICTION_FLAGS,LENGTH_DROP_FLAGS,SEARCH_FLAGS}; do
    [[ -v $name ]] || fail_usage "profile $PROFILE: no $name; profiles/full.env and demo.env have every name"
  done
  if [[ $INPUTS != demo ]]; then
    makes "$MODELS/bert-base-uncased"
    fetch python get_bert_models.py --output_dir "$MODELS" --tasks base
    return
  fi
  demo_bert
  makes "$SQUAD_DIR"
  run python -m demo.make --stage squad --output_dir "$DATA" $SQUAD_DATA_FLAGS
  run python tinybert_6_from_bert.py --source "$MODELS/bert-base-uncased" --keep_layers 0,2,4 --output_dir "$SQUAD_GENERAL"
}

squad() { # OUTPUT FROM FLAG...
  needs "$SQUAD_DIR"
  train python dynamic_tinybert/run_squad.py --data_dir "$SQUAD_DIR" --do_train --evaluate_during_training \
    --save_only_best --do_lower_case --output_dir "$MODELS/$1" --model_name_or_path "$2" $SQUAD_FLAGS "${@:3}"
}

stage_squad() {
  local seed name from
  name=squad_teacher
  squad $name "$MODELS/bert-base-uncased" $SQUAD_TEACHER_FLAGS
  barrier
  from="--teacher_model_name_or_path $MODELS/squad_teacher/checkpoint-best"
  needs "$MODELS/squad_teacher"
  for seed in $SEEDS; do
    name=$(seed_suffix "$seed")
    chain "squad-$seed"
    needs "$SQUAD_GENERAL" "$MODELS/squad_teacher"
    squad "squad_intermediate$name" "$SQUAD_GENERAL" $from --state_loss_ratio 1.0 --att_loss_ratio 1.0 --att_mse \
      --seed "$seed" $SQUAD_INTERMEDIATE_FLAGS
    needs "$MODELS/squad_intermediate$name"
    squad "squad_dynamic$name" "$MODELS/squad_intermediate$name/checkpoint-last" $from --pred_distill --seed "$seed" \
      $SQUAD_PREDICTION_FLAGS
    needs "$MODELS/squad_dynamic$name"
    squad "squad_length_drop$name" "$MODELS/squad_dynamic$name/checkpoint-best" $from --pred_distill --length_adaptive \
      --seed "$seed" $SQUAD_LENGTH_DROP_FLAGS
    needs "$MODELS/squad_dynamic$name"
    squad "squad_length_drop_original$name" "$MODELS/squad_dynamic$name/checkpoint-best" $from --pred_distill \
      --length_adaptive --inplace_kl reverse --layer_dropout_everywhere --seed "$seed" $SQUAD_LENGTH_DROP_FLAGS
  done
  barrier
}

KINDS="dynamic length_drop length_drop_original"

stage_squad_search() {
  local seed kind name
  for seed in $SEEDS; do
    for kind in $KINDS; do
      name=$kind$(seed_suffix "$seed")
      chain "search-$seed"
      needs "$MODELS/squad_$name" "$SQUAD_DIR"
      run python dynamic_tinybert/run_squad.py --data_dir "$SQUAD_DIR" --do_lower_case --do_optuna_search \
        --model_name_or_path "$MODELS/squad_$name/checkpoint-best" --output_dir "$RESULTS/squad_search_$name" \
        $SQUAD_FLAGS $SQUAD_SEARCH_FLAGS
    done
  done
  barrier
}

stage_squad_report() {
  local seed kind name students=()
  for kind in $KINDS; do
    for seed in $SEEDS; do
      name=$kind$(seed_suffix "$seed")
      needs "$RESULTS/squad_search_$name"
      students+=("$kind=$MODELS/squad_$name,$RESULTS/squad_search_$name")
    done
  done
  needs "$MODELS/squad_teacher"
  run python dynamic_tinybert/report.py --teacher "$MODELS/squad_teacher" --students "${students[@]}" \
    --output_dir "$RESULTS/squad"
}

usage() { sed -n '2,/^$/s/^# \{0,1\}//p' dynamic_tinybert/reproduction.sh; }

main "$@"
