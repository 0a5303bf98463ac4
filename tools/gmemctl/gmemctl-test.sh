#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Test each subcommand of gmemctl with real VMs, as TAP. Run this as root where gmem.ko is loaded,
# in a folder with gmemctl, gmemctl-testbed and tap.sh; busybox is enough.
# shellcheck source-path=SCRIPTDIR/../base
. ./tap.sh

dir=$(mktemp -d)
details() {
	for file in "$dir/out" "$dir/err"; do sed 's/^/# /' "$file"; done
}

# run WORDS...: run a command; its output goes to files. JSON also goes to comments, for
# json-test.py, which needs more than busybox.
run() {
	"$@" >"$dir/out" 2>"$dir/err" || return
	[ "$1" = ./gmemctl ] || return 0
	print_json "$@"
}

# print_json ./gmemctl WORDS...: if these asked for JSON, print what is in the output
print_json() {
	json='' subcommand=''
	for word in "$@"; do
		case $word in
		-*j* | -p | --pretty) json=1 ;;
		-* | ./gmemctl) ;;
		*) [ -n "$subcommand" ] || subcommand=$word ;;
		esac
	done
	[ -z "$json" ] || ./gmemctl-testbed compact <"$dir/out" | sed "s/^/# json $subcommand: /"
}

# fails STATUS TEXT WORDS...: the command exits with STATUS, and the error begins with its name
# and contains TEXT
fails() {
	want=$1 text=$2
	shift 2
	run "$@"
	[ $? = "$want" ] && grep -q "^gmemctl: .*$text" "$dir/err"
}

# value POINTER TEXT: the value at POINTER of the JSON in the output is TEXT
value() {
	[ "$(./gmemctl-testbed json "$1" <"$dir/out")" = "$2" ]
}

has() {
	grep -qe "$1" "$dir/out"
}

echo "TAP version 13"

run ./gmemctl help && has "usage: gmemctl SUBCOMMAND"
result $? "help"
status=0
for command in info list stats monitor top faults map exec reclaim policy; do
	run ./gmemctl $command --help && has "usage: gmemctl $command" || status=1
done
result $status "--help of each subcommand"
fails 2 "subcommand is missing" ./gmemctl
result $? "no subcommand"
fails 2 'no subcommand "nonsense"' ./gmemctl nonsense
result $? "unknown subcommand"
fails 2 'no subcommand "nonsense"' ./gmemctl help nonsense
result $? "help on what isn't there"
fails 2 "info takes no flag size" ./gmemctl info --size 4K
result $? "another subcommand's flag"
fails 2 'takes no argument: "more"' ./gmemctl list more
result $? "surplus argument"
fails 2 "no flag --nonsense" ./gmemctl list --nonsense
result $? "unknown flag"

run ./gmemctl info && has "provider window: 52 bits" &&
	has "^features: names, live windows, .*window descriptors, views, NUMA policies, waiting, change in place, policies of bindings, page runs"
result $? "info"
run ./gmemctl info -j && value /abi_version 4 && value /features/0 names && value /page_size 4096
result $? "info -j"
run ./gmemctl -p info && value /abi_version 4 && [ "$(wc -l <"$dir/out")" -gt 5 ]
result $? "info -p is for humans"
run ./gmemctl info -jp && cp "$dir/out" "$dir/pretty" && run ./gmemctl info -p &&
	cmp -s "$dir/out" "$dir/pretty"
result $? "-jp is -j -p"
version=$(./gmemctl --version | cut -d ' ' -f 2)
run ./gmemctl info && has "^gmemctl $version, module $version$" && run ./gmemctl info -j &&
	value /version "$version" && value /module_version "$version"
result $? "info: the versions of gmemctl and of the module"

# A VM, which lives until its standard input is closed.
mkfifo "$dir/hold"
./gmemctl-testbed vm gmemctl-testbed web-1 <"$dir/hold" >"$dir/vm" &
bed=$!
exec 9>"$dir/hold"
wait_for test -s "$dir/vm"
read -r vm_fd mem_fd window_fd view_fd <"$dir/vm"

