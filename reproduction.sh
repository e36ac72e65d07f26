#!/usr/bin/env bash
# The whole reproduction, extension included: every stage of the README in order, resumable.
#
#   ./reproduction.sh                      the published run (profiles/full.env), about a week on an RTX 4090
#   ./reproduction.sh --profile demo       the same on embedded data, eleven minutes on two CPU cores
#   ./reproduction.sh --list               the stages
#   ./reproduction.sh --dry-run            every command, none run; and the hours, where the GPU is known
#   ./reproduction.sh --status             how far a run is, or how it ended
#   ./reproduction.sh --from general       that stage and those after it
#   ./reproduction.sh --only teachers --tasks RTE,CoLA
#   ./reproduction.sh --seeds 1,2,3        task distillation with these seeds too, beside the profile's
#   ./reproduction.sh --only report --force   what was finished is done again
#   ./reproduction.sh --gpus 4             general distillation and augmentation over all, a task on each
#
# A profile is a short file of settings; copy one to change sizes, tasks or seeds. Each command has its log in the
# profile's RESULTS/logs. What finished is not repeated, what was interrupted is resumed. Several GPUs, and what
# fits into how much memory: docs/hardware.md.

# Each stage function lists its commands with `run`; reproduction_engine.sh runs them.

# The profile's *_FLAGS are lists of words, and its names are not assigned here.
# shellcheck disable=SC2086,SC2046,SC2153,SC2016,SC1090

set -euo pipefail
((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] >= 404)) || { echo "error: bash 4.4 or newer is needed" >&2; exit 2; }
CALLED_FROM=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")"
source ./reproduction_engine.sh

STAGES=(environment glove glue wiki models pregenerate general augment teachers task_4l task_6l smart_init report)
declare -A ABOUT=(
  [environment]="folders, and a record of the machine and the versions"
  [glove]="word vectors, for augmentation"
  [glue]="the tasks' data"
  [wiki]="a Wikipedia dump as one sentence a line"
  [models]="BERT-base and a fine-tuned BERT for each task"
  [pregenerate]="the corpus as training sequences"
  [general]="general distillation of the 4- and the 6-layer student"
  [augment]="data augmentation of each task"
  [teachers]="the final teachers, and their dev scores"
  [task_4l]="task distillation of the 4-layer student, and two students without one half of it"
  [task_6l]="task distillation of the 6-layer student"
  [smart_init]="6-layer students that start from the teacher's own layers, with and without distillation"
  [report]="the report: tables and figures on one page"
)
DOES=( # of several in a command the last counts
  [mkdir]="making folders"
  [environment]="noting machine and versions"
  [demo.make]="making embedded data"
  [download_file.py]="downloading"
  [download_glue.py]="downloading GLUE"
  [get_bert_models.py]="downloading models"
  [wikiextractor.WikiExtractor]="extracting the dump"
  [prepare_data.py]="finding sentences"
  [pregenerate_training_data.py]="making sentence pairs"
  [pretrain_mlm.py]="masked language modelling"
  [general_distill.py]="general distillation"
  [data_augmentation.py]="augmenting"
  [fix_teacher_layers.py]="giving weights their names"
  [finetune_teacher.py]="fine-tuning"
  [tinybert_6_from_bert.py]="keeping some of the layers"
  [task_distill.py]="distilling the layers"
  [--pred_distill]="distilling the predictions"
  [--do_eval]="scoring"
  [report.py]="drawing the report"
)

# ------------------------------------------------------------------------------------------------ inputs

stage_environment() {
  run mkdir -p "$DATA" "$MODELS" "$RESULTS"
  always bash -c 'python -W ignore -m torch.utils.collect_env >"$1"' environment "$RESULTS/environment.txt"
}

GLOVE_URL=https://nlp.stanford.edu/data/glove.840B.300d.zip

stage_glove() {
  if [[ $INPUTS == demo ]]; then
    makes "$GLOVE"
    run python -m demo.make --stage glove --output_dir "$DATA"
    return
  fi
  # In place of the published wget and unzip: resumable, checked, and a vectors file that is there is a whole one.
  makes "$GLOVE"
  fetch python download_file.py "$GLOVE_URL" --output_dir "$DATA" --unpack "$GLOVE"
}

