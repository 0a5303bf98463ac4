#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# fuzz.sh OUT SECONDS FUZZER...: run each fuzzer for SECONDS and print the results as TAP.
# A fuzzer starts from the seeds and from the inputs that earlier runs kept in OUT/corpus.

out=$1
seconds=$2
shift 2

for seeds in "$out"/tests/*/fuzz/seeds; do
	"$seeds" "$out/seeds" || exit
done

echo "TAP version 13"
echo "1..$#"
status=0
number=0
for fuzzer in "$@"; do
	number=$((number + 1))
	name=$(basename "$fuzzer")
	corpus=$out/corpus/$name
	mkdir -p "$corpus"
	if "$fuzzer" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -max_len=32768 \
		-artifact_prefix="$out/$name-" -print_final_stats=1 \
		"$corpus" "$out/seeds/${name%_fuzz}" >"$out/$name.log" 2>&1; then
		echo "ok $number $name # $(awk '/number_of_executed_units/ { print $2 }' \
			"$out/$name.log") inputs in $seconds s"
	else
		status=1
		tail -n 60 "$out/$name.log" | sed 's/^/# /'
		echo "not ok $number $name"
	fi
done
exit $status