run ./gmemctl list -j && value /vms/0/comm gmemctl-testbed && value /vms/0/pid $bed
result $? "list -j: the VM"
value /vms/0/name web-1 && value /guestmems/0/name "ram of web-1" &&
	value /vms/0/window_kind live
result $? "list -j: names and the kind of window"
value /vms/0/windows/0/name "window of web-1" && value /vms/0/windows/0/guest_addr 65536 &&
	value /vms/0/windows/0/length 65536 && value /vms/0/windows/0/discard true &&
	value /vms/0/windows/0/pid $bed && value /guestmems/0/views/0/name "disk of web-1" &&
	value /guestmems/0/views/0/offset 81920 && value /guestmems/0/views/0/read_only true &&
	value /guestmems/0/views/0/revoked false
result $? "list -j: window descriptors and views"
id=$(./gmemctl-testbed json /vms/0/id <"$dir/out")
value /vms/0/lent_pages 4 && value /vms/0/bindings/0/guest_addr 65536 &&
	value /vms/0/bindings/0/mode lend && value /vms/0/bindings/1/mode share &&
	value /vms/0/bindings/1/access rwx && value /vms/0/bindings/1/policy scrub &&
	value /vms/0/bindings/0/mem_name "ram of web-1"
result $? "list -j: bindings"
value /guestmems/0/pages/lent 4 && value /guestmems/0/pages/shared 4 &&
	value /guestmems/0/pages/host 2 && value /guestmems/0/pages/absent 22
result $? "list -j: pages by state"
run ./gmemctl list && has "^vm $id \"web-1\": window, policy allow, .* window, by gmemctl-testbed" &&
	has "0x000000010000-0x00000001ffff lend  rwx guestmem [0-9]* \"ram of web-1\" offset 0x0$" &&
	has "0x000000100000-0x000000103fff share rwx guestmem .*, policy scrub$" && has "^guestmem .* \"ram of web-1\": " &&
	has "^  window [0-9]* \"window of web-1\": 0x000000010000-0x00000001ffff, read-write, discard," &&
	has "^  view [0-9]* \"disk of web-1\": offset 0x14000, 16 KiB, read-only, by process $bed$"
result $? "list"
run ./gmemctl list --vm "$id" -j && value /vms/0/id "$id"
result $? "list --vm"
fails 1 "describe VM 4711: no such VM" ./gmemctl list --vm 4711
result $? "list of a VM that isn't there"

run ./gmemctl list --name web-1 -j && value /vms/0/id "$id" && value /guestmems/0/pages/lent 4
result $? "list --name of a VM shows its memory"
run ./gmemctl list --name "ram of web-1" && [ "$(wc -l <"$dir/out")" = 2 ] && has "^guestmem "
result $? "list --name of a guestmem"
run ./gmemctl list --name "disk of web-1" && [ "$(wc -l <"$dir/out")" = 2 ] && has "^  view " &&
	run ./gmemctl list --name "window of web-1" -j && value /vms/0/id "$id"
result $? "list --name of a view and of a window descriptor"
run ./gmemctl list --name nobody && [ ! -s "$dir/out" ] &&
	run ./gmemctl list --vm "$id" --name nobody && [ ! -s "$dir/out" ]
result $? "list --name of nothing"

run ./gmemctl list --pid $bed -j && value /vms/0/id "$id" && value /guestmems/0/pages/lent 4 &&
	run ./gmemctl list --pid $$ && [ ! -s "$dir/out" ] &&
	run ./gmemctl list --pid $bed --name nobody && [ ! -s "$dir/out" ]
result $? "list --pid"

run ./gmemctl stats && has "^lent_pages *4$"
result $? "stats"
run ./gmemctl stats -j && value /lent_pages 4 && value /vms 1
result $? "stats -j"
run ./gmemctl stats --openmetrics && has "^# TYPE gmem_lends counter" &&
	has "^gmem_vm_lent_pages{vm=\"$id\",name=\"web-1\",pid=\"$bed\",comm=\"gmemctl-testbed\"} 4$" &&
	[ "$(tail -n 1 "$dir/out")" = "# EOF" ]
