# SPDX-License-Identifier: GPL-2.0
# Shared by the scripts in this folder: messages, the cache, and packages taken
# from the machine's Debian mirror without touching the machine's own apt state.
# shellcheck shell=bash

set -euo pipefail

runner=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(cd "$runner/../.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/gmem

say() { echo "gmem: $*" >&2; }
die() { say "$*"; exit 1; }

# living TEXT COMMAND...: run a command that takes long and prints nothing of use, and say
# now and then that it lives. Its output appears if it fails.
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

# The suite whose 6.12 kernel fits this machine's compiler, and whose QEMU can
# run it. Fails with one line where there is none.
base_suite() {
	local arch
	arch=$(dpkg --print-architecture 2>/dev/null) || arch=unknown
	case $codename/$arch in
	debian-bookworm/amd64) echo bookworm-backports ;;
	debian-trixie/amd64) echo trixie ;;
	*) die "needs Debian 12 or 13 on amd64, this is ${codename:-unknown} on $arch" ;;
	esac
}

# The architecture, as Debian calls it, of the kernel NAME.
kernel_arch() {
	case $1 in
	arm64) echo arm64 ;;
	*) echo amd64 ;;
	esac
}

# What else make needs to know to build for the architecture.
make_for() {
	[ "$1" != arm64 ] || echo ARCH=arm64 CROSS_COMPILE=aarch64-linux-gnu-
}

# The mirror that apt on this machine is configured with.
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

# own_apt SUITE COMMAND... : an apt command that sees one suite of the mirror, or
# several ("trixie-backports+trixie"), if need be of another architecture
# ("trixie@arm64"), and no package of the machine's, and keeps its state in the
# cache. Release files may be out of date on a mirror that lags; their signatures
# are checked all the same. One at a time per suite.
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

# What apt says about a failure is in $cache/apt.log.
own_apt_update() {
	own_apt "$1" apt-get -qq update >"$cache/apt.log" 2>&1 ||
		die "can't reach the Debian mirror: is there a network?"
}

# fetch SUITE PACKAGE DIR: unpack a package below DIR.
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

# unpack_system ROOT SUITES PACKAGE...: unpack packages, and all that they depend on, into
# a folder of their own. Nothing is configured: programs run by the loader of that folder,
# or in a chroot. The suites' lists must be up to date.
unpack_system() {
	local root=$1 suites=$2 folder package
	shift 2
	say "fetch: $*, and what they need"
	mkdir -p "$root/archives/partial"
	# Nothing counts as installed there, so this takes the C library along.
	own_apt "$suites" apt-get -qq -y install --download-only --no-install-recommends \
		-o Dir::Cache::archives="$root/archives" -t "${suites%%+*}" "$@" \
		>"$cache/apt.log" 2>&1 || die "can't get $* from ${suites/+/ and }"
	# Some packages still have files there.
	for folder in bin sbin lib lib64; do
		mkdir -p "$root/usr/$folder"
		ln -s "usr/$folder" "$root/$folder"
	done
	for package in "$root"/archives/*.deb; do
		dpkg -x "$package" "$root"
	done
	rm -r "$root/archives"
	# For in_system.
	mkdir -p "$root/tmp" "$root/dev" "$root/proc"
	[ -e "$root/usr/bin/awk" ] || [ ! -e "$root/usr/bin/mawk" ] ||
		ln -s mawk "$root/usr/bin/awk"
}

# in_system ROOT COMMAND...: run a command in such a folder as root of its files, with the
# machine's devices and processes. Only root can.
in_system() {
	# shellcheck disable=SC2016 # expanded by the inner shell
	unshare --mount sh -c '
		mount --rbind /dev "$0/dev" && mount --bind /proc "$0/proc" && exec chroot "$0" "$@"' "$@"
}

# cached NAME FUNCTION ARGS...: the folder NAME in the cache, made by calling
# FUNCTION FOLDER ARGS... if it isn't there. What is interrupted leaves nothing
# that counts; who comes second waits.
cached() {
	local dir=$cache/$1 make=$2
	shift 2
	mkdir -p "$(dirname "$dir")"
	if [ ! -d "$dir" ]; then
		(
			# Bash drops this inside $(), where most callers are.
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
