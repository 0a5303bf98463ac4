#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# run-tests.sh TEST...: run GoogleTest programs in turn and print their results as TAP.
# Fails if one fails. Works with busybox.

# shellcheck disable=SC2016 # awk expands these
tap='
/^\[==========\] Running / { print "TAP version 13"; print "1.." $3 }
/^\[       OK \]/ { print "ok " ++n " " $4; next }
/: Skipped$/ { getline why; next }
/^\[  SKIPPED \] .*ms\)$/ { print "ok " ++n " " $4 " # SKIP " why; next }
/^\[  FAILED  \] .*ms\)$/ { print "not ok " ++n " " $4; next }
/^$/ || /^Running main/ || /^\[( RUN      |----------|==========|  PASSED  )\]/ { next }
{ print "# " $0 }
'

failed=
for test in "$@"; do
	name=${test##*/tests/}
	echo "# ${name#./}"
	"$test" --gtest_color=no >"/tmp/gtest.$$" 2>&1 || failed="$failed $test"
	awk "$tap" "/tmp/gtest.$$"
	rm -f "/tmp/gtest.$$"
done

if [ -n "$failed" ]; then
	echo "# failed:$failed"
	exit 1
fi
