#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# initramfs.sh PROGRAM: write an initramfs whose /init is that program: an archive in
# the format that the kernel's early-userspace/buffer-format.rst describes.

# pad SIZE: zeros, up to a multiple of 4
pad() {
	head -c $(((4 - $1 % 4) % 4)) /dev/zero
}

# header NAME MODE SIZE: print the header of a file that has one link and belongs to user 0
header() {
	printf '070701'
	printf '%08x' 0 "$2" 0 0 1 0 "$3" 0 0 0 0 $((${#1} + 1)) 0
	printf '%s\0' "$1"
	pad $((110 + ${#1} + 1))
}

size=$(wc -c <"$1")
header init 0100755 "$size"
cat "$1"
pad "$size"
header 'TRAILER!!!' 0 0