stage_glue() {
  local task
  makes "$DATA/glue_data"
  for task in $TASKS; do makes "$DATA/glue_data/$task"; done
  if [[ $INPUTS == demo ]]; then
    run python -m demo.make --stage glue --output_dir "$DATA" $GLUE_FLAGS
  else
    fetch python download_glue.py --data_dir "$DATA/glue_data"
  fi
}

stage_wiki() {
  if [[ $INPUTS == demo ]]; then
    makes "$DUMP"
    run python -m demo.make --stage wiki --output_dir "$DATA"
  elif dump_is_fetched; then
    makes "$DUMP"
    fetch python download_file.py "$DUMP_URL" --output_dir "$DATA" ${DUMP_CHECKSUM:+--checksum "$DUMP_CHECKSUM"}
    unset "MADE_BY[$DUMP]" # what is made of it does not depend on how it came here
  fi
  run python -m wikiextractor.WikiExtractor "$DUMP" --json --processes "$WORKERS" -o "$DATA/extracted_wiki"
  makes "$DATA/wiki_for_bert.txt"
  run python prepare_data.py --input "$DATA/extracted_wiki" --output "$DATA/wiki_for_bert.txt" --num_workers "$WORKERS"
}

stage_models() {
  if [[ $INPUTS == download ]]; then
    makes "$MODELS/bert-base-uncased" "$MODELS"/bert-base-uncased-{mrpc,sst2,cola,rte}
    fetch python get_bert_models.py --output_dir "$MODELS"
    local task
    for task in $TASKS; do # what the published run does without
      [[ " $PUBLISHED_TASKS " == *" $task "* ]] && continue
      makes "$MODELS/bert-base-uncased-$(key "$task")"
      fetch python get_bert_models.py --output_dir "$MODELS" --tasks "$task"
    done
    return
  fi
  demo_bert
  local task
  for task in $TASKS; do
    chain "$(key "$task")"
    train python finetune_teacher.py --data_dir "$DATA/glue_data/$task" --bert_model "$MODELS/bert-base-uncased" \
      --output_dir "$MODELS/bert-base-uncased-$(key "$task")" $DOWNLOADED_FLAGS
  done
}

# The demo has no hub: its BERT is pre-trained here, and fine-tuned here for each task. It is grown: half its
# layers are trained, doubled, and trained on, which takes a third of the time (progressive stacking).
demo_bert() {
  run python -m demo.make --stage models --output_dir "$MODELS"
  run python pregenerate_training_data.py --train_corpus "$DATA/wiki_for_bert.txt" \
    --bert_model "$MODELS/bert-base-config" --reduce_memory --do_lower_case $PREGENERATE_FLAGS \
    --num_workers "$WORKERS" --output_dir "$DATA/json_wiki_mlm"
  train python pretrain_mlm.py --pregenerated_data "$DATA/json_wiki_mlm" --bert_model "$MODELS/bert-base-config" \
    --from_scratch $MLM_FLAGS --output_dir "$MODELS/bert-half"
  run python tinybert_6_from_bert.py --source "$MODELS/bert-half" --keep_layers 0,1,2,0,1,2 \
    --output_dir "$MODELS/bert-doubled"
  train python pretrain_mlm.py --pregenerated_data "$DATA/json_wiki_mlm" --bert_model "$MODELS/bert-doubled" \
    $MLM_DOUBLED_FLAGS --output_dir "$MODELS/bert-base-uncased"
  barrier
}

# ------------------------------------------------------------------------------------ general distillation

stage_pregenerate() {
  run python pregenerate_training_data.py --train_corpus "$DATA/wiki_for_bert.txt" \
    --bert_model "$MODELS/bert-base-uncased" --reduce_memory --do_lower_case $PREGENERATE_FLAGS \
    --num_workers "$WORKERS" --output_dir "$DATA/json_wiki"
}

general_distillation() { # STUDENT OUTPUT FLAG...
  train python general_distill.py --pregenerated_data "$DATA/json_wiki" --teacher_model "$MODELS/bert-base-uncased" \
    --student_model "$1" --reduce_memory --do_lower_case --output_dir "$2" $GENERAL_FLAGS "${@:3}"
}

