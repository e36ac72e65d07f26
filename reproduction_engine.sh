# How reproduction.sh plans, runs, skips and reports its commands. Sourced by it; the stages are there.
#
# A stage function only *plans*: `run` adds one command to the plan, `chain` names the commands that follow one
# another, `barrier` makes the chains after it wait for those before it. The engine then prints the plan
# (--dry-run) or runs it, up to $JOBS chains at a time.
#
# A finished command is not run again. What counts as the same command is its fingerprint: its words, and the
# fingerprints of the earlier commands that made the paths among its words. So a changed profile repeats what
# the change touches and what is built on that, and nothing else. What is *not* noticed: edited programs and
# hand-edited files; --force repeats the chosen stages whatever was finished.
#
# On several GPUs ($GPUS) each chain has a GPU to itself, and what is planned by `on_all_gpus` runs in as many
# processes, after which nothing else is started until it is done. Neither is part of a fingerprint: a training
# may be resumed on another number of GPUs.
#
# While a run lasts, and after it, RESULTS/stages/plan holds its commands and RESULTS/stages/events what became
# of them. benchmarks/run_status.py reads both: it says how long what is left will take, and what --status shows.

# shellcheck shell=bash disable=SC2034,SC2086,SC2153 # PLACE and others are read by the scripts that source this
PLAN_STAGE=() PLAN_PHASE=() PLAN_CHAIN=() PLAN_COMMAND=() PLAN_OUTPUTS=() PLAN_PRINT=() PLAN_KIND=() PLAN_TITLE=() PLAN_WIDE=()
declare -A DOES=()        # a program, or a flag of it -> what it does, in plain words
declare -A MADE_BY=()     # path -> fingerprint of the planned command that makes it
STAGE='' PHASE=0 CHAIN='' # where the next planned command goes
OUTPUTS=() NEEDS=()       # of the next planned command
WIDE=0                    # whether it runs on all GPUs
GPUS=1                    # --gpus
declare -A RUNNING=()     # process group -> chain
declare -A SLOT=()        # process group -> its place among those that run side by side

say() { printf '%s %s\n' "$(clock "$SECONDS")" "$*"; }
complain() { printf 'error: %s\n' "$*" >&2; }
in_words() { # SECONDS: 75 s, 12 min, 3 h 5 min
  local minutes=$((($1 + 30) / 60))
  if (($1 < 90)); then
    printf '%d s' "$1"
  elif ((minutes < 60)); then
    printf '%d min' "$minutes"
  else
    printf '%d h %d min' $((minutes / 60)) $((minutes % 60))
  fi
}
clock() { printf '%02d:%02d:%02d' $(($1 / 3600)) $(($1 / 60 % 60)) $(($1 % 60)); }

# ---------------------------------------------------------------------------------------------- planning

chain() { CHAIN=$1; }
barrier() { PHASE=$((PHASE + 1)) CHAIN=''; }

# Paths that the next command makes or reads without naming them. What it names in --output_dir is known.
makes() { OUTPUTS+=("$@"); }
needs() { NEEDS+=("$@"); }

run() { plan once "$@"; }           # a command that is run once
train() { plan resumable "$@" ${TRAIN_FLAGS:-}; } # one that can resume where it was interrupted
fetch() { plan unless_there "$@"; } # a download: files already there, from wherever, are accepted
always() { plan always "$@"; }      # a command that is run every time
on_all_gpus() { # FUNCTION ARGUMENT...: what it plans may run in several processes at once
  WIDE=1
  "$@"
  WIDE=0
}

