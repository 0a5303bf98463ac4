#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Test the completion of gmemctl in bash, zsh and fish, as TAP. Each shell loads its file from the
# place where "make install" puts it.
# Usage: completion-test.sh GMEMCTL
set -uo pipefail

gmemctl=$(realpath "$1")
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The gmemctl of this test lists four VMs; all other subcommands are those of the real one.
mkdir -p "$work/bin" "$work/share/bash-completion/completions" "$work/share/zsh/site-functions" \
	"$work/share/fish/vendor_completions.d"
cat >"$work/list" <<'EOF'
vm 3: window, policy allow
  0x0 binding
vm 17 "web 1": window, policy deny
vm 20 "db \"\\": window, policy allow
vm 21 "$(touch run-by-a-name)": window, policy allow
guestmem 5 "ram": 4 KiB
EOF
cat >"$work/bin/gmemctl" <<EOF
#!/bin/sh
[ "\$1" != list ] || { cat "$work/list"; exit; }
exec "$gmemctl" "\$@"
EOF
chmod +x "$work/bin/gmemctl"
touch "$work/picture.svg"
cp "$here/gmemctl.bash-completion" "$work/share/bash-completion/completions/gmemctl"
cp "$here/_gmemctl" "$work/share/zsh/site-functions/"
cp "$here/gmemctl.fish" "$work/share/fish/vendor_completions.d/"
export PATH=$work/bin:$PATH XDG_DATA_DIRS=$work/share BASH_COMPLETION_USER_DIR=$work
cd "$work" || exit

# shellcheck source=/dev/null
source /usr/share/bash-completion/bash_completion
_completion_loader gmemctl

n=0 failed=0
# compare SHELL EXPECTED FOUND WORD...
compare() {
	local shell=$1 expected=$2 found=$3
	shift 3
	n=$((n + 1))
	if [ "$found" = "$expected" ]; then
		echo "ok $n $shell: ${*@Q}"
	else
		echo "not ok $n $shell: ${*@Q}"
		printf '# "%s", not "%s"\n' "$found" "$expected"
		sed 's/^/# /' "$work/err"
		failed=1
	fi
}

# completes EXPECTED WORD...: the last word is the part that is typed so far
completes() {
	local expected=$1 function found
	shift
	COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
	COMP_LINE="$*" COMP_POINT=${#COMP_LINE} COMP_TYPE=9 COMP_KEY=9
	COMP_WORDBREAKS=$' \t\n"\'><=;|&(:'
	function=$(complete -p "$1" | sed 's/.*-F \([^ ]*\) .*/\1/')
	"$function" "$1" "${!#}" "${@: -2:1}" 2>"$work/err"
	found=$(printf '%s\n' "${COMPREPLY[@]}" | sort | paste -sd ' ')
	compare bash "$expected" "$found" "$@"
}

# completes_in SHELL EXPECTED LINE: zsh or fish completes the last word of the line. fish returns
# names without quotes.
completes_in() {
	local found
	# shellcheck disable=SC2016 # for fish
	case $1 in
	fish) found=$(HOME=$work fish -c 'complete -C $argv[1]' "$3" 2>"$work/err" | cut -f 1) ;;
	zsh) found=$(HOME=$work "$here/zsh-complete" "$work/share/zsh/site-functions" "$3" 2>"$work/err") ;;
	esac
	found=$(printf '%s\n' "$found" | sort -u | paste -sd ' ')
	compare "$1" "$2" "$found" "$3"
}

echo "TAP version 13"
completes "exec faults help info list map monitor policy reclaim stats top" gmemctl ""
completes "map monitor" gmemctl m
completes "" gmemctl nonsense
completes "exec faults info list map monitor policy reclaim stats top" gmemctl help ""
completes "--interval --iterations" gmemctl top --i
completes "--address --fd --name --pid --size --vm -j -p" gmemctl reclaim ""
completes "--openmetrics --output --prometheus -j -p" gmemctl -j stats -
completes "17 20 21 3" gmemctl map --vm ""
completes "17" gmemctl map --vm 1
completes "17" gmemctl map --vm = 1
completes '\$\(touch\ run-by-a-name\) db\ \"\\ web\ 1' gmemctl list --name ""
completes 'web\ 1' gmemctl map --name we
completes 'web\ 1' gmemctl reclaim --name = we
completes "" gmemctl list --name nobody
completes "" gmemctl exec --name ""
completes "--fd --name --pid --vm -j -p allow deny scrub" gmemctl policy ""
completes "lent" gmemctl top --sort l
completes "picture.svg" gmemctl map --svg pic
# The completion of the command after exec: mv completes file names.
completes "picture.svg" gmemctl exec --size 1M -- mv pic

for shell in zsh fish; do
	completes_in $shell "exec faults help info list map monitor policy reclaim stats top" "gmemctl "
	completes_in $shell "map monitor" "gmemctl m"
	completes_in $shell "exec faults info list map monitor policy reclaim stats top" "gmemctl help "
	completes_in $shell "--interval --iterations" "gmemctl top --i"
	completes_in $shell "17 20 21 3" "gmemctl map --vm "
	completes_in $shell "17" "gmemctl map --vm 1"
	completes_in $shell "lent" "gmemctl top --sort l"
	completes_in $shell "picture.svg" "gmemctl map --svg pic"
	completes_in $shell "picture.svg" "gmemctl exec --size 1M -- mv pic"
done
completes_in zsh "17" "gmemctl map --vm=1"
completes_in fish "--vm=17" "gmemctl map --vm=1"
completes_in zsh 'web\ 1' "gmemctl map --name we"
completes_in fish "web 1" "gmemctl map --name we"
completes_in zsh '\$\(touch\ run-by-a-name\) db\ \"\\ web\ 1' "gmemctl list --name "
# shellcheck disable=SC2016 # a name
completes_in fish '$(touch run-by-a-name) db "\ web 1' "gmemctl list --name "
completes_in zsh "allow" "gmemctl policy a"
completes_in fish "allow" "gmemctl policy a"
n=$((n + 1))
if [ -e run-by-a-name ]; then
	echo "not ok $n a name ran a command"
	failed=1
else
	echo "ok $n no name runs a command"
fi
echo "1..$n"
exit $failed
