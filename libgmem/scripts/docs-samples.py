#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Extract and check the blocks that the pages of Documentation/libgmem show; for docs-test.sh.

A comment before each literal block of a page names its kind:

    .. sample: FILE              lines of that example, verbatim
    .. shell: NAME               commands
    .. output: KERNEL COMMAND    the output of that command on that kernel

Usage: docs-samples.py commands KERNEL PAGE...
           the commands whose output is shown, for that kernel
       docs-samples.py kernels PAGE...
       docs-samples.py shell NAME PAGE...
       docs-samples.py check EXAMPLES OUTPUT PAGE...
           compare the pages with the examples in the folder EXAMPLES and with the file
           OUTPUT; prints TAP. OUTPUT has, for each command, a line "$ COMMAND", the
           command's output, and a line "$? STATUS".
"""
import pathlib
import re
import sys
import textwrap
from typing import NamedTuple

MARKED = re.compile(
    r"^\.\. (sample|shell|output): (.+)\n\n\.\. code-block:: \S+\n\n((?:    .*\n|\n)+)", re.M)
BLOCK = re.compile(r"^\.\. (?:code-block|literalinclude|parsed-literal)::|^(?!\.\. ).*::$", re.M)


class Block(NamedTuple):
    page: str
    line: int
    kind: str
    argument: str
    text: str


def blocks(page):
    """Return all blocks of a page. A block without such a comment has an empty kind."""
    source = pathlib.Path(page).read_text()
    found, inside = [], []
    for match in MARKED.finditer(source):
        line = source.count("\n", 0, match.start(3)) + 1
        text = textwrap.dedent(match[3]).rstrip("\n") + "\n"
        found.append(Block(page, line, match[1], match[2], text))
        inside.append(match.span())
    for match in BLOCK.finditer(source):
        if not any(start <= match.start() < end for start, end in inside):
            line = source.count("\n", 0, match.start()) + 1
            found.append(Block(page, line, "", "", ""))
    return found


def is_excerpt(text, source):
    """Does the source have these lines, one after the other, at any indentation?"""
    wanted = text.splitlines()
    lines = source.splitlines()
    return any(
        textwrap.dedent("\n".join(lines[i:i + len(wanted)])).splitlines() == wanted
        for i in range(len(lines) - len(wanted) + 1))


def outputs(file):
    """Return the output and the exit status of each command."""
    text = pathlib.Path(file).read_text()
    found = re.findall(r"^\$ (.*)\n((?:(?!\$\? ).*\n)*)\$\? (\d+)$", text, re.M)
    return {command: (output, int(status)) for command, output, status in found}


def problem(block, examples, printed):
    """Explain why the block is wrong; empty if it is right."""
    if block.kind == "sample":
        path = examples / block.argument
        if not path.is_file():
            return f"there is no example {block.argument}"
        if not is_excerpt(block.text, path.read_text()):
            return f"{block.argument} doesn't have these lines"
    elif block.kind == "output":
        output, status = printed.get(block.argument.split(" ", 1)[1], ("", None))
        if status is None:
            return f"{block.argument} was not run"
        if status != 0:
            return f"the command failed with exit status {status}, and printed:\n{output}"
        if output != block.text:
            return f"the command printed:\n{output}"
    elif not block.kind:
        return "the block has no comment that names its kind: add sample, shell or output"
    return ""


def check(examples, output, pages):
    examples = pathlib.Path(examples)
    everything = [block for page in pages for block in blocks(page)]
    printed = outputs(output)
    shown = {block.argument for block in everything if block.kind == "sample"}
    results = [(f"{pathlib.Path(b.page).name}:{b.line} {b.kind} {b.argument}",
                problem(b, examples, printed)) for b in everything if b.kind != "shell"]
    for path in sorted(examples.iterdir()):
        if path.suffix in (".cc", ".c", ".rs") and path.name != "describe.cc":
            missing = "" if path.name in shown else "no page shows it"
            results.append((f"{path.name} is shown", missing))
    print(f"TAP version 13\n1..{len(results)}")
    for number, (name, why) in enumerate(results, 1):
        print(f"{'not ok' if why else 'ok'} {number} {name}")
        for line in why.splitlines():
            print(f"# {line}")
    return any(why for _, why in results)


def main(arguments):
    action, *rest = arguments
    if action == "check":
        return check(rest[0], rest[1], rest[2:])
    if action == "kernels":
        shown = [b for page in rest for b in blocks(page) if b.kind == "output"]
        print("\n".join(sorted({block.argument.split(" ", 1)[0] for block in shown})))
        return 0
    wanted, pages = rest[0], rest[1:]
    everything = [block for page in pages for block in blocks(page)]
    if action == "commands":
        for block in everything:
            kernel, _, command = block.argument.partition(" ")
            if block.kind == "output" and kernel == wanted:
                print(command)
        return 0
    if action == "shell":
        found = [b.text for b in everything if b.kind == "shell" and b.argument == wanted]
        print("".join(found), end="")
        return not found
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
