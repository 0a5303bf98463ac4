#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Test what all programs do alike, as TAP: versions, help, exit statuses, and errors that begin with
# the program's name and say what is valid. No test needs the module.
# Usage: manners-test.sh FOLDER
folder=$(realpath "$1")
cd "$(dirname "$0")" || exit
. ./tap.sh

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
version=$(sed -n 's/^GMEM_VERSION := //p' ../../uapi/version.mk)

details() {
	for file in "$dir/out" "$dir/err"; do sed 's/^/# /' "$file"; done
}

# run PROGRAM WORD...
run() {
	program=$1
	shift
	"$folder/$program" "$@" >"$dir/out" 2>"$dir/err" </dev/null
}

# prints TEXT PROGRAM WORD...: the program succeeds, and its first line is TEXT
prints() {
	text=$1
	shift
	run "$@" && [ "$(head -n 1 "$dir/out")" = "$text" ] && [ ! -s "$dir/err" ]
}

# fails STATUS TEXT PROGRAM WORD...: the program prints one line to standard error, which begins
# with its name and contains TEXT, and nothing else
fails() {
	want=$1 text=$2
	shift 2
	run "$@"
	[ $? = "$want" ] && [ ! -s "$dir/out" ] && [ "$(wc -l <"$dir/err")" = 1 ] &&
		grep -qFe "$text" "$dir/err" && [ "$(cut -d : -f 1 "$dir/err")" = "$1" ]
}

programs="gmemctl gmem-broker gmem-vhost-blk gmem-vhost-net gmem-vhost-shm"
# These aren't built on every machine.
for program in gmem-demo gmem-bench minivmm; do
	[ ! -e "$folder/$program" ] || programs="$programs $program"
done

echo "TAP version 13"
for program in $programs; do
	prints "$program $version" "$program" --version
	result $? "$program --version"
	run "$program" --help && grep -q "^usage: $program" "$dir/out" && [ ! -s "$dir/err" ]
	result $? "$program --help"
	fails 2 "--nonsense" "$program" --nonsense
	result $? "$program: a flag that isn't there"
done
for program in gmemctl gmem-broker gmem-vhost-blk gmem-vhost-net gmem-vhost-shm; do
	"$folder/$program" --help >/dev/full 2>"$dir/err"
	[ $? = 1 ] && grep -q "^$program: can't write to standard output$" "$dir/err"
	result $? "$program: output that can't be written"
done

fails 2 "--socket-path is missing" gmem-vhost-blk && fails 2 "--blk-file is missing" gmem-vhost-blk --socket-path=x &&
	fails 2 '"more" must be a flag' gmem-vhost-shm --socket-path=x more
result $? "a flag or a word too few or too many"
fails 2 "give either --tap or --link-fds" gmem-vhost-net --socket-path=x &&
	fails 2 "give either --tap or --link-fds" gmem-vhost-net --socket-path=x --tap=x --link-fds=3 &&
	fails 2 "--link-fds=2: use 1 to 127 numbers from 3 on" gmem-vhost-net --socket-path=x --link-fds=2 &&
	fails 2 "--mac=x: use the address of one station" gmem-vhost-net --socket-path=x --mac=x &&
	fails 2 "--queue-pairs=128: use a number" gmem-vhost-net --queue-pairs=128 &&
	fails 2 "the name of a tap has 1 to 15 bytes" gmem-vhost-net --socket-path=x \
		--tap=a-name-of-16-byte
result $? "the links of a network device"
fails 2 "--queues=0: use a number from 1 to 256" gmem-vhost-blk --queues=0 &&
	fails 2 "--queues=257: use a number from 1 to 256" gmem-vhost-shm --queues 257 &&
	fails 2 "--shmid=256: use a number from 0 to 255" gmem-vhost-shm --shmid=256 &&
	fails 2 "--shmid=-1: use a number from 0 to 255" gmem-vhost-shm --shmid=-1 &&
	fails 2 "--width=5: use a number from 8 to 1024" gmemctl map --width 5 &&
	fails 2 "--vm=0: use a number from 1 to 4294967295" gmemctl list --vm 0 &&
	fails 2 "--vm=web: use a number from 1 to 4294967295" gmemctl list --vm=web &&
	fails 2 "--fd=x: use a number from 0 to 2147483647" gmemctl exec --fd x
result $? "numbers that are out of range"
fails 2 "--size=0: use more than 0 bytes" gmem-broker run --size=0 -- true &&
	fails 2 "--size=1P: use a number," gmem-vhost-shm --size=1P &&
	fails 2 "--size=17000000T: it doesn't fit" gmemctl exec --size 17000000T -- true &&
	fails 2 "--interval=soon: use a time such as" gmemctl top --interval soon &&
	fails 2 "--interval 1ms is below 10ms" gmemctl top --interval 1ms &&
	fails 2 "--sort=size: use one of lent, refused," gmemctl top --sort size &&
	fails 2 "--event=lend,no: there is no event no: use some of vm-created," gmemctl monitor --event lend,no &&
	fails 2 "--duration=-1s is below 0" gmemctl monitor --duration=-1s &&
	fails 2 '"maybe": use allow, scrub or deny' gmemctl policy maybe &&
	fails 2 "--lock=maybe: use on, late or off" gmem-vhost-blk --lock=maybe &&
	fails 2 "--sandbox=true: use on or off" gmem-vhost-net --sandbox=true &&
	fails 2 "--serial=123456789012345678901: use 1 to 20 bytes" gmem-vhost-blk --socket-path=x \
		--blk-file=x --serial=123456789012345678901 &&
	fails 2 "--json=maybe: use true or false" gmemctl list --json=maybe &&
	fails 2 "--address=: the value is empty" gmemctl reclaim --address= &&
	fails 2 "--vm needs a value" gmemctl list --vm
result $? "values that aren't valid"
fails 2 "there is no flag -jx" gmemctl stats -jx && fails 2 "there is no flag -x" gmemctl stats -x
result $? "letters that aren't there"
fails 1 "can't open /nonexistent/disk" gmem-vhost-blk --socket-path="$dir/s" --blk-file=/nonexistent/disk &&
	fails 1 "less than a sector" gmem-vhost-blk --socket-path="$dir/s" --blk-file="$dir/out" &&
	fails 1 "neither a file with contents nor a block device" gmem-vhost-blk --socket-path="$dir/s" \
		--blk-file="$dir" --read-only &&
	fails 1 "--link-fds=99: " gmem-vhost-net --socket-path="$dir/s" --link-fds=99
result $? "a failure isn't a wrong command line"
truncate -s 1M "$dir/disk"
: >"$dir/file"
fails 1 "it is a regular file, not a socket" gmem-vhost-blk --socket-path="$dir/file" --blk-file="$dir/disk" &&
	fails 1 "it is a folder, not a socket" gmem-vhost-shm --socket-path="$dir" &&
	fails 1 "it is not a socket" gmem-broker tell --socket="$dir/file" status
result $? "a file at a socket's path"
name=$(printf 'a\033[31m\302\233b')
fails 2 'a\x1b[31m\xc2\x9bb' gmemctl "$name" && fails 1 '\xc2\x9b' gmem-vhost-blk --socket-path="$dir/s" \
	--blk-file="$dir/$name"
result $? "errors have no control characters"
echo "1..$n"
exit $failed
