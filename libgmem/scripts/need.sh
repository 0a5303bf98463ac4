#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# need.sh MODULE...: fail, with one line, if pkg-config doesn't know all these modules.

if ! command -v pkg-config >/dev/null; then
	echo "gmem: install pkg-config" >&2
	exit 1
fi
pkg-config --exists "$@" && exit

missing=
for module in "$@"; do
	pkg-config --exists "$module" || missing="$missing $module"
done
echo "gmem: install the libraries of these pkg-config modules:$missing" >&2
exit 1