stage_general() {
  chain 4l
  on_all_gpus general_distillation "$STUDENT_4L" "$MODELS/distilled_tinybert_4l" $GENERAL_4L_FLAGS
  chain 6l
  on_all_gpus general_distillation "$STUDENT_6L" "$MODELS/distilled_tinybert_6l" $GENERAL_6L_FLAGS
}

# --------------------------------------------------------------------------------------- task distillation

stage_augment() {
  local task
  for task in $TASKS; do
    chain "$(key "$task")"
    makes "$DATA/glue_data/$task/train_aug.tsv"
    on_all_gpus run python data_augmentation.py --pretrained_bert_model "$MODELS/bert-base-uncased" --glove_embs "$GLOVE" \
      --glue_dir "$DATA/glue_data" --task_name "$task" $AUGMENT_FLAGS
  done
}

stage_teachers() {
  local task
  for task in $TASKS; do
    chain "$(key "$task")"
    needs "$MODELS/bert-base-uncased-$(key "$task")"
    run python fix_teacher_layers.py --models_dir "$MODELS" --models "bert-base-uncased-$(key "$task")"
    train python finetune_teacher.py --data_dir "$DATA/glue_data/$task" \
      --bert_model "$MODELS/bert-base-uncased-$(key "$task")" --output_dir "$(teacher "$task")" $TEACHER_FLAGS
    evaluation "$task" "final_$(key "$task")_teacher"
  done
}

task_distillation() { # TASK STUDENT TMP_MODEL MODEL SEED [FLAG...]: intermediate layers, then predictions
  local data="$DATA/glue_data/$1" seed=$5 # AUGMENTED, where it is set, stands in place of --aug_train
  needs "$data/train_aug.tsv"
  train python task_distill.py --teacher_model "$(teacher "$1")" --student_model "$2" --data_dir "$data" \
    --task_name "$1" --output_dir "$MODELS/$3" $INTERMEDIATE_FLAGS ${AUGMENTED---aug_train} --do_lower_case \
    --feature_cache "$(features "$1")" $(seed_flag "$seed") "${@:6}"
  needs "$data/train_aug.tsv"
  train python task_distill.py --pred_distill --teacher_model "$(teacher "$1")" --student_model "$MODELS/$3" \
    --data_dir "$data" --task_name "$1" --output_dir "$MODELS/$4" ${AUGMENTED---aug_train} --do_lower_case \
    --feature_cache "$(features "$1")" $PREDICTION_FLAGS $(seed_flag "$seed")
  evaluation "$1" "$4"
}

evaluation() { # TASK MODEL
  run python task_distill.py --do_eval --student_model "$MODELS/$2" --data_dir "$DATA/glue_data/$1" \
    --task_name "$1" --do_lower_case $EVAL_FLAGS --output_dir "$RESULTS/eval/$2"
}

stage_task_4l() {
  local task seed name
  for task in $TASKS; do
    for seed in $SEEDS; do
      name=$(key "$task")$(seed_suffix "$seed")
      chain "$name"
      task_distillation "$task" "$MODELS/distilled_tinybert_4l" \
        "tmp_distilled_tinybert_4l_$name" "distilled_tinybert_4l_$name" "$seed"
      # The two students the others are judged by: without general distillation, and without any teacher. The
      # latter learns from the original rows: an augmented row's label may be wrong, which matters to nobody who
      # asks a teacher.
      task_distillation "$task" "$STUDENT_4L" \
        "tmp_tinybert_4l_no_gd_$name" "tinybert_4l_no_gd_$name" "$seed" --from_scratch
      train python finetune_teacher.py --data_dir "$DATA/glue_data/$task" --bert_model "$STUDENT_4L" --from_scratch \
        --vocab_model "$MODELS/bert-base-uncased" \
        --feature_cache "$(features "$task")" \
        --output_dir "$MODELS/labels_only_4l_$name" $LABELS_ONLY_FLAGS $(seed_flag "$seed")
      evaluation "$task" "labels_only_4l_$name"
    done
  done
}

stage_task_6l() {
  local task seed name
  for task in $TASKS; do
    for seed in $SEEDS; do
      name=$(key "$task")$(seed_suffix "$seed")
      chain "$name"
      task_distillation "$task" "$MODELS/distilled_tinybert_6l" \
        "tmp_distilled_tinybert_6l_$name" "distilled_tinybert_6l_$name" "$seed"
    done
  done
}

