#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Shared libraries with one soname must have one ABI, or a program that was linked with one of them
# breaks with the other. Compares builds by libabigail, and prints TAP.
# Usage: abi-test.sh LIBRARY OTHER
set -euo pipefail

soname() { objdump -p "$1" | awk '$1 == "SONAME" { print $2 }'; }

echo "TAP version 13"
echo "1..1"
mine=$(soname "$1") other=$(soname "$2")
if [ "$mine" != "$other" ]; then
	echo "ok 1 $mine and $other have different sonames"
	exit
fi
# Additions do no harm. Each other change counts: abidiff has a bit for incompatible ones in its
# status, but doesn't set it for a type that changed its size.
if report=$(abidiff --no-added-syms --drop-private-types "$1" "$2" 2>&1); then
	echo "ok 1 one ABI for $mine"
	exit
fi
head -n 50 <<<"$report" | sed 's/^/# /'
echo "not ok 1 one ABI for $mine"
exit 1