result $? "stats --openmetrics"
run ./gmemctl stats --prometheus --output "$dir/gmem.prom" &&
	grep -q "^# TYPE gmem_lends_total counter" "$dir/gmem.prom" &&
	[ "$(echo "$dir"/*prom*)" = "$dir/gmem.prom" ]
result $? "stats --prometheus into a file"
fails 2 "take one of them" ./gmemctl stats --prometheus --openmetrics
result $? "stats in two formats"
fails 1 "/nowhere/gmem.prom" ./gmemctl stats --prometheus --output /nowhere/gmem.prom
result $? "stats into a folder that isn't there"
fails 2 "goes with --prometheus or --openmetrics" ./gmemctl stats --output "$dir/x"
result $? "stats --output alone"

run ./gmemctl map && has "offset 0x14000, policy scrub$" && has "^vm $id \"web-1\" (window, " && has "guestmem .* offset 0x0" && has "0x000000010000  ####........--..$" &&
	has "0x000000100000  ====" && has "hole" &&
	has "^  vm $id: gmemctl-testbed\[$bed\]: $vm_fd $window_fd$" &&
	has "^  guestmem [0-9]* \"ram of web-1\": gmemctl-testbed\[$bed\]: $mem_fd $view_fd$"
result $? "map"
run ./gmemctl map --vm "$id" -j && value /cell_size 4096 && value /pieces/0/kind hole &&
	value /pieces/1/cells "####........--.." && value /pieces/1/pages/lent 4 &&
	value /pieces/3/cells "====" && value /vm_holders/0/pid $bed &&
	value /guestmems/0/holders/0/fd "$mem_fd"
result $? "map -j"
run ./gmemctl map --name web-1 -j && value /vm/id "$id" && value /guestmems/0/name "ram of web-1" &&
	fails 1 "no VM called \"nobody\"" ./gmemctl map --name nobody &&
	fails 1 "no VM $id, or it isn't called \"nobody\"" ./gmemctl map --vm "$id" --name nobody &&
	run ./gmemctl map --pid $bed -j && value /vm/id "$id" &&
	fails 1 "no VM of process $$" ./gmemctl map --pid $$
result $? "map --name and --pid"
run ./gmemctl map --svg "$dir/map.svg" && grep -q "</svg>" "$dir/map.svg" &&
	grep -q "<title>lent</title>" "$dir/map.svg"
result $? "map --svg"
# To see the picture: "sed -n 's/^# svg: //p'".
sed 's/^/# svg: /' "$dir/map.svg"
run ./gmemctl map && has "^0x000000000000  hole, 64 KiB$"
result $? "map: the hole at address 0"
fails 2 "--width=5: use a number from 8 to 1024" ./gmemctl map --width 5
result $? "map too narrow"

run ./gmemctl top && has "gmemctl-testbed web-1$" && [ "$(grep -c PROVIDER "$dir/out")" = 1 ]
result $? "top ends without a terminal"
run ./gmemctl top --iterations 3 --interval 50ms && [ "$(grep -c PROVIDER "$dir/out")" = 3 ]
result $? "top --iterations"
run ./gmemctl top -j --iterations 2 --interval 50ms &&
	[ "$(./gmemctl-testbed jsonlines <"$dir/out")" = 2 ]
result $? "top -j"
run ./gmemctl top --interval 50ms --name nobody && ! has web-1 &&
	run ./gmemctl top --interval 50ms --pid $bed && has web-1 &&
	run ./gmemctl top --interval 50ms -j --vm "$id" && value /vms/0/id "$id"
