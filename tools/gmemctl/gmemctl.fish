# SPDX-License-Identifier: MIT OR Apache-2.0
# fish completion for gmemctl: subcommands and flags come from "gmemctl help".

# The subcommand that was typed so far; nothing if there is none.
function __gmemctl_command
    for word in (commandline -opc)[2..]
        if not string match -q -- '-*' $word
            echo $word
            return
        end
    end
    return 1
end

# True while gmemctl's own words are typed: before the "--" of exec.
function __gmemctl_own_words
    not contains -- -- (commandline -opc)
end

function __gmemctl_commands
    gmemctl help 2>/dev/null | string replace -rf '^  ([a-z]+) +(.*)' '$1\t$2'
    __gmemctl_command >/dev/null
    or echo help\t"what a subcommand does"
end

# The flags of the subcommand; after a flag with a value, none.
function __gmemctl_flags
    set -l command (__gmemctl_command)
    or return
    gmemctl help $command 2>/dev/null | string replace -rf '^  (-[-a-z]+) +(.*)' '$1\t$2'
end

function __gmemctl_vms
    gmemctl list 2>/dev/null | string replace -rf '^vm ([0-9]+)(?: "(.*)")?: .*' '$1\t$2'
end

# The names of VMs, with the quotes of C undone.
function __gmemctl_names
    test "$(__gmemctl_command)" != exec
    and gmemctl list 2>/dev/null | string replace -rf '^vm [0-9]+ "(.*)": [a-z]+, policy .*' '$1' |
        string replace -ra '\\\\(.)' '$1'
end

function __gmemctl_needs_value
    string match -rq -- '^--(vm|name|pid|output|svg|event|sort)$' (commandline -opc)[-1]
end

complete -c gmemctl -f
complete -c gmemctl -n '__gmemctl_own_words; and not __gmemctl_command >/dev/null' \
    -a '(__gmemctl_commands)'
complete -c gmemctl -n '__gmemctl_own_words; and test "$(__gmemctl_command)" = help' \
    -a '(__gmemctl_commands)'
complete -c gmemctl -n '__gmemctl_own_words; and __gmemctl_command >/dev/null; and not __gmemctl_needs_value' \
    -a '(__gmemctl_flags)'
complete -c gmemctl -n '__gmemctl_own_words; and test "$(__gmemctl_command)" = policy' \
    -a 'allow scrub deny'
complete -c gmemctl -n __gmemctl_own_words -l vm -x -a '(__gmemctl_vms)'
complete -c gmemctl -n __gmemctl_own_words -l name -x -a '(__gmemctl_names)'
complete -c gmemctl -n __gmemctl_own_words -l pid -x -a '(__fish_complete_pids)'
complete -c gmemctl -n __gmemctl_own_words -l output -r -F
complete -c gmemctl -n __gmemctl_own_words -l svg -r -F
complete -c gmemctl -n __gmemctl_own_words -l sort -x \
    -a 'lent refused waiters bindings vm pid command name'
# The command that exec runs.
complete -c gmemctl -n 'not __gmemctl_own_words' -x -a '(__fish_complete_subcommand)'
