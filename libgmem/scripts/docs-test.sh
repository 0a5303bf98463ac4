#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Do what Documentation/libgmem says: run its commands, build its examples with the
# library installed, run them in virtual machines, and compare what the pages show with
# the sources and with what was printed. Prints TAP.
# Usage: docs-test.sh FOLDER
set -euo pipefail

here=$(cd "$(dirname "$0")/.." && pwd)
top=$here/..
vm=$top/selftests/runner
out=$1
pages=("$top"/Documentation/libgmem/*.rst)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
result=$out/docs-test.output
# What the calling make was told is not for the commands of the pages.
unset OUT PREFIX DESTDIR STATIC MAKEFLAGS MFLAGS

samples() {
	python3 "$here/scripts/docs-samples.py" "$@"
}

# commands NAME FOLDER: those that the pages show under that name, in their order
commands() {
	local commands
	commands=$(samples shell "$1" "${pages[@]}")
	if ! (cd "$2" && bash -euxc "$commands") >"$work/log" 2>&1; then
		sed 's/^/# /' "$work/log"
		echo "Bail out! the commands under \"$1\" failed"
		exit 1
	fi
}

# run KERNEL: all whose output the pages show, in one virtual machine
run() {
	local kernel=$1 files=() file insmod=()
	for file in "$work"/gmem-example/*; do
		[ ! -f "$file" ] || files+=(--file "$file")
	done
	[ "$kernel" != base ] || insmod=(--insmod "$("$vm/build-module" base)")
	samples commands "$kernel" "${pages[@]}" >"$work/commands"
	# shellcheck disable=SC2016 # expanded in the virtual machine
	"$vm/run" --kernel "$kernel" ${insmod[@]+"${insmod[@]}"} "${files[@]}" \
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
# With libgmem inside: it isn't installed where they run.
export STATIC=1 PKG_CONFIG_PATH=$work/usr/lib/pkgconfig
HOME=$work commands build "$top"
commands image "$work/gmem-example"
programs=("$work"/gmem-example/*.cc)
programs=("${programs[@]##*/}")
make --no-print-directory -C "$work/gmem-example" -j "$(nproc)" "${programs[@]%.cc}" \
	CXXFLAGS="-O1 -Wall -Wextra -Werror" >"$work/log" 2>&1 || {
	sed 's/^/# /' "$work/log"
	echo "Bail out! the examples don't build"
	exit 1
}
for kernel in $(samples kernels "${pages[@]}"); do
	run "$kernel"
done
echo "# docs_test"
samples check "$here/example" "$result" "${pages[@]}"
