#!/bin/sh
# SPDX-License-Identifier: MIT
# faults.sh FOLDER TEST FAULT WORDS: plant a fault (plant.c) in the shader for the matrices of AMD:
# a case of test_stages must fail, and say these words.
here=$(dirname "$0")
output=$(mktemp)
trap 'rm -f "$output"' EXIT
if DRAFT_MATRIX_FAULT=$3 DRAFT_CASES='tile 2x3x4' CK_RUN_CASE=cases \
    "$here/run.sh" "$1" amd "$2" vulkan >"$output" 2>&1; then
    echo "nothing was found wrong"
    status=1
fi
cat "$output"
for words in "planted: $3" "$4" 'attend\[coopmat_16x16x16\]'; do
    if ! grep -q "$words" "$output"; then
        echo "nothing said: $words"
        status=1
    fi
done
exit "${status:-0}"
