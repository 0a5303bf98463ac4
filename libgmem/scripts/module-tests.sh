#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Run test programs in a virtual machine with gmem.ko and its mock provider; prints TAP.
# Usage: module-tests.sh FOLDER TEST...
#
# Programs built with --coverage write their counts into the folder in which they were
# built. The virtual machine prints the counts as text after the tests' output, and this
# script unpacks them into that folder.
set -euo pipefail

here=$(cd "$(dirname "$0")/.." && pwd)
runner=$here/../selftests/runner
out=$1
shift

module=$("$runner/build-module" base test)
files=(--file "$here/scripts/run-tests.sh")
names=()
for test in "$@"; do
	files+=(--file "$test")
	names+=("./$(basename "$test")")
done

# shellcheck disable=SC2016 # expanded in the virtual machine
script='GCOV_PREFIX=/tmp/gcov ./run-tests.sh "$@"; status=$?
[ ! -d /tmp/gcov ] || { echo "# gcov"; tar -C /tmp/gcov -cz . | base64; }
exit $status'

status=0
"$runner/run" --insmod "$module" "${files[@]}" --log "$out/module-tests.console" \
	-- sh -c "$script" sh "${names[@]}" >"$out/module-tests.log" || status=$?
sed '/^# gcov$/,$d' "$out/module-tests.log"
if grep -q '^# gcov$' "$out/module-tests.log"; then
	sed '1,/^# gcov$/d' "$out/module-tests.log" | base64 -d | tar -C / -xz
fi
exit $status
