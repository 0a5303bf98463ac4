#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Run test programs in a virtual machine with gmem.ko and its mock provider; prints TAP.
# Usage: module-tests.sh FOLDER TEST...
#
# Programs built with --coverage would write what they count into the folder that they
# were built in. It comes from the virtual machine as text, behind the tests' output.
set -euo pipefail

here=$(cd "$(dirname "$0")/.." && pwd)
vm=$here/../selftests/runner
out=$1
shift

module=$("$vm/build-module" base test)
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
"$vm/run" --insmod "$module" "${files[@]}" --log "$out/module-tests.console" \
	-- sh -c "$script" sh "${names[@]}" >"$out/module-tests.log" || status=$?
sed '/^# gcov$/,$d' "$out/module-tests.log"
if grep -q '^# gcov$' "$out/module-tests.log"; then
	sed '1,/^# gcov$/d' "$out/module-tests.log" | base64 -d | tar -C / -xz
fi
exit $status
