#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Test gmem-broker with a program that maps the memory as a VMM does, as TAP. Run this as root where
# gmem.ko is loaded, in a folder with gmem-broker, gmem-broker-testbed and tap.sh; busybox is enough.
# shellcheck source-path=SCRIPTDIR/../base
. ./tap.sh

dir=$(mktemp -d)
chmod 755 "$dir"
details() {
	for file in "$dir"/*.log; do sed "s|^|# ${file##*/}: |" "$file"; done
}

# start FLAG...: start a broker, with the testbed as the command. Its process: $broker.
start() {
	rm -f "$dir/in"
	mkfifo "$dir/in"
	: >"$dir/testbed.log"
	# This process keeps the FIFO open, so the testbed never reads an end of file.
	sleep 1000 >"$dir/in" &
	holder=$!
	SECRET=1 PATH=$PATH ./gmem-broker run --size=1M --socket="$dir/socket" "$@" -- ./gmem-broker-testbed \
		'/proc/self/fd/{}' <"$dir/in" >"$dir/testbed.log" 2>"$dir/broker.log" 9</dev/null &
	broker=$!
	lines=1
	wait_for has_lines
}

# shellcheck disable=SC2317 # await() calls it
has_lines() { [ "$(wc -l <"$dir/testbed.log")" -ge "$lines" ]; }

# says TEXT COMMAND...: the testbed's answer to the command is TEXT
says() {
	text=$1
	shift
	lines=$((lines + 1))
	# Without a reader, the FIFO can't be opened.
	pidof gmem-broker-testbed >/dev/null || return
	echo "$*" >"$dir/in"
	wait_for has_lines
	[ "$(tail -n 1 "$dir/testbed.log")" = "$text" ]
}

# tell WORD...: give the broker a command
tell() { ./gmem-broker tell --socket="$dir/socket" "$@" >"$dir/tell.log" 2>&1; }
answer() { [ "$(cat "$dir/tell.log")" = "$1" ]; }
status_has() { tell status && grep -q -e "$1" "$dir/tell.log"; }
refused() {
	text=$1
	shift
	! tell "$@" && grep -q "^gmem-broker: .*$text" "$dir/tell.log"
}

# stop STATUS: end the testbed; the broker must end with the same status
stop() {
	pidof gmem-broker-testbed >/dev/null || return
	echo "quit $1" >"$dir/in"
	wait "$broker"
	[ $? = $((0x$1)) ]
}

# ends STATUS TEXT WORDS...: the broker ends with STATUS, and says TEXT
ends() {
	want=$1 text=$2
	shift 2
	./gmem-broker "$@" >"$dir/out.log" 2>&1
	[ $? = "$want" ] && { [ -z "$text" ] || grep -q -e "$text" "$dir/out.log"; }
}

echo "TAP version 13"

ends 2 "first word is run or tell"
result $? "a word is missing"
ends 2 "run needs --size" run -- true && ends 2 "run needs a command" run --size=1M &&
	ends 2 "neither allow nor scrub" run --size=1M --policy=free -- true &&
	ends 2 'no user "nosuch"' run --size=1M --user=nosuch -- true &&
	ends 2 "tell needs --socket" tell status
result $? "wrong command lines"
ends 127 "nosuch: No such file" run --size=1M -- nosuch && ends 126 "Permission denied" \
	run --size=1M -- /proc/version
result $? "a command that can't run"
ends 3 "" run --size=1M -- sh -c 'exit 3' &&
	ends 143 "" run --size=1M -- sh -c 'kill -TERM $$'
result $? "the broker ends with the status of the command"
timeout -s KILL 20 ./gmem-broker-testbed --ignore-sigchld ./gmem-broker run --size=1M -- sh -c 'exit 3'
[ $? = 3 ]
result $? "the same if the broker is started with SIGCHLD ignored"

mkdir -p /etc
echo 'nobody:x:65534:65534::/:/bin/sh' >/etc/passwd
echo 'kvm:x:104:nobody' >/etc/group
start --user=nobody
grep -q "^size 1048576, user 65534, group 65534$" "$dir/testbed.log"
result $? "another user opens the descriptor again, learns the size, and maps it"
grep -q "^Groups:.*104" "/proc/$(pidof gmem-broker-testbed)/status" &&
	grep -q "^CapEff:.*0000000000000000$" "/proc/$(pidof gmem-broker-testbed)/status"
result $? "the command has the user's groups, and no capabilities"
[ "$(cut -d' ' -f5,6 "/proc/$(pidof gmem-broker-testbed)/stat")" = \
	"$(pidof gmem-broker-testbed) $(pidof gmem-broker-testbed)" ]
result $? "the command has a session and a process group of its own"
environment() { tr '\0' '\n' <"/proc/$(pidof gmem-broker-testbed)/environ"; }
[ "$(environment | cut -d= -f1 | grep -vx 'LANG\|PATH\|TERM' | sort | tr '\n' ' ')" = \
	"GMEM_FD HOME LOGNAME USER " ] && environment | grep -qx "PATH=$PATH" &&
	environment | grep -qx "HOME=/" && environment | grep -qx "USER=nobody"
