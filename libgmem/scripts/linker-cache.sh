#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Let programs find a shared library that was just installed, or say what it takes.
# Usage: linker-cache.sh LIBDIR NAME [DESTDIR]
PATH=$PATH:/sbin:/usr/sbin
libdir=$1 name=$2

if [ -n "${3:-}" ]; then
	echo "gmem: on the machine that gets these files, run: ldconfig"
	exit
fi
ldconfig 2>/dev/null
ldconfig -p 2>/dev/null | grep -qF "$libdir/$name" ||
	echo "gmem: programs don't find $name in $libdir by themselves: set LD_LIBRARY_PATH=$libdir," \
		"or add $libdir to /etc/ld.so.conf and run ldconfig"
