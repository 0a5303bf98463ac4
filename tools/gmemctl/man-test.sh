#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Test the manual pages, as TAP: mandoc finds no mistake; each subcommand and each other program has
# a page, and the page has all its flags.
# Usage: man-test.sh GMEMCTL PROGRAM...
gmemctl=$(realpath "$1")
shift
cd "$(dirname "$0")" || exit
# shellcheck source-path=SCRIPTDIR/../base
. ../base/tap.sh

# details STATUS NAME OUTPUT
details() {
	echo "$3" | sed 's/^/# /'
}

echo "TAP version 13"
for page in man/*.8 ../broker/man/*.8 ../minivmm/minivmm.1 ../vhost/man/*.1; do
	# mandoc doesn't know pages that aren't installed.
	found=$(mandoc -T lint -W style "$page" 2>&1 | grep -v ': referenced manual not found: \|mandoc.db')
	[ -z "$found" ]
	result $? "$(basename "$page") is well-formed" "$found"
done
for command in $("$gmemctl" help | sed -n 's/^  \([a-z]*\) .*/\1/p'); do
	missing=$("$gmemctl" help "$command" | sed -n 's/^  \(-[-a-z]*\) .*/\1/p' |
		while read -r flag; do
			mandoc -T ascii "man/gmemctl-$command.8" 2>&1 | col -b |
				grep -qe "$flag" || echo "$flag is missing"
		done)
	[ -z "$missing" ]
	result $? "gmemctl-$command.8 has each flag" "$missing"
	mandoc -T ascii man/gmemctl.8 | col -b | grep -q "gmemctl-$command(8)"
	result $? "gmemctl.8 names $command" "it isn't there"
done
for program in "$@"; do
	name=$(basename "$program")
	# The page has exactly the flags of the program.
	has=$("$program" --help | sed -n 's/^  \(--[-a-z]*\) .*/\1/p' | sort)
	says=$(mandoc -T ascii ../*/man/"$name".[18] 2>&1 | col -bx |
		sed -n 's/^     \(--[-a-z]*\).*/\1/p' | sort)
	[ -n "$has" ] && [ "$has" = "$says" ]
	result $? "the page of $name has each flag" "$(printf 'it has\n%s\nthe page says\n%s' "$has" "$says")"
done
echo "1..$n"
exit $failed
