#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# run-tests [NAME|'NAME OPTION...']...: run the named tests of this folder, or all, in
# turn. Fails if one fails. Works with busybox.
#
# GMEM_SCALE   divides the counts of the long tests; set here on a slow kernel

cd "$(dirname "$0")" || exit 1

if [ -z "$GMEM_SCALE" ]; then
	GMEM_SCALE=1
	# Only a kernel full of checks has it; it is about ten times slower.
	[ -e /sys/kernel/debug/kmemleak ] && GMEM_SCALE=10
fi
export GMEM_SCALE

if [ ! -e /dev/gmem ]; then
	echo "run-tests: no /dev/gmem: is gmem.ko loaded?" >&2
	exit 1
fi

[ $# -gt 0 ] || set -- *_test

failed=
for test in "$@"; do
	begin=$(cut -d. -f1 /proc/uptime)
	echo "# $test"
	# shellcheck disable=SC2086 # options follow the name
	./$test || failed="$failed ${test%% *}"
	echo "# ${test%% *} took $(($(cut -d. -f1 /proc/uptime) - begin)) s"
done

if [ -n "$failed" ]; then
	echo "# failed:$failed"
	exit 1
fi