# ------------------------------------------------------------------------------------------------ extension

every_second_layer() { # NAME TEACHER
  makes "$MODELS/tinybert_6l_smart_init_direct_$1"
  needs "$2"
  run python tinybert_6_from_bert.py --models_dir "$MODELS" --names "$1" $SMART_INIT_FLAGS
}

stage_smart_init() {
  local task seed name direct smart=$MODELS/distilled_tinybert_6l_smart_init
  chain general
  every_second_layer base "$MODELS/bert-base-uncased"
  on_all_gpus general_distillation "$MODELS/tinybert_6l_smart_init_direct_base" "$smart" --continue_train $GENERAL_SMART_FLAGS
  for task in $TASKS; do
    direct=tinybert_6l_smart_init_direct_$(key "$task")
    chain "$(key "$task")"
    every_second_layer "$(key "$task")" "$(teacher "$task")"
    evaluation "$task" "$direct"
    for seed in $SEEDS; do
      task_distillation "$task" "$MODELS/$direct" \
        "tmp_$direct$(seed_suffix "$seed")" "${direct}_tsd$(seed_suffix "$seed")" "$seed"
    done
  done
  barrier
  for task in $TASKS; do
    for seed in $SEEDS; do
      name=$(key "$task")$(seed_suffix "$seed")
      chain "$name"
      task_distillation "$task" "$smart" "tmp_tinybert_6l_smart_init_$name" "tinybert_6l_smart_init_$name" "$seed"
    done
  done
}

stage_report() {
  always python report.py --results "$RESULTS" --models "$MODELS" --output_dir "$RESULTS/report" \
    $([[ $INPUTS != demo ]] || echo --embedded_data)
}

# ---------------------------------------------------------------------------------------------------- names

key() { tr -d - <<<"${1,,}"; }                                          # SST-2 -> sst2
features() { printf '%s/features/%s' "$DATA" "$(key "$1")"; }            # a task's rows as token ids, its teacher's logits
teacher() { printf '%s/final_%s_teacher' "$MODELS" "$(key "$1")"; }
seed_suffix() { [[ $1 == "${SEEDS%% *}" ]] || printf -- '-seed%s' "$1"; } # the first seed's models have plain names
seed_flag() { [[ $1 == 42 ]] || printf -- '--seed %s' "$1"; }            # 42 is the programs' own

# ---------------------------------------------------------------------------------------------------- start

preflight() { # STAGE...: everything that is missing, before anything starts
  local stage task downloaded
  MISSING=()
  check_packages torch numpy tqdm wikiextractor nltk tokenizers safetensors huggingface_hub
  for stage in "$@"; do
    if [[ $INPUTS != download ]] || stage_finished "$stage"; then continue; fi
    case $stage in
      glove)
        [[ -e $GLOVE || -e $DATA/${GLOVE_URL##*/} ]] || check_reachable "$GLOVE_URL" ;;
      glue)
        all_there "$DATA"/glue_data/{RTE,CoLA,SST-2,MRPC} ||
          check_reachable https://dl.fbaipublicfiles.com/glue/data/RTE.zip ;;
      models)
        mapfile -t downloaded < <(for task in $TASKS; do printf '%s\n' "$MODELS/bert-base-uncased-$(key "$task")"; done)
        all_there "$MODELS"/bert-base-uncased{,-rte,-cola,-sst2,-mrpc} "${downloaded[@]}" ||
          check_reachable "${HF_ENDPOINT:-https://huggingface.co}/google-bert/bert-base-uncased/resolve/main/config.json" ;;
      wiki)
        if [[ -e $DUMP ]]; then
          continue
        elif dump_is_fetched; then
          check_reachable "$DUMP_URL"
        else
          missing "the Wikipedia dump $DUMP: download it from" \
            "https://meta.wikimedia.org/wiki/Data_dump_torrents#English_Wikipedia, or set DUMP_URL in the profile"
        fi ;;
    esac
  done
  [[ ${DISK_GB:-0} == 0 ]] || check_disk "$DISK_GB" "$DATA"
  [[ ${NEED_GPU:-no} == no ]] || check_gpu
  say_what_is_missing
}

