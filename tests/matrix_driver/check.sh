#!/bin/sh
# SPDX-License-Identifier: MIT
# check.sh FOLDER MODEL STAGE VARIANTS TEST CASE...: run test_stages on the cases whose names contain
# the words, on the simulated matrices of a model. Each of these variants of the stage, with commas
# between them, must have run; and the default plans must have taken one of them, after its self-test.
here=$(dirname "$0")
folder=$1
model=$2
stage=$3
variants=$4
program=$5
shift 5
output=$(mktemp)
trap 'rm -f "$output"' EXIT
status=0
for words; do
    DRAFT_CASES=$words CK_RUN_CASE=cases DRAFT_VERBOSE=2 \
        "$here/run.sh" "$folder" "$model" "$program" vulkan >>"$output" 2>&1 || status=1
done
grep -v -e 'NEVER TESTED HERE' -e ' 0\.0' "$output"
for variant in $(echo "$variants" | tr , ' '); do
    if ! grep -qE "${stage}\[$variant\] +[1-9][0-9]* runs" "$output"; then
        echo "${stage}[$variant] did not run"
        status=1
    fi
done
chosen=$(grep "${stage}\[.*is chosen" "$output")
if [ -z "$chosen" ] || echo "$chosen" | grep -vE "\[($(echo "$variants" | tr , '|'))\] is"; then
    echo "a default plan did not take one of $variants"
    status=1
fi
exit $status
