#!/bin/sh
# SPDX-License-Identifier: MIT
# check.sh FOLDER MODEL VARIANTS TEST CASE...: run test_stages on the cases whose names contain the
# words, on the simulated matrices of a model. Each of the variants of attend, with commas between
# them, must have run; and the default plans must have taken one of them, after its self-test.
here=$(dirname "$0")
folder=$1
model=$2
variants=$3
program=$4
shift 4
output=$(mktemp)
trap 'rm -f "$output"' EXIT
status=0
for words; do
    DRAFT_CASES=$words CK_RUN_CASE=cases DRAFT_VERBOSE=2 \
        "$here/run.sh" "$folder" "$model" "$program" vulkan >>"$output" 2>&1 || status=1
done
grep -v -e 'NEVER TESTED HERE' -e ' 0\.0' "$output"
for variant in $(echo "$variants" | tr , ' '); do
    if ! grep -qE "attend\[$variant\] +[1-9][0-9]* runs" "$output"; then
        echo "attend[$variant] did not run"
        status=1
    fi
done
others="attend\[($(echo "$variants" | tr , '|'))\] is chosen"
if ! grep -q 'is chosen' "$output" || grep 'is chosen' "$output" | grep -vE "$others"; then
    echo "a default plan did not take one of $variants"
    status=1
fi
exit $status