result $? "the command gets the user's environment, not the broker's"
# The testbed has standard input, output and error, the window descriptor, and its own descriptor.
[ "$(find "/proc/$(pidof gmem-broker-testbed)/fd" -type l | wc -l)" = 5 ]
result $? "the command inherits no other descriptor"
says ENOTTY info 0
result $? "the command can't make the VM's calls"
says ok write 2000 aa && says 170 read 2000 && status_has "^pages: 255 absent, 0 host, 1 lent" &&
	status_has "^bound: 0x0..0xfffff lend rwx$"
result $? "a touch lends the page"
tell reclaim 0 1M && answer "1 page taken back" && status_has "0 lent" && says 170 read 2000
result $? "reclaim"
tell unbind 0x1000 8K && answer "2 pages unbound" && says BUS read 2000 &&
	status_has "^bound: 0x0..0xfff lend" && status_has "^bound: 0x3000..0xfffff lend" &&
	status_has "^refused: 0x2000 r-- unbound, 1 time"
result $? "unbind: a touch raises SIGBUS, and status lists it"
tell bind 0x2000 4096 && says 170 read 2000
result $? "bind: the contents are kept"
tell unbind 8K 4K && tell bind 8K 4K read-only && says 170 read 2000 && says BUS write 2000 1 &&
	status_has "^bound: 0x2000..0x2fff lend r-x"
result $? "bind read-only"
tell bind 4K 4K share && says ok write 1000 5 && status_has "1 shared"
result $? "bind shared"
says ok write 5000 7 && tell trim 16K 8K && says 0 read 5000
result $? "trim frees the memory, which stays bound"
says ok write 6000 7 && says ok discard 6000 1000 && says 0 read 6000
result $? "the command gives memory back"
refused "bound already\|overlap" bind 16K 4K && refused "give an address and a size" unbind 1 &&
	refused "use a number" trim 1X 4K && refused "neither" bind 0 4K often &&
	refused "no command \"free\"" free 0 4K && refused "no argument" status 1 &&
	refused "" unbind 1 4K
result $? "wrong commands"
[ "$(stat -c %a "$dir/socket")" = 600 ]
result $? "only the broker's user may connect"
i=0
while [ $i -lt 20 ]; do
	tell status || break
	i=$((i + 1))
done
[ $i = 20 ]
result $? "many peers"
stop 7 && [ ! -e "$dir/socket" ]
result $? "the broker ends with the command, and removes the socket"
kill $holder

start --policy=deny --nodiscard
says ok write 2000 aa && refused "" reclaim 0 1M && refused "" trim 0 1M &&
	tell unbind 0 1M && tell bind 0 1M && says 0 read 2000
result $? "deny: the host gets pages back only by unbinding them, and they are zeroed"
says EOPNOTSUPP discard 2000 1000
result $? "--nodiscard"
says ok connect 10 "$dir/socket" &&
	timeout -s KILL 20 ./gmem-broker tell --socket="$dir/socket" status >"$dir/tell.log" 2>&1
result $? "silent peers don't keep a command out"
kill -TERM $broker
wait $broker
[ $? = 143 ]
result $? "a signal ends the command and the broker"
kill $holder

start
says ok write 2000 aa
kill -KILL $broker
wait $broker 2>/dev/null
says 170 read 2000 && says ok write 3000 1 && [ -n "$(pidof gmem-broker-testbed)" ]
result $? "without a broker, the command goes on with the memory that is bound"
echo "quit 0" >"$dir/in"
wait_for sh -c '! pidof gmem-broker-testbed' >/dev/null
kill $holder

head -c 1048576 /dev/zero | tr '\0' '\252' >"$dir/memory"
start --restore="$dir/memory" --noprefetch
status_has "^restore: pages missing: 256, waited for: 0$" && says 170 read 2000 &&
	says 170 read 2fff && says 170 read 5000 &&
	status_has "^restore: pages missing: 254, waited for: 2$"
result $? "--restore --noprefetch: a page comes when it is used"
tell unbind 32K 32K && status_has "^restore: pages missing: 246," && says BUS read 8000
result $? "a page that is unbound isn't missing any longer"
refused "still being restored" bind 32K 4K && refused "still being restored" save "$dir/saved"
result $? "what needs all of the memory is refused"
# shellcheck disable=SC2317 # await() calls it
is_restored() { status_has "^restore: pages missing: 0, waited for: 2$"; }
refused "no argument" prefetch 1 && tell prefetch && wait_for is_restored && says 170 read ff000
result $? "prefetch: the rest comes"
stop 0
kill $holder
start
refused "nothing is restored" prefetch
result $? "prefetch without --restore"
stop 0
kill $holder

echo "1..$n"
exit $failed