result $? "top --name, --pid and --vm"
fails 2 "use one of lent, refused, waiters, bindings, vm, pid, command, name" ./gmemctl top --sort size
result $? "top --sort by what isn't there"
# A page comes back after the first table, so exactly one of the later tables has it.
./gmemctl top -j --iterations 100000 --interval 200ms >"$dir/rates" &
top=$!
wait_for test -s "$dir/rates"
./gmemctl reclaim --vm "$id" --address 0x13000 --size 4K >"$dir/reclaimed"
# with_rate: the tables in which pages came back
with_rate() {
	grep '"per_second":{"lends":0.0,"reclaims":[0-9.e-]*,"refused":0.0}}$' "$dir/rates" |
		grep -v '"reclaims":0.0,'
}
wait_for sh -c "grep -q '\"reclaims\":1,' '$dir/rates'"
kill $top
wait $top
with_rate >"$dir/out"
rate=$(./gmemctl-testbed json /per_second/reclaims <"$dir/out")
[ "$(wc -l <"$dir/out")" = 1 ] && awk -v rate="$rate" 'BEGIN { exit !(rate > 0 && rate <= 5) }'
result $? "top: rates"

timeout 60 ./gmemctl monitor -j --count 4 >"$dir/events" 2>"$dir/waiting" &
watcher=$!
wait_for grep -q waiting "$dir/waiting"
run ./gmemctl reclaim --vm "$id" --address 0x10000 --size 4K -j && value /reclaimed_pages 1
result $? "reclaim a page by number"
fails 1 "can't" ./gmemctl reclaim --vm "$id" --address 0x10001 --size 4K && [ ! -s "$dir/out" ]
result $? "a reclaim that fails prints its error and nothing else"
run ./gmemctl reclaim --vm "$id" --address 0x11000 --size 4K && has "^1 page taken back$"
result $? "1 page, not 1 pages"
run ./gmemctl reclaim --pid $bed --fd "$vm_fd" && has "^1 page taken back"
result $? "reclaim all by process and descriptor"
run ./gmemctl exec --size 64K --name "ram for true" -- true
result $? "exec"
wait $watcher
cp "$dir/events" "$dir/out"
result $? "monitor --count"
print_json ./gmemctl monitor -j
[ "$(./gmemctl-testbed jsonlines <"$dir/events")" = 4 ]
result $? "monitor -j prints a JSON line for each"
head -n 1 "$dir/events" >"$dir/out"
value /event reclaim && value /cause host && value /vm_id "$id" && value /guest_addr 65536 &&
	value /vm_name web-1 && value /mem_name "ram of web-1"
result $? "monitor -j: what happened"
sed -n 4p "$dir/events" >"$dir/out"
value /event mem-created && value /name "ram for true"
result $? "monitor -j: the name of a new guestmem, which exec chose"
fails 2 "which VM" ./gmemctl reclaim && fails 2 "which VM" ./gmemctl reclaim --fd 3
result $? "reclaim of no VM"
fails 2 "is not a VM" ./gmemctl reclaim --pid $bed --fd "$mem_fd"
result $? "reclaim of a guestmem"
fails 1 "there is no VM 4711" ./gmemctl reclaim --vm 4711 && ! grep -q root "$dir/err"
result $? "reclaim of a VM that isn't there"
run ./gmemctl reclaim --name web-1 && has "^0 pages taken back" &&
	fails 1 "no VM called" ./gmemctl reclaim --name nobody &&
	fails 2 "which VM" ./gmemctl reclaim --name web-1 --pid $bed --fd "$vm_fd"
result $? "reclaim --name"

