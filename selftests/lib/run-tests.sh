#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# run-tests [NAME|'NAME OPTION...']...: run the named tests of this folder, or all, in
# turn. Fails if one fails. Works with busybox.
#
# GMEM_SCALE   divides the counts of the long tests; set here on a slow kernel
# GMEM_SAMPLE  run each test on one page size, 4 KiB and 2 MiB in turns; on live windows,
#              on both, since few kernels have live windows with huge pages

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

# sample NAME: the options that choose, if the program's fixtures have both sizes
sample() {
	./"$1" -l 2>&1 | awk '
		function flush(	i, j, size) {
			for (i = 0; i < tests; i++) {
				if (!variants)
					print "-r " fixture "." test[i]
				for (j = 0; j < variants; j++) {
					size = i % 2 ? "_2m_" : "_4k_"
					if (("_" variant[j] "_") !~ /_(4k|2m)_/ ||
					    (fixture " " variant[j]) ~ /(^| )live_/ ||
					    index("_" variant[j] "_", size))
						print "-r " fixture "." variant[j] "." test[i]
				}
			}
			tests = variants = 0
		}
		/^#/ { next }
		/^---/ { flush(); next }
		{
			at = 1
			if (!/^ /)
				fixture = $(at++)
			# The columns begin at 1, 22 and 48.
			if (substr($0, 22) ~ /^[^ ]/)
				variant[variants++] = $(at++)
			if (at <= NF)
				test[tests++] = $at
		}
		END { flush() }'
}

failed=
for test in "$@"; do
	begin=$(cut -d. -f1 /proc/uptime)
	echo "# $test"
	options=
	[ -z "$GMEM_SAMPLE" ] || options=$(sample "${test%% *}")
	# shellcheck disable=SC2086 # options follow the name
	./$test $options || failed="$failed ${test%% *}"
	echo "# ${test%% *} took $(($(cut -d. -f1 /proc/uptime) - begin)) s"
done

if [ -n "$failed" ]; then
	echo "# failed:$failed"
	exit 1
fi
