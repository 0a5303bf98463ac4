# SPDX-License-Identifier: GPL-2.0-only
# A run consists of parts: a build or a test, each with a name, an area, a level and the
# parts that it needs. This file declares parts, runs them as many at a time as the
# machine has CPUs, counts their results, and says how long each took.
#
# An area (a folder with a script "check") declares its parts when that script is
# sourced. The order of declaration is the order of start: a part starts when all that it
# needs has passed and a CPU is free.
# shellcheck shell=bash

# Where the parts leave NAME.tap (standard output), NAME.err, NAME.console (of a virtual
# machine), NAME.status, NAME.seconds and NAME.cpu. If a part runs twice, NAME.first.tap,
# NAME.first.err and NAME.first.console are those of the first try.
state=
area=
part=

parts=()
declare -A part_area part_level part_kind part_needs part_command part_quick

# declare_part KIND LEVEL NAME NEEDS COMMAND...
declare_part() {
	local name=$3
	parts+=("$name")
	part_area[$name]=$area
	part_kind[$name]=$1
	part_level[$name]=$2
	part_needs[$name]=$4
	shift 4
	part_command[$name]=${*@Q}
}

# A build prints no TAP and counts as one result. A test prints TAP.
# build NAME NEEDS COMMAND...
build() { declare_part build check "$@"; }
# check_part NAME NEEDS COMMAND...: a test of make check
check_part() { declare_part test check "$@"; }
# quick_part NAME NEEDS COMMAND...: the same, and one that the area's name chooses
quick_part() {
	check_part "$@"
	part_quick[$1]=1
}
# short_part NAME NEEDS COMMAND...: a test that the area's name chooses, and nothing else
short_part() {
	declare_part test short "$@"
	part_quick[$1]=1
}
# ci_part NAME NEEDS COMMAND...: a test of make check where CI is set
ci_part() { declare_part test ci "$@"; }
# long_part NAME NEEDS COMMAND...: a test of make check-long
long_part() { declare_part test long "$@"; }

# A build that runs beside the others, since it takes long and something else needs the
# machine now and then only.
# build_beside NAME NEEDS COMMAND...
build_beside() { declare_part beside check "$@"; }

# --- Choice ---

declare -A wanted

# want NAME...: these parts, and all that they need
want() {
	local name needs
	for name in "$@"; do
		[ -z "${wanted[$name]:-}" ] || continue
		[ -n "${part_kind[$name]:-}" ] || die "no part is called $name"
		wanted[$name]=1
		read -ra needs <<<"${part_needs[$name]}"
		want ${needs[@]+"${needs[@]}"}
	done
}

# want_level LEVEL: every test of a level
want_level() {
	local name
	for name in "${parts[@]}"; do
		[[ ${part_kind[$name]} != test || ${part_level[$name]} != "$1" ]] || want "$name"
	done
}

# want_named PATTERN: the parts of that name, or the quick parts of that area; fails if
# there are none
want_named() {
	local name found=1
	for name in "${parts[@]}"; do
		# shellcheck disable=SC2053 # a pattern
		if [[ $name = $1 || ${part_area[$name]}/${part_quick[$name]:-} = "$1/1" ]]; then
			want "$name"
			found=0
		fi
	done
	return $found
}

# --- Results ---

passed=0 failed=0 skipped=0

# count NAME: add the part's results to the sums, and show those that didn't pass. A part
# that failed without a failing test (a splat, a dead machine) is a failure of its own.
count() {
	local name=$1 status p f s notes=$state/$1.notes
	status=$(cat "$state/$name.status")
	: >"$notes"
	if [ "${part_kind[$name]}" = test ]; then
		read -r p f s < <("$runner/tap" "$state/$name.tap" 2>"$notes")
	else
		p=$((status == 0)) f=0 s=0
	fi
	if [ "$status" != 0 ] && [ "$f" = 0 ]; then
		echo "failed: $name: exit status $status" >>"$notes"
		tail -n 3 "$state/$name.tap" >>"$notes"
		tail -n 5 "$state/$name.err" >>"$notes"
		f=1
	elif [ $((p + f + s)) = 0 ]; then
		echo "failed: $name: ran no test" >>"$notes"
		f=1
	fi
	if [ "$f" != 0 ]; then
		grep -a -v '^skipped' "$notes" >>"$state/failed"
		grep -a -B 12 '^not ok' "$state/$name.tap" >>"$state/failed.context" || true
		tail -n 40 "$state/$name.err"
	fi
	cat "$notes"
	passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
	echo "$p $f $s" >"$state/$name.counts"
	say "[$SECONDS s] $name: $p passed, $f failed, $s skipped, $(cat "$state/$name.seconds") s"
}

# --- Running ---

declare -A part_done part_started part_of_pid
running=()

# How many parts run at a time: a virtual machine keeps about one CPU busy, and takes up
# to 3 GiB of memory.
part_slots() {
	local memory
	memory=$(awk '/^MemAvailable/ { print int($2 / 3 / 1024 / 1024) }' /proc/meminfo)
	echo "${SLOTS:-$((memory < 1 ? 1 : memory < $(nproc) ? memory : $(nproc)))}"
}

# A subshell: a part's variables don't reach the next part.
once() { (eval "${part_command[$1]}") >"$state/$1.tap" 2>"$state/$1.err" </dev/null; }