# Other VMs and events, which the filters leave out: another VM's life, and a guestmem's.
others() {
	./gmemctl-testbed vm other other-1 </dev/null >/dev/null
	./gmemctl exec --size 64K --name "not asked for" -- true
}
# listen FILE FLAG...: start a monitor, which leaves its number in $watcher
listen() {
	file=$1
	shift
	# The last monitor's line: the new one's shell may truncate the file later than we look.
	rm -f "$dir/waiting"
	timeout 60 ./gmemctl monitor "$@" >"$file" 2>"$dir/waiting" &
	watcher=$!
	wait_for grep -q waiting "$dir/waiting"
}
for flags in "--vm $id" "--pid $bed" "--name web-1" "--event=change"; do
	# shellcheck disable=SC2086 # flags
	listen "$dir/out" -t $flags --count 1
	others
	printf s >&9
	wait $watcher && has '^20[0-9-]* [0-9:.]* change vm [0-9]* "web-1" 0x.* guestmem [0-9]* "ram of web-1" .* mode share'
	result $? "monitor -t $flags"
	printf l >&9
	wait_for sh -c "! ./gmemctl list | grep -q '0x000000010000-0x000000010fff share'"
	# The event is sent a moment later.
	sleep 0.1
done
listen "$dir/out" -jt --event vm-created,vm-destroyed --name other-1 --count 2
others
wait $watcher && [ "$(./gmemctl-testbed jsonlines <"$dir/out")" = 2 ] &&
	has '^{"time":"20[^ ]*T[^ ]*","event":"vm-created",.*"name":"other-1"' && has "vm-destroyed.*other-1"
result $? "monitor -jt: a VM that is new"
print_json ./gmemctl monitor -j
listen "$dir/out" -j --event window-created,view-created --count 2
others
wait $watcher && has '"window_name":"window of other-1"' && has '"view_name":"disk of other-1"'
result $? "monitor -j: names of window descriptors and views"
print_json ./gmemctl monitor -j
started=$(date +%s)
run timeout 60 ./gmemctl monitor --duration 1s --event leak && [ ! -s "$dir/out" ] &&
	[ $(($(date +%s) - started)) -le 30 ]
result $? "monitor --duration"
fails 2 "no event nonsense: use some of vm-created,.*,change" ./gmemctl monitor --event lend,nonsense
result $? "monitor --event of no such type"

run ./gmemctl faults && has "^vm $id \"web-1\": 0 accesses refused$"
result $? "faults: none"
listen "$dir/out" -j --event refused --count 2
printf f >&9
wait $watcher && has '"event":"refused".*"reason":"unbound"'
result $? "monitor -j: refused accesses"
print_json ./gmemctl monitor -j
wait_for sh -c "./gmemctl faults | grep -q thread"
run ./gmemctl faults && has "^vm $id \"web-1\": 3 accesses refused$" &&
	has "^  0x000000200000 r-- unbound, 2 times, by thread $bed$" &&
	has "^  0x000000201000 -w- unbound, by thread $bed$"
result $? "faults of another process's VM"
run ./gmemctl faults --vm "$id" -j && value /vms/0/refused 3 && value /vms/0/rows/0/reason unbound &&
	value /vms/0/rows/0/count 2 && value /vms/0/rows/1/guest_addr 2101248 &&
	value /vms/0/rows/1/access -w-
result $? "faults -j"
run ./gmemctl faults --name nobody && [ ! -s "$dir/out" ] && run ./gmemctl faults --pid $bed &&
	has unbound
result $? "faults --name and --pid"
printf p >&9
wait_for sh -c "./gmemctl faults | grep -q 0x000000300000"
result $? "the VM's owner still learns of its refused accesses"

run ./gmemctl policy && has "^vm $id \"web-1\": policy allow$" && has "guestmem .* policy scrub$" &&
	[ "$(wc -l <"$dir/out")" = 2 ]
result $? "policy"
run ./gmemctl policy -j && value /vms/0/policy allow && value /vms/0/bindings/0/policy scrub
result $? "policy -j"
run ./gmemctl policy deny --vm "$id" && has "^vm $id: policy deny$" &&
	run ./gmemctl list -j && value /vms/0/policy deny &&
	run ./gmemctl policy allow --pid $bed --fd "$vm_fd" -j && value /policy allow && value /id "$id" &&
	run ./gmemctl policy && has "policy allow$"