say_what_is_missing() { # and stop, if there is something
  ((${#MISSING[@]})) || return 0
  complain "the profile $PROFILE cannot run here; missing:"
  printf '  - %s\n' "${MISSING[@]}" >&2
  exit 2
}

usage() { sed -n '2,/^$/s/^# \{0,1\}//p' "${0##*/}"; }

fail_usage() { complain "$1"; exit 2; }

find_stage() { # NAME: sets PLACE, its place among the stages
  for PLACE in "${!STAGES[@]}"; do [[ ${STAGES[PLACE]} == "$1" ]] && return; done
  fail_usage "no stage named '$1'; the stages are: ${STAGES[*]}"
}

main() {
  local from='' only='' tasks='' seeds='' gpus='' do=run
  COMMAND_LINE="./$(basename "$0")${*:+ $*}" PROFILE=full FORCE=0
  while (($#)); do
    case $1 in
      --profile | --from | --only | --tasks | --seeds | --gpus)
        (($# > 1)) || fail_usage "$1 needs a value"
        case $1 in
          --profile) PROFILE=$2 ;;
          --from) from=$2 ;;
          --only) only=$2 ;;
          --tasks) tasks=$2 ;;
          --seeds) seeds=$2 ;;
          --gpus) gpus=$2 ;;
        esac
        shift ;;
      --list | --status) do=${1#--} ;;
      --dry-run | --dry_run) do=dry_run ;;
      --force) FORCE=1 ;;
      -h | --help) usage && exit ;;
      *) fail_usage "unknown option '$1'; see --help" ;;
    esac
    shift
  done
  local file
  for file in "$PROFILE" "$CALLED_FROM/$PROFILE" "profiles/$PROFILE.env" ''; do [[ -f $file ]] && break; done
  [[ -n $file ]] || fail_usage "no profile '$PROFILE': neither a file nor one of profiles/*.env"
  ! grep -q $'\r' "$file" || fail_usage "$file: lines end as on Windows; expected plain line ends: dos2unix $file"
  GPUS=1 # a profile that does not name it
  source "$(realpath "$file")" || fail_usage "$file: expected lines NAME=VALUE, as in profiles/full.env"
  GPUS=${gpus:-$GPUS}
  check_profile "$file"
  if [[ $do == status ]]; then
    show_status
    exit
  fi
  choose_dump
  tasks=${tasks:-${OWN_TASKS:+${!OWN_TASKS}}}
  [[ -z $tasks ]] || choose_tasks "$tasks"
  add_seeds "$seeds"

  plan_stages "${STAGES[@]}"
  local stage chosen=("${OWN_STAGES[@]}")
  if [[ -n $only ]]; then
    find_stage "$only"
    chosen=("$only")
  elif [[ -n $from ]]; then
    find_stage "$from"
    chosen=("${STAGES[@]:PLACE}")
  fi

  if [[ $do == list ]]; then
    for stage in "${chosen[@]}"; do printf '%-12s %s\n' "$stage" "${ABOUT[$stage]}"; done
    exit
  fi
  if [[ $do == dry_run ]]; then
    dry_run "${chosen[@]}"
    exit
  fi

  preflight "${chosen[@]}"
  mkdir -p "$RESULTS/stages/commands" "$RESULTS/logs"
  claim_results
  cp "$file" "$RESULTS/profile.env"
  printf '%s\n' "$DUMP" >"$RESULTS/stages/dump"
  write_plan "${chosen[@]}" >"$RESULTS/stages/plan"
  : >"$RESULTS/stages/events"
  trap 'stop_all 130' INT
  trap 'stop_all 143' TERM
  trap 'stop_all 129' HUP
  say "profile $PROFILE${TAKES:+: $TAKES}; logs in $RESULTS/logs; Ctrl-C stops, the same command then resumes"
  for stage in "${chosen[@]}"; do
    find_stage "$stage"
    run_stage "$stage" $((PLACE + 1)) "${#STAGES[@]}" || { note_event ended 1; exit 1; }
  done
  note_event ended 0
  say "done in $(in_words "$SECONDS")$([[ ! -e $RESULTS/report/report.html ]] || printf '; see %s' "$RESULTS/report/report.html")"
}

