# SPDX-License-Identifier: GPL-2.0-only
# The parts of an initramfs.
# shellcheck shell=bash

# index_modules KERNEL_DIR: a kernel's package has no index of its modules, since Debian makes
# the index when it installs a kernel. Make one.
index_modules() {
	local release
	[ ! -f "$1/modules/modules.dep" ] || return 0
	release=$(basename "$(readlink -f "$1/modules")")
	/sbin/depmod -b "$1/root" "$release" 2>/dev/null ||
		die "can't index the modules of ${1##*/}"
}

# add_module ROOT KERNEL_DIR NAME: add a module, behind the modules that it depends on. The file
# ROOT/modules/order has the names in the order of loading.
add_module() {
	local root=$1 kernel_dir=$2 dep name file
	name=$(basename "$3" .ko)
	mkdir -p "$root/modules"
	touch "$root/modules/order"
	grep -qx "$name" "$root/modules/order" && return
	file=$(find "$kernel_dir/modules/" -name "$name.ko*" | head -n 1)
	[ -n "$file" ] || return 0
	sed -n "s|^[^:]*/$name\.ko[.a-z]*:||p" "$kernel_dir/modules/modules.dep" |
		tr ' ' '\n' | sed -n 's|.*/\(.*\)\.ko.*|\1|p' |
		while read -r dep; do add_module "$root" "$kernel_dir" "$dep"; done
	case $file in
	*.xz) xz -dc "$file" ;;
	*.zst) zstd -dcq "$file" ;;
	*) cat "$file" ;;
	esac >"$root/modules/$name.ko"
	echo "$name" >>"$root/modules/order"
}

# pack_initramfs ROOT: print the initramfs with the files of the folder
pack_initramfs() { (cd "$1" && find . | cpio -o -H newc --quiet) | gzip -1; }
