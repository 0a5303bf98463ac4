# SPDX-License-Identifier: GPL-2.0-only
# The scripts in this folder source this file. It has messages, the cache, and functions that
# take packages from the machine's Debian mirror and leave the machine's own apt state alone.
# shellcheck shell=bash

set -euo pipefail

runner=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(cd "$runner/../.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/gmem

say() { echo "gmem: $*" >&2; }
die() { say "$*"; exit 1; }

# living TEXT COMMAND...: run a long command, and print every 15 s how long it has run. Prints
# the command's output only if the command fails.
living() {
	local text=$1 begin=$SECONDS ticker log status=0
	shift
	say "$text"
	log=$(mktemp)
	(while sleep 15; do say "$text: $((SECONDS - begin)) s so far"; done) &
	ticker=$!
	"$@" >"$log" 2>&1 || status=$?
	kill $ticker
	[ $status = 0 ] || cat "$log" >&2
	rm -f "$log"
	return $status
}

# shellcheck disable=SC1091
codename=$(. /etc/os-release 2>/dev/null && echo "${ID:-}-${VERSION_CODENAME:-}") ||
	true

# Print the suite whose 6.12 kernel fits this machine's compiler, and whose QEMU can boot that
# kernel. On a machine without such a suite, prints one line and fails.
base_suite() {
	local arch
	arch=$(dpkg --print-architecture 2>/dev/null) || arch=unknown
	case $codename/$arch in
	debian-bookworm/amd64) echo bookworm-backports ;;
	debian-trixie/amd64) echo trixie ;;
	*) die "needs Debian 12 or 13 on amd64, this is ${codename:-unknown} on $arch" ;;
	esac
}

# kernel_arch NAME: print the architecture of the kernel NAME, as Debian calls it.
kernel_arch() {
	case $1 in
	arm64 | arm64-16k | arm64-64k | arm64-guest) echo arm64 ;;
	*) echo amd64 ;;
	esac
}

# make_for ARCHITECTURE: print the arguments of make that select the architecture, if make
# needs any.
make_for() {
	[ "$1" != arm64 ] || echo ARCH=arm64 CROSS_COMPILE=aarch64-linux-gnu-
}

# Print the address of the mirror that this machine's apt uses.
mirror() {
	local uri
	# shellcheck disable=SC2016 # apt's own format language
	uri=$(apt-get indextargets --format '$(CODENAME) $(REPO_URI)' \
		"Created-By: Packages" 2>/dev/null |
		awk -v want="${codename#debian-}" '$1 == want { print $2; exit }')
	[ -n "$uri" ] ||
		die "apt knows no Debian mirror: run apt-get update, with a network"
	echo "$uri"
}

# own_apt SUITE COMMAND...: run an apt command with a state of its own, which is in the cache.
# The command sees one suite of the mirror, or several ("trixie-backports+trixie"), also of
# another architecture ("trixie@arm64"), and none of the machine's packages. A mirror that
# lags may have release files that are out of date: apt accepts those, and checks their
# signatures. A lock lets one command run at a time for each suite.
own_apt() {
	local suite=$1 dir=$cache/apt/$1
	shift
	mkdir -p "$dir/lists/partial" "$dir/archives/partial"
	(
		flock 8
		own_apt_config "$suite" "$dir"
		APT_CONFIG=$dir/apt.conf "$@"
	) 8>"$dir/lock"
}