dry_run() { # STAGE...: what would be run
  local stage
  declare -A HOURS=()
  expected_hours "$@"
  for stage in "$@"; do
    find_stage "$stage"
    printf '# [stage %d/%d] %s: %s%s\n' $((PLACE + 1)) "${#STAGES[@]}" "$stage" "${ABOUT[$stage]}" "${HOURS[$stage]:+; ${HOURS[$stage]}}"
    print_stage "$stage"
  done
  [[ -z ${HOURS[all]:-} ]] || printf '# %s\n' "${HOURS[all]}" >&2
}

PUBLISHED_TASKS="RTE CoLA SST-2 MRPC"
GLUE_TASKS="CoLA MNLI MRPC QNLI QQP RTE SST-2 STS-B WNLI"

check_profile() { # FILE: what was read from it, before anything is planned with it
  local name task needed=(DATA MODELS RESULTS INPUTS TASKS SEEDS JOBS WORKERS DUMP GLOVE STUDENT_4L STUDENT_6L)
  local flags=(PREGENERATE GENERAL GENERAL_4L GENERAL_6L GENERAL_SMART SMART_INIT AUGMENT TEACHER INTERMEDIATE
    PREDICTION LABELS_ONLY EVAL)
  [[ ${INPUTS:-} != demo ]] || flags+=(GLUE MLM MLM_DOUBLED DOWNLOADED)
  for name in "${needed[@]}"; do [[ -n ${!name:-} ]] || fail_usage "$1: no $name; profiles/full.env has every name"; done
  for name in "${flags[@]}"; do
    name+=_FLAGS
    [[ -v $name ]] || fail_usage "$1: no $name (it may be empty); profiles/full.env and demo.env have every name"
  done
  [[ $INPUTS =~ ^(download|demo)$ ]] || fail_usage "$1: INPUTS=$INPUTS: expected download or demo"
  [[ $GPUS =~ ^[1-9][0-9]{0,2}$ ]] || fail_usage "--gpus $GPUS (GPUS in a profile): expected a whole number from 1"
  for name in JOBS WORKERS ${THREADS:+THREADS}; do
    [[ ${!name} =~ ^[1-9][0-9]{0,4}$ ]] || fail_usage "$1: $name=${!name}: expected a whole number from 1"
  done
  for task in $TASKS; do
    [[ " $GLUE_TASKS " == *" $task "* ]] || fail_usage "$1: TASKS: no task '$task'; GLUE has $GLUE_TASKS"
  done
  name=$SEEDS SEEDS=''
  add_seeds "${name// /,}"
  SEEDS=${SEEDS# }
}

choose_dump() { # the newest that fits; once extracted it may be deleted, and its name is still known
  local found
  found=$(compgen -G "$DUMP" | sort | tail -n 1) || found=''
  [[ -n $found || -z ${DUMP_URL:-} ]] || found=$DATA/${DUMP_URL##*/}
  [[ -n $found ]] || found=$(cat "$RESULTS/stages/dump" 2>/dev/null) || found=${DUMP/\*/20251101}
  DUMP=$found
}

# As published the dump is downloaded by hand; DUMP_URL fetches it. Once extracted it is not wanted any more.
dump_is_fetched() { [[ -n ${DUMP_URL:-} && ! -d $DATA/extracted_wiki ]]; }

add_seeds() { # 1,2,3: those that the profile does not have
  local seed
  for seed in ${1//,/ }; do
    [[ $seed =~ ^[0-9]{1,18}$ ]] || fail_usage "--seeds $1: expected whole numbers of up to 18 digits"
    seed=$((10#$seed))
    [[ " $SEEDS " == *" $seed "* ]] || SEEDS+=" $seed"
  done
}

choose_tasks() { # RTE,CoLA: in any case, as far as the profile has them
  local name task match list=''
  for name in ${1//,/ }; do
    match=''
    for task in $TASKS; do [[ $(key "$task") == "$(key "$name")" ]] && match=$task; done
    [[ -n $match ]] || fail_usage "no task '$name' in the profile $PROFILE; it has: $TASKS"
    list+="${list:+ }$match"
  done
  [[ -n $list ]] || fail_usage "--tasks $1: expected names separated by commas; the profile $PROFILE has: $TASKS"
  TASKS=$list
}

OWN_STAGES=("${STAGES[@]}")
[[ ${BASH_SOURCE[0]} != "$0" ]] || main "$@" # ablation.sh adds its stages to these
