# SPDX-License-Identifier: MIT OR Apache-2.0
# For the scripts that build packages: the version, the time, and a copy of the tree.
# shellcheck shell=bash

set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(cd "$here/../.." && pwd)

die() {
	echo "gmem: $*" >&2
	exit 1
}

# value NAME: of a variable of uapi/version.mk
value() { sed -n "s/^$1 := //p" "$top/uapi/version.mk"; }

version=$(value GMEM_VERSION)
# The time of all files in the packages.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$top" log -1 --format=%ct 2>/dev/null ||
	stat -c %Y "$top/Documentation/CHANGELOG.md")}
export SOURCE_DATE_EPOCH

# The files of the tree, without what was built in it.
list_files() {
	if git -C "$top" rev-parse --git-dir >/dev/null 2>&1; then
		git -C "$top" ls-files -z --cached --others --exclude-standard --deduplicate
	else
		(cd "$top" && find . -path ./build -prune -o -type f ! -name '*.o' ! -name '*.ko' \
			! -name '*.mod*' ! -name '.*.cmd' ! -name modules.order \
			! -name Module.symvers -print0)
	fi
}

# make_tree FOLDER: copy these files into a new folder
make_tree() {
	mkdir -p "$1"
	# git also lists files that someone has removed.
	(cd "$top" && list_files | while IFS= read -r -d '' file; do
		[ ! -e "$file" ] || printf '%s\0' "$file"
	done | tar -c --null -T -) | tar -x -C "$1"
}

# make_tarball FILE: the same as an archive, whose only folder is gmem-VERSION
make_tarball() {
	local work
	work=$(mktemp -d)
	make_tree "$work/gmem-$version"
	tar -cz -C "$work" --sort=name --owner=0 --group=0 --mtime="@$SOURCE_DATE_EPOCH" \
		-f "$1" "gmem-$version"
	rm -r "$work"
}

# new_folder FOLDER: an empty folder. Removes only what an earlier build has made there.
new_folder() {
	local mark=$1/.gmem-packages
	[ ! -e "$1" ] || [ -e "$mark" ] || [ -z "$(ls -A "$1")" ] ||
		die "$1 has files that are no packages of an earlier build: name another folder"
	rm -rf "$1"
	mkdir -p "$1"
	: >"$mark"
}