# keep_first_try NAME: out of the way of the second one, as NAME.first.tap and so on
keep_first_try() {
	local kind
	for kind in tap err console; do
		[ ! -e "$state/$1.$kind" ] || mv "$state/$1.$kind" "$state/$1.first.$kind"
	done
}

# cpu_seconds NAME: note the seconds that CPUs have worked for this shell's children. They tell what
# a part costs, whatever else the machine does meanwhile.
cpu_seconds() {
	# Not in a pipe: that would be another shell.
	times >"$state/$1.times"
	awk 'NR == 2 {
		for (i = 1; i <= 2; i++) {
			split($i, time, /[ms]/)
			sum += time[1] * 60 + time[2]
		}
		print int(sum)
	}' "$state/$1.times" >"$state/$1.cpu"
}

start() {
	local part=$1
	say "[$SECONDS s] $part: starts"
	part_started[$part]=$SECONDS
	(
		trap - INT
		status=0
		once "$part" || status=$?
		# Machines in which a guest runs have ended so now and then, without a word on the
		# console; the cause isn't known. The line says that it happened, and a second
		# time fails.
		if [ $status = 123 ]; then
			say "[$SECONDS s] $part: a triple fault ended the machine: trying once more"
			keep_first_try "$part"
			status=0
			once "$part" || status=$?
		fi
		cpu_seconds "$part"
		echo $status >"$state/$part.status"
	) &
	part_of_pid[$!]=$part
	running+=("$part")
}

# remove NAME: from "running"
remove() {
	local name rest=()
	for name in "${running[@]}"; do
		[ "$name" = "$1" ] || rest+=("$name")
	done
	running=(${rest[@]+"${rest[@]}"})
}

finish_part() {
	local name=$1
	remove "$name"
	[ -s "$state/$name.status" ] || echo 143 >"$state/$name.status"
	echo $((SECONDS - part_started[$name])) >"$state/$name.seconds"
	part_done[$name]=$(cat "$state/$name.status")
	count "$name"
}

# May the part start? 0: yes; 1: not yet; 2: never, since something that it needs has failed
is_ready() {
	local need needs
	read -ra needs <<<"${part_needs[$1]}"
	for need in ${needs[@]+"${needs[@]}"}; do
		case ${part_done[$need]:-} in
		'') return 1 ;;
		0) ;;
		*) return 2 ;;
		esac
	done
}

# Parts that take a CPU for themselves.
nr_busy() {
	local name n=0
	for name in ${running[@]+"${running[@]}"}; do
		[ "${part_kind[$name]}" = beside ] || n=$((n + 1))
	done
	echo $n
}

# A line that says what runs and what is still to come.
alive() {
	local name text=
	for name in ${running[@]+"${running[@]}"}; do
		text+="${text:+, }$name ($((SECONDS - part_started[$name])) s)"
	done
	say "[$SECONDS s] runs: $text; to come: ${pending[*]:-nothing}"
}

# run_parts: all wanted parts
run_parts() {
	local name slots pid ticker=0 again rest ready
	pending=()
	for name in "${parts[@]}"; do
		[ -z "${wanted[$name]:-}" ] || pending+=("$name")
	done
	slots=$(part_slots)
	say "${#pending[@]} parts, $slots at a time"
	while :; do
		again=y
		while [ -n "$again" ]; do
			again='' rest=()
			for name in ${pending[@]+"${pending[@]}"}; do
				ready=0
				is_ready "$name" || ready=$?
				if [ $ready = 2 ]; then
					part_done[$name]=1 again=y
					echo "failed: $name: not run, for one of its needs failed: ${part_needs[$name]}" |
						tee -a "$state/failed"
					failed=$((failed + 1))
				elif [ $ready = 0 ] && { [ "${part_kind[$name]}" = beside ] ||
					[ "$(nr_busy)" -lt "$slots" ]; }; then
					start "$name"
				else
					rest+=("$name")
				fi
			done
			pending=(${rest[@]+"${rest[@]}"})
		done
		[ ${#running[@]} -gt 0 ] || break
		if [ $ticker = 0 ]; then
			sleep 30 &
			ticker=$!
		fi
		pid=
		wait -n -p pid || true
		if [ "$pid" = "$ticker" ]; then
			ticker=0
			alive
		elif [ -n "$pid" ] && [ -n "${part_of_pid[$pid]:-}" ]; then
			finish_part "${part_of_pid[$pid]}"
		fi
	done
	[ $ticker = 0 ] || kill $ticker 2>/dev/null || true
}

# Seconds of each part, the slowest first, and those that CPUs worked for it.
show_times() {
	local name cpu=0
	for name in "${!part_started[@]}"; do
		cpu=$((cpu + $(cat "$state/$name.cpu" 2>/dev/null || echo 0)))
	done
	echo "seconds of each part, the slowest first, and of CPUs ($SECONDS s in all, $cpu s of CPUs):"
	for name in "${!part_started[@]}"; do
		printf '%6d %6d  %s\n' "$(cat "$state/$name.seconds")" \
			"$(cat "$state/$name.cpu" 2>/dev/null || echo 0)" "$name"
	done | sort -rn
}

# The closing lines: the failures' names once more, where the end of a log shows them.
finish() {
	local line="$passed passed, $failed failed"
	[ $skipped = 0 ] || line+=", $skipped skipped"
	[ ! -e "$state/failed.context" ] || head -n 60 "$state/failed.context"
	show_times
	[ ! -e "$state/failed" ] || head -n 60 "$state/failed"
	echo "$line"
	[ $failed = 0 ]
}