plan() {
  local kind=$1 words word previous=''
  shift
  if ((${#OUTPUTS[@]} == 0)); then
    for word in "$@"; do
      [[ $previous == --output_dir || $previous == -o ]] && OUTPUTS+=("$word")
      previous=$word
    done
  fi
  words=$(quoted "$@")
  local print
  print=$(fingerprint "$@" "${NEEDS[@]}")
  PLAN_STAGE+=("$STAGE") PLAN_PHASE+=("$PHASE") PLAN_CHAIN+=("$CHAIN") PLAN_KIND+=("$kind")
  PLAN_COMMAND+=("$words") PLAN_PRINT+=("$print") PLAN_TITLE+=("$1")
  PLAN_WIDE+=("$WIDE")
  for word in "$@"; do [[ -z ${DOES[$word]:-} ]] || PLAN_TITLE[-1]=${DOES[$word]}; done
  PLAN_OUTPUTS+=("$(quoted "${OUTPUTS[@]}")")
  for word in "${OUTPUTS[@]}"; do MADE_BY[$word]=$print; done
  OUTPUTS=() NEEDS=()
}

quoted() { # WORD...: as a shell would take them, in quotes only where they are needed
  local word line=''
  for word in "$@"; do
    [[ $word =~ ^[A-Za-z0-9_./:=,+@%-]+$ ]] || word="'${word//\'/\'\\\'\'}'"
    line+="${line:+ }$word"
  done
  printf '%s' "$line"
}

fingerprint() { # of a command: its words, and the commands that made them or a folder they lie in
  local path
  {
    printf '%s\n' "$@"
    for path in "$@"; do
      while [[ -n $path ]]; do
        [[ -n ${MADE_BY[$path]:-} ]] && printf '%s\n' "${MADE_BY[$path]}"
        [[ $path == */* ]] || break
        path=${path%/*}
      done
    done
  } | cksum | tr ' ' -
}

plan_stages() { # STAGE...: every stage is planned, even when only some are run, so that fingerprints agree
  for STAGE in "$@"; do
    PHASE=0 CHAIN=''
    "stage_$STAGE"
  done
}

in_stage() { # STAGE [PHASE [CHAIN]]: the plan's indices there, one a line
  local i
  for i in "${!PLAN_STAGE[@]}"; do
    [[ ${PLAN_STAGE[i]} == "$1" && ${PLAN_PHASE[i]} == "${2:-${PLAN_PHASE[i]}}" ]] || continue
    [[ $# -lt 3 || ${PLAN_CHAIN[i]} == "$3" ]] && printf '%s\n' "$i"
  done
  return 0
}

phases_of() { for_each_of PLAN_PHASE "$1"; }            # STAGE
chains_of() { for_each_of PLAN_CHAIN "$1" "$2"; }       # STAGE PHASE
for_each_of() {                                         # the values at in_stage's indices, each once, in order
  local -n values=$1
  local i
  for i in $(in_stage "${@:2}"); do printf '%s\n' "${values[i]}"; done | awk '!seen[$0]++'
}

print_stage() { # STAGE: its commands, as a shell would take them
  local i
  for i in $(in_stage "$1"); do printf '%s\n' "$(command_of "$i")"; done
}

command_of() { # INDEX: a command as it is run
  local words=${PLAN_COMMAND[$1]}
  if is_wide "$1"; then
    words="python -m torch.distributed.run --standalone --nproc_per_node $GPUS ${words#python }"
  fi
  printf '%s' "$words"
}

is_wide() { ((GPUS > 1 && PLAN_WIDE[$1])); } # INDEX

has_wide() { # STAGE PHASE CHAIN: whether one of its commands runs on all GPUs
  local i
  for i in $(in_stage "$@"); do is_wide "$i" && return 0; done
  return 1
}

# ------------------------------------------------------------------------------------ what is finished

stage_print() { # STAGE: a fingerprint over all its commands
  local i
  for i in $(in_stage "$1"); do printf '%s\n' "${PLAN_PRINT[i]}"; done | cksum | tr ' ' -
}

# Two files tell of a command: FINGERPRINT.started, with its outputs in it, and FINGERPRINT, when it finished.
marker_of() { printf '%s/stages/commands/%s' "$RESULTS" "${PLAN_PRINT[$1]}"; }

note_start() { # INDEX: whatever finished with the same outputs is finished no more
  local outputs marker
  eval "outputs=(${PLAN_OUTPUTS[$1]})"
  printf '%s\n' "${outputs[@]}" >"$(marker_of "$1").started"
  started_with "${outputs[@]}" | while read -r marker; do rm -f "${marker%.started}"; done
}

started_with() { # PATH...: the .started files that name one of them
  (($# == 0)) || grep -lxF "$(printf '%s\n' "$@")" "$RESULTS"/stages/commands/*.started 2>/dev/null || true
}

again_flag() { # INDEX: what a command needs to be told about output that this script began earlier
  local outputs
  eval "outputs=(${PLAN_OUTPUTS[$1]})"
  case ${PLAN_KIND[$1]}:${PLAN_COMMAND[$1]} in
    resumable:*)
      [[ -e ${outputs[0]} && ! -e ${outputs[0]}/run.json ]] || return 0
      if [[ -e $(marker_of "$1").started ]]; then
        echo --resume
      elif [[ -n $(started_with "${outputs[0]}") ]]; then
        echo --overwrite_output_dir
      fi
      ;;
    *tinybert_6_from_bert.py*)
      [[ -e ${outputs[0]} && -n $(started_with "${outputs[0]}") ]] && echo --overwrite_output_dir
      ;;
    *pregenerate_training_data.py*)
      if [[ -e ${outputs[0]} && -e $(marker_of "$1").started && ! -e $(marker_of "$1") ]]; then
        echo --resume
      elif [[ -e ${outputs[0]} && -n $(started_with "${outputs[0]}") ]]; then
        echo --overwrite
      fi
      ;;
    *prepare_data.py* | *data_augmentation.py*)
      [[ -e ${outputs[0]}.unfinished ]] && echo --resume # it refuses what other flags or files made
      ;;
  esac
  return 0
}

command_finished() { # INDEX
  local outputs output
  [[ ${PLAN_KIND[$1]} == always ]] && return 1
  eval "outputs=(${PLAN_OUTPUTS[$1]})"
  all_there "${outputs[@]}" || return 1
  [[ -e $(marker_of "$1") ]] && return 0
  [[ ${PLAN_KIND[$1]} == unless_there && ${#outputs[@]} -gt 0 ]]
}

stage_finished() { # STAGE
  local i
  [[ $(cat "$RESULTS/stages/$1.done" 2>/dev/null) == "$(stage_print "$1")" ]] || return 1
  for i in $(in_stage "$1"); do command_finished "$i" || return 1; done
}

# --------------------------------------------------------------------------------------------- running

run_stage() { # STAGE NUMBER COUNT
  local stage=$1 started=$SECONDS phase status=0 done_file="$RESULTS/stages/$1.done"
  local seconds_file="$RESULTS/stages/$1.seconds"
  if ((!FORCE)) && stage_finished "$stage"; then
    say "[stage $2/$3] $stage: finished before, skipped"
    return 0
  fi
  say "[stage $2/$3] $stage: ${ABOUT[$stage]}"
  note_event stage "$stage"
  [[ -e $done_file ]] && rm -f "$done_file" "$seconds_file" # what it took is counted again
  for phase in $(phases_of "$stage"); do
    run_phase "$stage" "$phase" || { status=1 && break; }
  done
  # Several attempts at one stage add up.
  printf '%d\n' "$(($(cat "$seconds_file" 2>/dev/null || echo 0) + SECONDS - started))" >"$seconds_file"
  ((status == 0)) || return 1
  stage_print "$stage" >"$done_file"
  say "[stage $2/$3] $stage: finished in $(in_words $((SECONDS - started)))"
}

# Start chains, as many at a time as there are slots; after a failure start no more, wait for the rest.
run_phase() { # STAGE PHASE
  local stage=$1 phase=$2 name failed='' told='' waiting alone slots=$((JOBS * GPUS)) heartbeat=$SECONDS pause=60
  [[ ! -t 1 ]] || pause=10 # lines that nobody is watching need not be many
  mapfile -t waiting < <(chains_of "$stage" "$phase")
  alone=$((slots == 1 || ${#waiting[@]} == 1))
  while ((${#waiting[@]} || ${#RUNNING[@]})); do
    while [[ -z $failed ]] && ((${#waiting[@]})) && may_start "$stage" "$phase" "${waiting[0]}" "$slots"; do
      start_chain "$stage" "$phase" "${waiting[0]}" "$alone"
      waiting=("${waiting[@]:1}")
    done
    sleep 0.1
    reap failed
    if [[ -n $failed && -z $told ]]; then
      waiting=() told=yes
      ((${#RUNNING[@]} == 0)) || say "waiting for what else is running: ${RUNNING[*]} (Ctrl-C stops it)"
    fi
    if ((!alone && SECONDS - heartbeat >= pause)); then
      say "  $(progress "$stage")"
      for name in "${RUNNING[@]}"; do say "  $name: $(last_line "$(log_of "$stage" "$name")")"; done
      heartbeat=$SECONDS
    fi
  done
  [[ -z $failed ]] || return 1
}

may_start() { # STAGE PHASE CHAIN SLOTS: what runs on all GPUs runs by itself
  ((${#RUNNING[@]} < $4)) || return 1
  ((GPUS > 1 && ${#RUNNING[@]})) || return 0
  local name
  for name in "${RUNNING[@]}" "$3"; do ! has_wide "$1" "$2" "$name" || return 1; done
}

start_chain() { # STAGE PHASE CHAIN ALONE: in its own process group, so that it can be stopped as a whole
  local slot=0
  while [[ " ${SLOT[*]} " == *" $slot "* ]]; do slot=$((slot + 1)); done
  set -m
  run_chain "$@" "$slot" &
  set +m
  RUNNING[$!]=$3 SLOT[$!]=$slot
}

gpu_of() { # SLOT: the name of its GPU, among those that CUDA_VISIBLE_DEVICES leaves
  local names
  IFS=, read -ra names <<<"${CUDA_VISIBLE_DEVICES:-}"
  printf '%s' "${names[$1 % GPUS]:-$(($1 % GPUS))}"
}

reap() { # NAME_OF_VARIABLE: drop the chains that have ended; the variable gets the name of one that failed
  local -n result=$1
  local pid
  for pid in "${!RUNNING[@]}"; do
    kill -0 "$pid" 2>/dev/null && continue
    wait "$pid" || result=${RUNNING[$pid]:-chain}
    unset "RUNNING[$pid]" "SLOT[$pid]"
  done
}

run_chain() { # STAGE PHASE CHAIN ALONE SLOT: the chain's commands, in order, until one fails
  local stage=$1 phase=$2 name=$3 alone=$4 slot=$5 i label command flag started status log size gpu took
  log=$(log_of "$stage" "$name") gpu=$(gpu_of "$slot")
  export PYTHONUNBUFFERED=1
  mkdir -p "$RESULTS/stages/commands" "$RESULTS/logs"
  for i in $(in_stage "$stage" "$phase" "$name"); do
    label=$(label_of "$i")
    if ((!FORCE)) && command_finished "$i"; then
      say "  $label: finished before, skipped"
      note_event skipped "$i"
      continue
    fi
    say "  $label: started$(on_which "$i" "$gpu")"
    started=$SECONDS status=0
    flag=$(again_flag "$i")
    command="$(command_of "$i")${flag:+ $flag}"
    note_start "$i"
    printf '\n$ %s\n' "$command" >>"$log"
    size=$(wc -c <"$log")
    note_event started "$i" "$size"
    if ((alone)); then
      run_command "$i" "$command" "$gpu" "$alone" 2>&1 | tee -a "$log" || status=$?
    else
      run_command "$i" "$command" "$gpu" "$alone" >>"$log" 2>&1 || status=$?
    fi
    if ((status)); then
      note_event failed "$i" "$status"
      say "  $label: FAILED with exit status $status after $(in_words $((SECONDS - started)))"
      {
        complain "stage $stage stopped at: $command"
        ((alone)) || tail -c "+$((size + 1))" "$log" | tail -c 4000 | tr '\r' '\n' | tail -n 15 | sed 's/^/    /'
        printf '    the log is %s\n' "$log"
      } >&2
      return 1
    fi
    took=$((SECONDS - started))
    [[ $flag != --resume ]] || took= # what a resumed command took is not what it takes
    printf '%s\n' "$took" >"$(marker_of "$i")"
    note_event finished "$i" "$took"
    say "  $label: finished in $(in_words $((SECONDS - started)))$(progress "$stage" "; " $((SECONDS - started)))"
  done
}

on_which() { # INDEX GPU: where a command runs, if there is a choice
  ((GPUS > 1)) || return 0
  if is_wide "$1"; then printf ' on %d GPUs' "$GPUS"; else printf ' on GPU %s' "$2"; fi
}

run_command() { # INDEX COMMAND GPU ALONE
  local threads
  if [[ -n ${THREADS:-} ]]; then # alone, a chain may use the cores of all
    threads=$THREADS
    ((!$4)) && ! is_wide "$1" || threads=$((THREADS * JOBS * GPUS))
    ! is_wide "$1" || threads=$((threads / GPUS))
    export OMP_NUM_THREADS=$threads RAYON_NUM_THREADS=$threads
  fi
  ((GPUS == 1)) || is_wide "$1" || export CUDA_VISIBLE_DEVICES=$3
  bash -c "$2"
}

# Refuse a RESULTS that a living run of these scripts writes to; a dead one's claim is taken over.
claim_results() {
  local holder
  if holder=$(writer_of_results); then
    complain "$RESULTS: process $holder is writing there; wait for it, or stop it"
    exit 2
  fi
  printf '%s\n' "$$" >"$RESULTS/writer"
}

writer_of_results() { # the process of a living run, if there is one
  local holder
  holder=$(cat "$RESULTS/writer" 2>/dev/null) || return 1
  [[ $holder =~ ^[0-9]+$ && $(ps -p "$holder" -o args= 2>/dev/null) =~ (reproduction|ablation)\.sh ]] || return 1
  printf '%s' "$holder"
}

# ------------------------------------------------------------------------------- what was planned, what became of it

write_plan() { # STAGE...: the run, and every command with what is known of it before it starts
  local i stage number=0 ready chosen wide took marker
  printf 'run\t%(%s)T\t%d\t%d\t%s\n' -1 $((JOBS * GPUS)) "$GPUS" "$COMMAND_LINE"
  for stage in "${STAGES[@]}"; do
    number=$((number + 1)) chosen=0
    [[ " $* " != *" $stage "* ]] || chosen=1
    printf 'stage\t%s\t%d\t%d\t%s\n' "$stage" "$number" "$chosen" "${ABOUT[$stage]}"
  done
  for i in "${!PLAN_STAGE[@]}"; do
    stage=${PLAN_STAGE[i]} ready=0
    ((FORCE)) && [[ " $* " == *" $stage "* ]] || ! command_finished "$i" || ready=1
    wide=0 took='' marker="$RESULTS/stages/commands/${PLAN_PRINT[i]}"
    ! is_wide "$i" || wide=1
    [[ ! -s $marker ]] || read -r took <"$marker"
    printf '%s\t' command "$i" "$stage" "${PLAN_PHASE[i]}" "${PLAN_CHAIN[i]}" "$ready" "$wide" "$took" \
      "$(log_of "$stage" "${PLAN_CHAIN[i]}")" "${PLAN_OUTPUTS[i]}" "$(label_of "$i")"
    printf '%s\n' "${PLAN_COMMAND[i]}"
  done
}

note_event() { # WHAT [VALUE...]: tab-separated, with the time
  local IFS=$'\t'
  printf '%(%s)T\t%s\n' -1 "$*" >>"$RESULTS/stages/events"
}

# "3 of 12 commands done, about 5 min left", where there are several; how long is not asked for after commands
# of a moment, since the answer itself takes one.
progress() { # STAGE [TEXT_BEFORE [SECONDS_TAKEN]]
  local planned ended
  mapfile -t planned < <(in_stage "$1")
  ((${#planned[@]} > 1)) || return 0
  ended=$(printf '%s\n' "${planned[@]}" | awk -F '\t' '
    NR == FNR { over[$3] = $2 == "finished" || $2 == "skipped"; next }
    over[$1] { n++ }
    END { print n + 0 }' "$RESULTS/stages/events" -)
  printf '%s%d of %d commands done' "${2:-}" "$ended" "${#planned[@]}"
  ((ended == ${#planned[@]} || ${3:-60} < 3)) || ask_run_status left "$RESULTS" "$1"
}

ask_run_status() { # WHAT ARGUMENT...
  python -c 'from benchmarks import run_status; run_status.main()' "$@" 2>/dev/null || true
}

show_status() {
  local writer
  writer=$(writer_of_results) || writer=
  python -c 'from benchmarks import run_status; run_status.main()' status "$RESULTS" "${writer:-0}"
}

expected_hours() { # STAGE...: HOURS of each, where the GPU is one that docs/scaling.md knows
  local card stage text
  card=$(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | head -n 1) || card=
  while IFS=$'\t' read -r stage text; do
    [[ -z $text ]] || HOURS["$stage"]=$text
  done < <({ [[ -z $card ]] || write_plan "$@"; } | ask_run_status hours "$card")
}

log_of() { printf '%s/logs/%s%s.log' "$RESULTS" "$1" "${2:+-$2}"; } # STAGE CHAIN

label_of() { # INDEX: what a progress line calls a command, like "rte: fine-tuning -> final_rte_teacher"
  local outputs
  eval "outputs=(${PLAN_OUTPUTS[$1]})"
  printf '%s%s%s' "${PLAN_CHAIN[$1]:+${PLAN_CHAIN[$1]}: }" "${PLAN_TITLE[$1]}" "${outputs[0]:+ -> ${outputs[0]##*/}}"
}

last_line() { tail -c 2000 "$1" 2>/dev/null | tr '\r' '\n' | awk 'NF { line = $0 } END { print substr(line, 1, 150) }'; }

stop_all() { # EXIT_STATUS: on Ctrl-C or TERM
  trap - INT TERM HUP
  local pid chains
  chains=$(jobs -p) # RUNNING may lack one that was started when the signal came
  for pid in $chains; do kill -TERM -- "-$pid" 2>/dev/null || true; done
  wait
  # A training finishes its step and writes a checkpoint first.
  for pid in $chains; do
    while kill -0 -- "-$pid" 2>/dev/null; do sleep 0.1; done
  done
  note_event ended "$1"
  say "stopped; the same command resumes from here"
  exit "$1"
}

# ------------------------------------------------------------------------------------------- preflight

all_there() { # PATH...
  local path
  for path in "$@"; do [[ -e $path ]] || return 1; done
}

missing() { MISSING+=("$*"); }

check_packages() { # NAME...: without importing them, which would take seconds
  local absent
  command -v python >/dev/null || { missing "no 'python' on the PATH: activate the environment" && return; }
  absent=$(python -c 'import importlib.util as u, sys; print(*[n for n in sys.argv[1:] if not u.find_spec(n)])' "$@") ||
    { missing "python does not start: activate the environment" && return; }
  [[ -z $absent ]] || missing "Python packages $absent: activate the environment, or pip install -r requirements.txt"
}

check_disk() { # GIGABYTES FOLDER: the folder itself need not exist yet
  local folder=$2 free
  while [[ ! -d $folder ]]; do folder=$(dirname "$folder"); done
  free=$(df -Pk "$folder" | awk 'NR == 2 { print int($4 / 1048576) }')
  ((free >= $1)) || missing "disk space: $1 GB wanted where $2 lies, $free GB free (DISK_GB in the profile)"
}

check_gpu() {
  python -c 'import importlib.util as u, sys; sys.exit(not u.find_spec("torch"))' 2>/dev/null || return 0 # has been named already
  python -c 'import sys, torch; sys.exit(torch.cuda.device_count() < int(sys.argv[1]))' "$GPUS" 2>/dev/null && return
  if ((GPUS == 1)); then
    missing "a CUDA GPU that torch can use (NEED_GPU=no in a copy of the profile goes without, for a very long time)"
  else
    missing "$GPUS CUDA GPUs that torch can use (--gpus, or GPUS in the profile)"
  fi
}

check_reachable() { # URL...: proxies of the environment are used
  local url
  command -v python >/dev/null || return 0 # has been named already
  for url in "$@"; do
    python -c 'import sys, urllib.request as r; r.urlopen(r.Request(sys.argv[1], method="HEAD"), timeout=10)' \
      "$url" 2>/dev/null || missing "a connection to $url"
  done
}
