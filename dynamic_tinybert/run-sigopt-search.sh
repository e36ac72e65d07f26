#!/usr/bin/env bash
# Step 5: search for length configurations of $OUTPUT_DIR/dynamic_tinybert on the questions of $SQUAD_DIR.
#
#   SQUAD_DIR=squad OUTPUT_DIR=runs ./run-sigopt-search.sh
#   ... ./run-sigopt-search.sh --search_backend nsga2 --search_trials 300
#
# SigOpt's service is gone; the search is Optuna's, in the process. The front is written to
# $OUTPUT_DIR/sigopt_search, and to ./sigopt-pareto-front.csv. MODEL names another model; flags are handed on to
# run_squad.py. The same command continues a search that was interrupted; several at a time share one.
set -euo pipefail

if [[ ! ${OUTPUT_DIR:-} || ! ${SQUAD_DIR:-} ]]; then
  echo "error: expected OUTPUT_DIR, where the models are, and SQUAD_DIR, where the questions are, in the environment" >&2
  exit 2
fi
here=$(dirname "${BASH_SOURCE[0]}")
python "$here/run_squad.py" \
  --do_sigopt_search \
  --data_dir "$SQUAD_DIR" \
  --model_type bert \
  --model_name_or_path "${MODEL:-$OUTPUT_DIR/dynamic_tinybert/checkpoint-best}" \
  --do_lower_case \
  --predict_file dev-v1.1.json \
  --per_gpu_eval_batch_size 16 \
  --max_seq_length 384 \
  --doc_stride 128 \
  --output_dir "$OUTPUT_DIR/sigopt_search" \
  "$@"
cp "$OUTPUT_DIR/sigopt_search/sigopt-pareto-front.csv" ./sigopt-pareto-front.csv
