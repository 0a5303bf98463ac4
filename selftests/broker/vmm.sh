# SPDX-License-Identifier: GPL-2.0-only
# Functions for scripts that run QEMU inside of the virtual machine: behind gmem-broker, as
# another user, or on a paged window. A QEMU has a name, here VMM. The folder "run" gets VMM.console
# (its guest's serial console), VMM.qmp (the answers of its monitor), VMM.log (its messages),
# VMM.status (its exit status) and VMM.socket (the broker's). Scripts source this file in busybox's
# shell.
# shellcheck shell=dash

run=/tmp/run
user=nobody
# The part of every guest's command line that doesn't depend on the test. minivmm says why
# idle=poll. With kernelcore, the memory from block 1 on is movable.
append="console=ttyS0 quiet reboot=t panic=-1 idle=poll nokaslr mitigations=off init_on_alloc=0 audit=0 lsm=capability kernelcore=110M"
# A block of 128 MiB for the kernel, one that the guest can take offline, and a rest whose end
# the firmware and the kernel use.
size=320M

mkdir -p $run /etc
chmod 777 $run
chmod 666 /dev/kvm
echo "$user:x:65534:65534::/:/bin/sh" >/etc/passwd
: >/etc/group

say() { echo "# $*"; }

# number: a number that no other call returns, not even one in a subshell
number() {
	local n
	n=$(($(cat $run/number 2>/dev/null || echo 0) + 1))
	echo $n >$run/number
	echo $n
}

# await SECONDS COMMAND...: until the command succeeds
await() {
	local end
	end=$(($(date +%s) + $1))
	shift
	until "$@"; do
		[ "$(date +%s)" -lt $end ] || return 1
		sleep 0.2
	done
}

# in_file FILE PATTERN
in_file() { grep -q -e "$2" "$run/$1" 2>/dev/null; }

# --- QEMU ---

# start VMM [ARGUMENT]...: start QEMU behind a broker. BROKER has more flags of the broker.
start() {
	local vmm=$1
	shift
	launch "$vmm" "/proc/self/fd/{}" "./gmem-broker run --size=$size --user=$user
		--socket=$run/$vmm.socket --name=$vmm ${BROKER:-} --" "$@"
}

# start_paged VMM [ARGUMENT]...: start QEMU on lent memory behind a paged window: see paged.c
start_paged() {
	local vmm=$1
	shift
	launch "$vmm" /paged "env LD_PRELOAD=./paged.so GMEM_PAGED_MIB=${size%M}
		GMEM_PAGED_NAME=$vmm GMEM_PAGED_DISCARD=$run/$vmm.discard" "$@"
}

# launch VMM PATH COMMAND [ARGUMENT]...: start QEMU by the words of the command; the guest's
# memory has that path
launch() {
	local vmm=$1 path=$2 command=$3 input
	shift 3
	rm -f "$run/$vmm".*
	for input in "$vmm.in" "$vmm.qmp.in"; do
		mkfifo -m 666 "$run/$input"
		# QEMU never sees the end of the input.
		sleep 100000 >"$run/$input" &
		echo $! >>"$run/$vmm.holders"
	done
	(
		status=0
		# shellcheck disable=SC2086 # several words
		$command ./qemu-system-x86_64 -L . -accel kvm \
			-cpu host -m $size -M "${MACHINE:-pc},memory-backend=ram" \
			-object "memory-backend-file,id=ram,share=on,mem-path=$path,size=$size${BACKEND:-}" \
			-display none -vga none -nodefaults -no-reboot \
			-chardev "file,id=console,path=$run/$vmm.console,input-path=$run/$vmm.in" \
			-serial chardev:console \
			-chardev "file,id=qmp,path=$run/$vmm.qmp,input-path=$run/$vmm.qmp.in" \
			-mon qmp,mode=control \
			-kernel vmlinuz -initrd guest -append "$append" "$@" \
			>>"$run/$vmm.log" 2>&1 || status=$?
		echo $status >"$run/$vmm.status"
	) &
}

has_ended() { [ -e "$run/$1.status" ]; }
is_up_or_over() { in_file "$1.console" '^guest: Linux .* is up' || has_ended "$1"; }

# boots VMM: does the guest boot?
boots() { await 400 is_up_or_over "$1" && ! has_ended "$1"; }

