#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Install the library into a temporary folder, copy the example out of the tree, and build
# it with the installed library: with pkg-config and with CMake, shared and static. Prints TAP.
# Usage: install-test.sh FOLDER
# shellcheck disable=SC2317 # functions are called by name, in test_case
set -euo pipefail

here=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
prefix=$work/usr
nr=0 failed=0
soname=$(basename "$1"/libgmem-absl*.so.0)

# test_case NAME COMMAND...: run COMMAND in the background, because "set -e" has no effect
# in a command that is a condition.
test_case() {
	local name=$1 result=ok
	shift
	nr=$((nr + 1))
	"$@" >"$work/log" 2>&1 &
	if ! wait $!; then
		result="not ok"
		failed=1
		sed 's/^/# /' "$work/log"
	fi
	echo "$result $nr install.$name"
}

refute() {
	if "$@"; then return 1; fi
}

install_library() {
	make --no-print-directory -C "$here" OUT="$1" PREFIX="$prefix" install
	[ "$(readlink "$prefix/lib/$soname")" = "$(basename "$prefix"/lib/"$soname".*)" ]
	[ "$(readlink "$prefix/lib/libgmem.so")" = "$soname" ]
	refute grep -q debug_info <(readelf -S "$prefix/lib/libgmem.so" "$prefix/lib/libgmem.a")
}

# Install to a distribution's library folder below DESTDIR: no file names the build folder.
install_below_destdir() {
	local libdir
	libdir=/usr/lib/$(gcc -print-multiarch)
	make --no-print-directory -C "$here" OUT="$1" DESTDIR="$work/root" PREFIX=/usr \
		LIBDIR="$libdir" install
	[ -e "$work/root/usr/include/gmem/vm.h" ]
	[ -e "$work/root$libdir/$soname" ]
	grep -qx "libdir=$libdir" "$work/root$libdir/pkgconfig/gmem.pc"
	refute grep -rqF "$work" "$work/root$libdir/pkgconfig" \
		"$work/root$libdir/cmake"
	cmake_builds OFF "$work/root/usr"
}

# The linker must not give a program a library that was built with another release of Abseil.
names_abseil() {
	local release
	release=$(objdump -p "$prefix/lib/libgmem.so" |
		sed -n 's/^ *NEEDED *libabsl_.*\.so\.//p' | sort -u)
	[ "$soname" = "libgmem-absl$release.so.0" ]
	[ "$(objdump -p "$prefix/lib/libgmem.so" | awk '$1 == "SONAME" { print $2 }')" = "$soname" ]
}

# "make install" names the remedy where the linker's cache lacks the library.
says_linker_cache() {
	make --no-print-directory -C "$here" OUT="$1" PREFIX="$prefix" install |
		grep -q "set LD_LIBRARY_PATH=$prefix/lib"
	make --no-print-directory -C "$here" OUT="$1" DESTDIR="$work/other" PREFIX=/usr install |
		grep -q "run: ldconfig"
}

# The library exports only names of namespace gmem, and none of its internal namespaces.
exports_only_its_own() {
	nm --dynamic --defined-only --demangle "$prefix/lib/libgmem.so" | cut -d ' ' -f 3- |
		grep -v '^LIBGMEM_' >"$work/symbols"
	grep -q '^gmem::Vm::Map' "$work/symbols"
	refute grep -E '(gmem::|_)internal::|^(typeinfo |vtable )?(absl|std)' "$work/symbols"
}

# runs PROGRAM: succeed if the program fails to open a missing device, and names the remedy.
runs() {
	local status=0
	LD_LIBRARY_PATH=$prefix/lib "$1" /nonexistent 2>"$work/output" || status=$?
	cat "$work/output"
	[ "$status" = 1 ]
	grep -q "can't open /nonexistent: load the module gmem" "$work/output"
}

uses_shared() {
	readelf -d "$1" | grep -qF "[$soname]"
}

make_builds() {
	local out=$work/make-$1
	mkdir "$out"
	PKG_CONFIG_PATH=$prefix/lib/pkgconfig make -C "$work/example" OUT="$out" \
		STATIC="${1#shared}"
	runs "$out/describe"
	if [ "$1" = shared ]; then uses_shared "$out/describe"; else refute uses_shared "$out/describe"; fi
}

# cmake_builds STATIC PREFIX
cmake_builds() {
	local out
	out=$(mktemp -d "$work/cmake.XXXXXX")
	cmake -S "$work/example" -B "$out" -DCMAKE_PREFIX_PATH="$2" -DSTATIC="$1"
	cmake --build "$out"
	runs "$out/describe"
	if [ "$1" = OFF ]; then uses_shared "$out/describe"; else refute uses_shared "$out/describe"; fi
}

cp -r "$here/example" "$work/example"
echo "# install_test"
echo "TAP version 13"
echo "1..9"
test_case make_install install_library "$1"
test_case names_abseil names_abseil
test_case linker_cache says_linker_cache "$1"
test_case exports exports_only_its_own
test_case pkgconfig_shared make_builds shared
test_case pkgconfig_static make_builds static
test_case cmake_shared cmake_builds OFF "$prefix"
test_case cmake_static cmake_builds ON "$prefix"
test_case destdir install_below_destdir "$1"
exit $failed
