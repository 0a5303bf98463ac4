#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Test the completion of gmemctl in bash, as TAP. bash-completion's own loader loads the file from
# the place where "make install" puts it.
# Usage: completion-test.sh GMEMCTL
set -uo pipefail

gmemctl=$(realpath "$1")
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The gmemctl of this test lists two VMs; all other subcommands are those of the real one.
mkdir -p "$work/bin" "$work/share/bash-completion/completions"
cat >"$work/bin/gmemctl" <<EOF
#!/bin/sh
[ "\$1" != list ] || { printf 'vm 3: window\n  0x0 binding\nvm 17: window\n'; exit; }
exec "$gmemctl" "\$@"
EOF
chmod +x "$work/bin/gmemctl"
touch "$work/picture.svg"
cp "$here/gmemctl.bash-completion" "$work/share/bash-completion/completions/gmemctl"
export PATH=$work/bin:$PATH XDG_DATA_DIRS=$work/share BASH_COMPLETION_USER_DIR=$work
cd "$work" || exit

# shellcheck source=/dev/null
source /usr/share/bash-completion/bash_completion
_completion_loader gmemctl

n=0 failed=0
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
	n=$((n + 1))
	if [ "$found" = "$expected" ]; then
		echo "ok $n ${*@Q}"
	else
		echo "not ok $n ${*@Q}"
		printf '# "%s", not "%s"\n' "$found" "$expected"
		sed 's/^/# /' "$work/err"
		failed=1
	fi
}

echo "TAP version 13"
echo "1..12"
completes "exec help info list map monitor reclaim stats top" gmemctl ""
completes "map monitor" gmemctl m
completes "" gmemctl nonsense
completes "exec info list map monitor reclaim stats top" gmemctl help ""
completes "--interval --iterations" gmemctl top --i
completes "--address --fd --pid --size --vm -j -p" gmemctl reclaim ""
completes "--openmetrics --output --prometheus -j -p" gmemctl -j stats -
completes "17 3" gmemctl map --vm ""
completes "17" gmemctl map --vm 1
completes "17" gmemctl map --vm = 1
completes "picture.svg" gmemctl map --svg pic
# The completion of the command after exec: mv completes file names.
completes "picture.svg" gmemctl exec --size 1M -- mv pic
exit $failed