result $? "policy deny, policy allow"
fails 2 "use allow, scrub or deny" ./gmemctl policy maybe --vm "$id" &&
	fails 2 "which VM" ./gmemctl policy deny && fails 2 "takes one argument" ./gmemctl policy deny allow &&
	fails 2 "goes with a new policy" ./gmemctl policy --pid $bed --fd "$vm_fd"
result $? "policy: mistakes"

# shellcheck disable=SC2016 # for the inner shell
run ./gmemctl exec --size 256M --fd 10 --name ram0 -- \
	sh -c 'echo $GMEM_FD ${GMEM_FDS#$$:} {} $(stat -L -c %s /proc/self/fd/{})' &&
	has "^10 10=ram0 10 268435456$"
result $? "exec hands the descriptor over"
# shellcheck disable=SC2016 # for the inner shell
run ./gmemctl exec --size 4K --fd 3 -- sh -c 'echo $GMEM_FD' && has "^3$" &&
	fails 2 "printable" ./gmemctl exec --size 4K --name "$(printf 'a\tb')" -- true
result $? "exec as descriptor 3, and not by any name"
# shellcheck disable=SC2016 # for the inner shell
run ./gmemctl exec --size 4K --fd 10 --name ram0 -- \
	./gmemctl exec --size 4K --fd 11 --name ram1 -- sh -c 'echo ${GMEM_FDS#$$:}' &&
	has "^10=ram0:11=ram1$" &&
	fails 1 "saved already" ./gmemctl exec --size 4K --name ram0 -- \
		./gmemctl exec --size 4K --name ram0 -- true
result $? "exec within exec hands both on"
run ./gmemctl exec --size 2M --hugepages -- sh -c 'exit 7'
[ $? = 7 ] && ! run ./gmemctl exec --size 1M --hugepages -- true
result $? "exec --hugepages, and the command's own status"
fails 127 "can't run /nowhere/command" ./gmemctl exec --size 4K -- /nowhere/command
result $? "exec of what isn't there"
fails 2 "needs --size" ./gmemctl exec -- true
result $? "exec without a size"

timeout 60 ./gmemctl monitor -j --count 1 >"$dir/events" 2>"$dir/waiting" &
watcher=$!
wait_for grep -q waiting "$dir/waiting"
printf s >&9
wait $watcher
cp "$dir/events" "$dir/out"
value /event change && value /vm_id "$id" && value /mode share && value /access rwx &&
	value /guest_addr 65536 && value /length 4096
result $? "monitor -j: a change in place"
run ./gmemctl list && has "0x000000010000-0x000000010fff share rwx guestmem" &&
	has "0x000000011000-0x00000001ffff lend  rwx guestmem"
result $? "list after a change in place"

echo >&9
wait_for test ! -e "/proc/$bed/fd/$vm_fd"
fails 1 "VM $id open, except by window descriptors" ./gmemctl reclaim --vm "$id"
result $? "reclaim of a VM of which only a window descriptor is left"
exec 9>&-
wait $bed

# Print metrics for metrics-test.py, which needs more than busybox: once without a VM, once with a
# VM of a process with a bad name.
for format in prometheus openmetrics; do
	./gmemctl stats --$format | sed "s/^/# $format: /"
done
./gmemctl-testbed vm 'a"\ b' 'n"\ m' <"$dir/hold" >"$dir/vm2" &
bed=$!
exec 9>"$dir/hold"
wait_for test -s "$dir/vm2"
for format in prometheus openmetrics; do
	./gmemctl stats --$format | sed "s/^/# $format, VM: /"
done
exec 9>&-
wait $bed

# Large VMs: the picture fits a screen, and few lent pages among many can be seen.
./gmemctl-testbed large <"$dir/hold" >"$dir/large" &
bed=$!
exec 9>"$dir/hold"
wait_for test -s "$dir/large"
run ./gmemctl map && [ "$(wc -l <"$dir/out")" -le 50 ] && has "a character is [248] MiB" &&
	has "+" && has "  ##*+*\.\.*" && has "hole, 256 MiB" &&
	run ./gmemctl map -j && value /pieces/0/kind binding && value /pieces/0/length 3221225472
