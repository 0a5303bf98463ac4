#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""Draw the pictures of the documentation from what gmemctl printed in its test.

Usage: pictures.py FILE FOLDER. FILE is the output of gmemctl-test.sh, in which comments have an SVG
picture and a session in a terminal. Writes FOLDER/map.svg and FOLDER/terminal.svg.
"""
import html
import os
import re
import sys

FONT_SIZE = 13
CHARACTER = 7.9
LINE = 17
MARGIN = 12
BACKGROUND, FOREGROUND = "#1e1e1e", "#d4d4d4"
PROMPT = "$ "
# REUSE-IgnoreStart
COMMENT = ("<!-- SPDX-License-Identifier: MIT OR Apache-2.0 -->\n"
           "<!-- Drawn by tools/gmemctl/pictures.py. -->\n")
# REUSE-IgnoreEnd


def colour(number):
    """Returns one of the 256 colours of a terminal, above the first 16."""
    if number >= 232:
        level = 8 + 10 * (number - 232)
        return f"#{level:02x}{level:02x}{level:02x}"
    steps = [0, 95, 135, 175, 215, 255]
    number -= 16
    return "#" + "".join(f"{steps[number // place % 6]:02x}" for place in (36, 6, 1))


def style(parameters):
    """Returns the attributes of SVG for the parameters of a change of colour."""
    numbers = [int(number or 0) for number in parameters.split(";")]
    result = ""
    while numbers:
        number = numbers.pop(0)
        if number == 38:
            result += f' fill="{colour(numbers[1])}"'
            numbers = numbers[2:]
        elif number == 1:
            result += ' font-weight="bold"'
    return result


def draw_line(line, y):
    """Returns the SVG of a line. "^[" begins a change of colour."""
    spans = []
    attributes = ' font-weight="bold"' if line.startswith(PROMPT) else ""
    for number, part in enumerate(re.split(r"\^\[([0-9;]*)m", line)):
        if number % 2:
            attributes = style(part)
        elif part:
            spans.append(f"<tspan{attributes}>{html.escape(part, quote=False)}</tspan>")
    return f'<text x="{MARGIN}" y="{y}" xml:space="preserve">{"".join(spans)}</text>\n'


def draw_terminal(lines):
    """Returns an SVG document that shows the lines as a terminal does."""
    columns = max(len(re.sub(r"\^\[[0-9;]*m", "", line)) for line in lines)
    width = round(columns * CHARACTER) + 2 * MARGIN
    height = len(lines) * LINE + 2 * MARGIN
    body = "".join(draw_line(line, MARGIN + LINE * (number + 1) - 4)
                   for number, line in enumerate(lines))
    return (f'<?xml version="1.0" encoding="UTF-8"?>\n{COMMENT}'
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
            f'font-family="monospace" font-size="{FONT_SIZE}" fill="{FOREGROUND}">\n'
            f'<rect width="100%" height="100%" rx="6" fill="{BACKGROUND}"/>\n{body}</svg>\n')


def main(file, folder):
    with open(file, encoding="utf-8") as text:
        printed = text.read()
    picture = re.findall("^# large svg: (.*\n)", printed, re.M)
    session = re.findall("^# terminal: ?(.*)$", printed, re.M)
    if not picture or not session:
        sys.exit(f"{file} has no pictures: did the test fail?")
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "map.svg"), "w", encoding="utf-8") as out:
        out.write("".join(picture).replace("?>\n", "?>\n" + COMMENT, 1))
    with open(os.path.join(folder, "terminal.svg"), "w", encoding="utf-8") as out:
        out.write(draw_terminal(session))


if __name__ == "__main__":
    main(*sys.argv[1:])
