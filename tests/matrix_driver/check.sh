#!/bin/sh
# SPDX-License-Identifier: MIT
# check.sh FOLDER MODEL VARIANT TEST CASE...: run test_stages on the cases whose names contain the
# words, on the simulated matrices of a model; the variant of attend must have run on each of them,
# and it alone, besides the scalar one.
here=$(dirname "$0")
folder=$1
model=$2
variant=$3
program=$4
shift 4
output=$(mktemp)
trap 'rm -f "$output"' EXIT
status=0
for words; do
    DRAFT_CASES=$words CK_RUN_CASE=cases DRAFT_VERBOSE=1 \
        "$here/run.sh" "$folder" "$model" "$program" vulkan >"$output" 2>&1 || status=1
    grep -v 'NEVER TESTED HERE' "$output"
    if ! grep -qE "attend\[$variant\] +[1-9][0-9]* runs" "$output"; then
        echo "attend[$variant] did not run on: $words"
        status=1
    fi
done
exit $status
