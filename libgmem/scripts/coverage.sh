#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Print the share of lines that the tests reached, for each source and for all together.
# Usage: coverage.sh FOLDER SOURCE...
set -euo pipefail

out=$1
shift
for source in "$@"; do
	gcov --no-output --object-directory "$out/obj/${source%.cc}.o" "$source" 2>/dev/null |
		grep -A 1 "^File '$source'$" | sed -n "s|^Lines executed:\(.*\)% of \(.*\)|$source \1 \2|p"
done | awk '
	{ lines += $3; reached += $2 * $3 / 100; printf "%6.1f %%  %5d  %s\n", $2, $3, $1 }
	END {
		if (!lines) exit 1
		printf "%6.1f %%  %5d  all\n", 100 * reached / lines, lines
	}'