# write_to VMM INPUT LINE: fails if QEMU has ended, since nobody reads the line then
write_to() {
	# shellcheck disable=SC2016 # expanded by the inner shell
	! has_ended "$1" && timeout 10 sh -c 'echo "$1" >"$2"' sh "$3" "$run/$1.$2"
}

# ends VMM [STATUS]: does QEMU end, with that status?
ends() { await 100 has_ended "$1" && [ "$(cat "$run/$1.status")" = "${2:-0}" ]; }

# stop VMM: end QEMU, and print its messages
stop() {
	has_ended "$1" || qmp "$1" quit >/dev/null
	await 30 has_ended "$1"
	xargs kill <"$run/$1.holders"
	show "$1"
}

# show VMM: print what the guest and QEMU said, as comments
show() {
	sed "s/^/# $1: console: /" "$run/$1.console"
	# A message may come for each page.
	uniq -w 60 -c "$run/$1.log" | sed "s/^/# $1: /"
}

tell() {
	local vmm=$1
	shift
	./gmem-broker tell --socket="$run/$vmm.socket" "$@"
}

# pages VMM STATE: how many pages of the guest's memory are absent, host, lent, shared
pages() { tell "$1" status | sed -n "s/^pages: .*\<\([0-9]*\) $2.*/\1/p"; }

# guest VMM COMMAND [SECONDS]: run a command in the guest, print its output, return its exit
# status
guest() {
	local vmm=$1 n before status
	n=$(number)
	before=$(wc -l <"$run/$vmm.console")
	if ! write_to "$vmm" in "$n $2"; then
		say "$vmm: QEMU takes no command, status $(cat "$run/$vmm.status"): $2" >&2
		show "$vmm" >&2
		return 124
	fi
	if ! await "${3:-200}" in_file "$vmm.console" "^end $n "; then
		say "$vmm: the guest doesn't answer: $2" >&2
		return 124
	fi
	tail -n +$((before + 1)) "$run/$vmm.console" | grep -v '^end '
	status=$(sed -n "s/^end $n //p" "$run/$vmm.console")
	return "$status"
}

# qmp VMM COMMAND [ARGUMENTS]: print the answer of QEMU's monitor, a line of JSON; fails if the
# answer is an error
qmp() {
	local vmm=$1 n arguments=${3:-'{}'}
	n=$(number)
	[ -e "$run/$vmm.capable" ] || {
		write_to "$vmm" qmp.in '{"execute": "qmp_capabilities"}' || return 124
		: >"$run/$vmm.capable"
	}
	write_to "$vmm" qmp.in \
		"{\"execute\": \"$2\", \"arguments\": $arguments, \"id\": $n}" || return 124
	if ! await "${PATIENCE:-60}" in_file "$vmm.qmp" "\"id\": ${n}[,}]"; then
		say "$vmm: QEMU doesn't answer: $2" >&2
		return 124
	fi
	grep "\"id\": ${n}[,}]" "$run/$vmm.qmp" | tr -d '\r'
	! in_file "$vmm.qmp" "\"id\": $n, \"error\""
}

# capability VMM NAME on|off: of migration
capability() {
	local state=true
	[ "$3" = on ] || state=false
	qmp "$1" migrate-set-capabilities \
		"{\"capabilities\": [{\"capability\": \"$2\", \"state\": $state}]}"
}

is_migrated() { qmp "$1" query-migrate | grep -q '"status": "\(completed\|failed\)"'; }

# migrate VMM ADDRESS: print the result
migrate() {
	qmp "$1" migrate "{\"uri\": \"$2\"}" >/dev/null || return
	await 400 is_migrated "$1"
	qmp "$1" query-migrate
}

# --- TAP ---

n=0 failed=0
# expect NAME COMMAND...
expect() {
	local name=$1
	shift
	n=$((n + 1))
	if "$@"; then
		echo "ok $n $name"
	else
		echo "not ok $n $name"
		failed=1
	fi
}

# quietly COMMAND...: without its output
quietly() { "$@" >/dev/null 2>&1; }

# prints PATTERN COMMAND...: does the command print a line with the pattern? The output becomes
# comments.
prints() {
	local pattern=$1 output
	shift
	output=$("$@" 2>&1)
	echo "$output" | sed 's/^/# /'
	echo "$output" | grep -q -e "$pattern"
}

# plan: the end of a script
plan() {
	echo "1..$n"
	exit $failed
}
