# SPDX-License-Identifier: GPL-2.0-only
# Results for tests that are shell scripts; busybox is enough. A script that sources this defines
# "details", which gets the arguments of "result" and prints more about a failure. It ends with
# "exit $failed".
# shellcheck shell=sh

n=0
failed=0

# result STATUS NAME [OUTPUT]: the next result, as TAP
result() {
	n=$((n + 1))
	if [ "$1" = 0 ]; then
		echo "ok $n $2"
	else
		echo "not ok $n $2"
		details "$@"
		failed=1
	fi
}

# check NAME COMMAND...: the result of a command. Its output is in the file "$work/output", which is
# OUTPUT for "details".
check() {
	check_name=$1
	shift
	check_status=0
	"$@" >"$work/output" 2>&1 || check_status=$?
	result "$check_status" "$check_name" "$work/output"
}

# wait_for WORDS...: wait until the command succeeds, for 10 seconds at most
wait_for() {
	for _ in $(seq 100); do
		"$@" && return
		sleep 0.1
	done
	return 1
}
