#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Check the pages of Documentation/libgmem: run their commands, build their examples with
# the installed library, run them in virtual machines, and compare the blocks in the pages
# with the sources and with the output. Prints TAP.
# Usage: docs-test.sh FOLDER
set -euo pipefail

here=$(cd "$(dirname "$0")/.." && pwd)
top=$here/..
runner=$top/selftests/runner
out=$1
pages=("$top"/Documentation/libgmem/*.rst)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
result=$out/docs-test.output
# The commands of the pages must not inherit variables of the calling make.
unset OUT PREFIX DESTDIR STATIC MAKEFLAGS MFLAGS

samples() {
	python3 "$here/scripts/docs-samples.py" "$@"
}

# commands NAME FOLDER: run, in FOLDER, the commands that the pages show under that name,
# in order
commands() {
	local commands
	commands=$(samples shell "$1" "${pages[@]}")
	if ! (cd "$2" && bash -euxc "$commands") >"$work/log" 2>&1; then
		sed 's/^/# /' "$work/log"
		echo "Bail out! the commands under \"$1\" failed"
		exit 1
	fi
}

# run KERNEL: run all commands whose output the pages show, in one virtual machine
run() {
	local kernel=$1 files=() file insmod=()
	for file in "$work"/gmem-example/*; do
		[ ! -f "$file" ] || files+=(--file "$file")
	done
	[ "$kernel" != base ] || insmod=(--insmod "$("$runner/build-module" base)")
	samples commands "$kernel" "${pages[@]}" >"$work/commands"
	# shellcheck disable=SC2016 # expanded in the virtual machine
	"$runner/run" --kernel "$kernel" ${insmod[@]+"${insmod[@]}"} "${files[@]}" \
		--file "$work/commands" --log "$out/docs-test-$kernel.console" -- sh -c '
		while read -r command; do
			echo "$ $command"
			$command 2>&1 </dev/null
			echo "\$? $?"
		done <commands' >>"$result"
}

mkdir -p "$out"
: >"$result"
commands reference "$top"
OUT=$out PREFIX=$work/usr commands install "$top"
# Link libgmem statically: the virtual machine doesn't have it.
export STATIC=1 PKG_CONFIG_PATH=$work/usr/lib/pkgconfig
HOME=$work commands build "$top"
commands image "$work/gmem-example"
programs=("$work"/gmem-example/*.{cc,c,rs})
programs=("${programs[@]##*/}")
make --no-print-directory -C "$work/gmem-example" -j "$(nproc)" "${programs[@]%.*}" \
	CXXFLAGS="-O1 -Wall -Wextra -Werror" CFLAGS="-O1 -Wall -Wextra -Werror" >"$work/log" 2>&1 || {
	sed 's/^/# /' "$work/log"
	echo "Bail out! the examples don't build"
	exit 1
}
for kernel in $(samples kernels "${pages[@]}"); do
	run "$kernel"
done
echo "# docs_test"
samples check "$here/example" "$result" "${pages[@]}"
