#!/bin/sh
# SPDX-License-Identifier: MIT
# symbols.sh NM HEADER... -- LIBRARY...: each global symbol has the prefix; a shared library exports what
# the headers declare and nothing else.
nm=$1
shift
headers=
while [ "$1" != -- ]; do
    headers="$headers $(cat "$1")"
    shift
done
shift
status=0
declared=$(echo "$headers" | tr '\n' ' ' | grep -oE 'DRAFT_EXPORT[^;]*' | grep -oE 'draft_[a-z_]+ *\(' |
    tr -d ' (' | sort -u)
for library; do
    [ -e "$library" ] || { echo "$library is not there"; status=1; continue; }
    case $library in
    *.a) dynamic= ;;
    *) dynamic=-D ;;
    esac
    symbols=$("$nm" $dynamic --extern-only --defined-only "$library" |
        awk 'NF == 3 && $2 ~ /[A-Z]/ {print $3}' | grep -vE '^(__asan|__odr_asan|__ubsan|_init$|_fini$)' |
        sort -u)
    stray=$(echo "$symbols" | grep -v '^draft_')
    [ -z "$stray" ] || { echo "$library: without the prefix:" $stray; status=1; }
    [ -n "$symbols" ] || { echo "$library: no symbols at all"; status=1; }
    if [ -n "$dynamic" ] && [ "$symbols" != "$declared" ]; then
        echo "$library: exports and headers differ:"
        echo "$symbols" >symbols.exported
        echo "$declared" | diff symbols.exported -
        status=1
    fi
    echo "$library: $(echo "$symbols" | wc -l) global symbols"
done
exit $status
