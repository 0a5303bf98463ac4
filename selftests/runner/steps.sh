# SPDX-License-Identifier: GPL-2.0-only
# Steps that parts of several areas are made of. A step uses "part", the name of the part
# that runs, and the folders "top", "out" and "state".
# shellcheck shell=bash

# module FLAVOUR: where build-module leaves the module: base, base-test, arm64-test, ...
module() { echo "$out/$1/kernel/gmem.ko"; }

# build_module KERNEL [test]
build_module() { "$runner/build-module" "$@" >/dev/null; }

# boot KERNEL TIMEOUT MODULE FILE... -- COMMAND...: run the command in a virtual machine
# that has the files, and has loaded the module, if one is named. A file module:NAME is a
# module of the kernel, loaded if the kernel has it. KERNEL may be NAME:PLATFORM: under the
# EL2 monitor.
boot() {
	local kernel=$1 timeout=$2 module=$3 memory=3G options=()
	shift 3
	case $kernel in
	*:*)
		# The monitor's database has no room for more.
		options=(--el2 "${kernel#*:}") kernel=${kernel%:*} memory=1G
		;;
	esac
	[ -z "$module" ] || options+=(--insmod "$module" --file "$module")
	while [ "$1" != -- ]; do
		case $1 in
		module:*) options+=(--module "${1#module:}") ;;
		*) options+=(--file "$1") ;;
		esac
		shift
	done
	"$runner/run" --kernel "$kernel" --timeout "$timeout" "${options[@]}" \
		--log "$state/$part.console" --memory "$memory" "$@"
}

# loops: the variables that make tests fewer and loops shorter, as they are set here, for env
loops() {
	local name
	for name in GMEM_SAMPLE GMEM_SCALE GMEM_RACE_SECONDS GMEM_MODEL_SECONDS \
		GMEM_RANDOM_SECONDS; do
		[ -z "${!name:-}" ] || echo "$name=${!name}"
	done
}

# in_make FOLDER ARGUMENT...: make in a folder of the tree, with all CPUs
in_make() {
	local folder=$1
	shift
	make --no-print-directory -j"$(nproc)" -C "$top/$folder" "$@"
}

make_library() { in_make libgmem OUT="$out/libgmem" "$@"; }
make_tools() { in_make tools OUT="$out/tools" LIBGMEM="$out/libgmem" "$@"; }

# A test that prints lines of its own, not TAP: one result.
# as_test NAME COMMAND...
as_test() {
	local name=$1 status=0
	shift
	echo "TAP version 13"
	echo "1..1"
	"$@" 2>&1 | sed 's/^/# /' || status=$?
	if [ $status = 0 ]; then
		echo "ok 1 $name"
	else
		echo "not ok 1 $name"
	fi
	return $status
}
