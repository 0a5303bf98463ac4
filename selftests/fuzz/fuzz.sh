#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# fuzz.sh OPTION...: run the fuzzer with these options, in the virtual machine. Then print which
# code of the module has run, if the module notes that, for runner/cover.

./fuzz "$@"
status=$?

cover=/sys/kernel/debug/gmem/cover
if [ -e $cover ]; then
	for section in /sys/module/gmem/sections/.text*; do
		echo "# section ${section##*/} $(cat "$section")"
	done
	sed 's/^/# ran /' $cover
fi
exit $status