own_apt_config() {
	local suites=$1 dir=$2 arch=amd64 mirror suite
	mirror=$(mirror)
	case $suites in
	*@*) arch=${suites#*@} suites=${suites%@*} ;;
	esac
	: >"$dir/status"
	: >"$dir/sources.list"
	for suite in ${suites//+/ }; do
		cat >>"$dir/sources.list" <<-EOF
			deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main
		EOF
	done
	cat >"$dir/apt.conf" <<-EOF
		Dir::State "$dir";
		Dir::State::status "$dir/status";
		Dir::State::lists "$dir/lists";
		Dir::Cache "$dir";
		Dir::Etc::sourcelist "$dir/sources.list";
		Dir::Etc::sourceparts "/dev/null";
		Dir::Etc::preferencesparts "/dev/null";
		Acquire::Check-Valid-Until "false";
		Acquire::Languages "none";
		APT::Architecture "$arch";
		APT::Architectures "$arch";
		APT::Sandbox::User "root";
		APT::Update::Error-Mode "any";
	EOF
}

# Update the lists of a suite. On a failure, $cache/apt.log has apt's messages.
own_apt_update() {
	own_apt "$1" apt-get -qq update >"$cache/apt.log" 2>&1 ||
		die "can't reach the Debian mirror: is there a network?"
}

# fetch SUITE PACKAGE DIR: download a package and unpack it below DIR.
fetch() {
	local suite=$1 package=$2 dir=$3 tmp
	tmp=$(mktemp -d "$cache/fetch.XXXXXX")
	say "fetch: $package"
	# In a subshell: apt-get download writes to the current folder.
	if ! (cd "$tmp" && own_apt "$suite" apt-get -qq download "$package" &&
		dpkg -x ./*.deb "$dir") >"$cache/apt.log" 2>&1; then
		rm -rf "$tmp"
		die "can't get the package $package from $suite"
	fi
	rm -rf "$tmp"
}

# unpack_system ROOT SUITES PACKAGE...: unpack packages and all their dependencies into the
# folder ROOT, without their installation scripts. To run a program of ROOT, start it by
# ROOT's loader or with in_system. Call own_apt_update before this.
unpack_system() {
	local root=$1 suites=$2 folder package
	shift 2
	say "fetch: $* and their dependencies"
	mkdir -p "$root/archives/partial"
	# apt takes no package for installed, so it downloads the C library, too.
	own_apt "$suites" apt-get -qq -y install --download-only --no-install-recommends \
		-o Dir::Cache::archives="$root/archives" -t "${suites%%+*}" "$@" \
		>"$cache/apt.log" 2>&1 || die "can't get $* from ${suites/+/ and }"
	# Some packages still have files in these folders.
	for folder in bin sbin lib lib64; do
		mkdir -p "$root/usr/$folder"
		ln -s "usr/$folder" "$root/$folder"
	done
	for package in "$root"/archives/*.deb; do
		dpkg -x "$package" "$root"
	done
	rm -r "$root/archives"
	# in_system needs these.
	mkdir -p "$root/tmp" "$root/dev" "$root/proc"
	[ -e "$root/usr/bin/awk" ] || [ ! -e "$root/usr/bin/mawk" ] ||
		ln -s mawk "$root/usr/bin/awk"
}

# in_system ROOT COMMAND...: run a command in a chroot in the folder of unpack_system, with the
# machine's devices and processes. Only root can do this.
in_system() {
	# shellcheck disable=SC2016 # expanded by the inner shell
	unshare --mount sh -c '
		mount --rbind /dev "$0/dev" && mount --bind /proc "$0/proc" && exec chroot "$0" "$@"' "$@"
}

# id_of WORD...: print a short name for these words, for the name of a folder in the cache.
id_of() {
	printf '%s\n' "$@" | sha256sum | cut -c 1-8
}

# cached NAME FUNCTION ARGS...: print the folder NAME of the cache. If the cache has none, calls
# FUNCTION FOLDER ARGS..., which fills FOLDER; FOLDER becomes NAME only when FUNCTION has
# succeeded. A second caller waits for the first.
cached() {
	local dir=$cache/$1 make=$2
	shift 2
	mkdir -p "$(dirname "$dir")"
	if [ ! -d "$dir" ]; then
		(
			# Most callers run inside of $(), where bash has dropped this option.
			set -e
			flock 9
			[ ! -d "$dir" ] || exit 0
			rm -rf "$dir.new"
			mkdir "$dir.new"
			"$make" "$dir.new" "$@" >&2
			mv "$dir.new" "$dir"
		) 9>"$dir.lock"
		[ -d "$dir" ] || exit 1
	fi
	echo "$dir"
}
