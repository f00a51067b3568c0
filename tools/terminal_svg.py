#!/usr/bin/env python3
"""Draws what a command printed as an SVG picture of a terminal: tools/terminal_svg.py <output.txt >docs/demo.svg"""
import html
import sys
import textwrap

COLUMNS, CHARACTER, LINE, MARGIN = 112, 7.8, 18, 16


def main() -> None:
    lines = []
    for line in sys.stdin.read().rstrip("\n").split("\n"):
        lines += textwrap.wrap(line, COLUMNS, subsequent_indent="  ", drop_whitespace=False, replace_whitespace=False,
                               break_on_hyphens=False) or [""]
    width, height = int(COLUMNS * CHARACTER + 2 * MARGIN), len(lines) * LINE + 2 * MARGIN
    print(f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">')
    print(f'<rect width="{width}" height="{height}" rx="8" fill="#1b1f24"/>')
    print('<g font-family="DejaVu Sans Mono, Menlo, Consolas, monospace" font-size="13" xml:space="preserve">')
    for i, line in enumerate(lines):
        color = "#8fd18f" if line.startswith("$ ") else "#d8dee6"
        print(f'<text x="{MARGIN}" y="{MARGIN + 13 + i * LINE}" fill="{color}">{html.escape(line)}</text>')
    print("</g></svg>")


if __name__ == "__main__":
    main()