result $? "map of a large VM"
run ./gmemctl map --svg "$dir/large.svg" && grep -q "<title>partly lent</title>" "$dir/large.svg" &&
	grep -q '"#e6550d"><title>lent' "$dir/large.svg"
result $? "map --svg of a large VM"
sed 's/^/# large svg: /' "$dir/large.svg"
run ./gmemctl-testbed terminal "" ./gmemctl map && has "$(printf '\033')\[0;1;38;5;202m##*" &&
	run env NO_COLOR=1 ./gmemctl-testbed terminal "" ./gmemctl map && ! has "$(printf '\033')"
result $? "map: colours, on a terminal only"
# The session that the documentation shows; pictures.py draws it. "^[" stands for the escape.
for words in "list --name db-1" "map --name db-1"; do
	echo "# terminal: $ gmemctl $words"
	# shellcheck disable=SC2086 # a subcommand and its flags
	./gmemctl-testbed terminal "" ./gmemctl $words | tr -d '\r' | tr '\033' '^' |
		sed 's/^/# terminal: /'
done
mkfifo "$dir/hold2"
./gmemctl-testbed vm second a-second <"$dir/hold2" >"$dir/vm4" &
second=$!
exec 8>"$dir/hold2"
wait_for test -s "$dir/vm4"
# first_name: the name in the first row of the last table
first_name() {
	grep -A 1 PROVIDER "$dir/out" | tail -n 1 | tr -d '\r' | sed 's/.* //'
}
run ./gmemctl top --interval 50ms && [ "$(first_name)" = db-1 ] &&
	run ./gmemctl top --interval 50ms --sort name && [ "$(first_name)" = a-second ] &&
	run ./gmemctl top --interval 50ms --sort=vm && [ "$(first_name)" = db-1 ]
result $? "top --sort"
run ./gmemctl-testbed terminal nq ./gmemctl top --interval 1m && [ "$(first_name)" = a-second ] &&
	has "sorted by lent" && has "sorted by name"
result $? "top: keys sort, and end it"
fails 2 "2 VMs: choose one" ./gmemctl map && run ./gmemctl map --pid $second -j && value /vm/name a-second
result $? "map of one of two VMs"
exec 8>&- 9>&-
wait $bed $second
./gmemctl-testbed scattered 3000 <"$dir/hold" >"$dir/scattered" &
bed=$!
exec 9>"$dir/hold"
wait_for test -s "$dir/scattered"
run ./gmemctl map && [ "$(wc -l <"$dir/out")" -le 60 ] && has "3000 bindings, 12000 KiB of" && has "  +"
result $? "map of a VM with many bindings"
run ./gmemctl map -j && value /pieces/0/kind bindings && value /pieces/0/bindings 3000 &&
	value /pieces/0/pages/lent 1
result $? "map -j of a VM with many bindings"
exec 9>&-
wait $bed

# Names that a terminal would obey: U+009B begins a control sequence, in UTF-8 and in Latin-1.
for name in 'a\302\233b' 'a\233b\033[31m'; do
	# shellcheck disable=SC2059 # the name is a format
	./gmemctl-testbed vm "$(printf "$name")" x <"$dir/hold" >"$dir/vm3" &
	bed=$!
	exec 9>"$dir/hold"
	wait_for test -s "$dir/vm3"
	status=0
	for words in list "list -j" "list -p" map "map -j" top "top -j" faults "faults -j" \
		policy "policy -j" "stats --prometheus"; do
		# shellcheck disable=SC2086 # a subcommand and its flag
		run ./gmemctl $words
		[ -s "$dir/out" ] && ! LC_ALL=C grep -q '[^ -~]' "$dir/out" || status=1
	done
	result $status "no control character of a process's name is printed: $name"
	exec 9>&-
	wait $bed
	rm "$dir/vm3"
done
run ./gmemctl list && [ ! -s "$dir/out" ]
result $? "nothing is left"

rm -rf "$dir"
echo "1..$n"
exit $failed
