#!/usr/bin/env python3
"""Finds dead relative links and pictures in Markdown files: tools/check_links.py FOLDER...

A link leads to a file or folder below one of the folders' roots, and where it has a fragment, to a heading or an anchor of
that file. Exits 1 where one is dead, naming file, line and link.
"""
import pathlib
import re
import sys

LINK = re.compile(r"!?\[[^\]\[]*\]\(<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\)")
FENCE = re.compile(r"^\s*(```|~~~)")
CODE = re.compile(r"`[^`]*`")


def lines_of(path: pathlib.Path):
    """Number and text of each line outside code."""
    fenced = False
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if FENCE.match(line):
            fenced = not fenced
        elif not fenced:
            yield number, line


def anchors(path: pathlib.Path) -> set:
    """As GitHub makes them of headings."""
    found = set()
    for _, line in lines_of(path):
        if match := re.match(r"#+\s+(.*)", line):
            text = re.sub(r"[^\w\- ]", "", match.group(1).strip().lower())
            found.add(text.replace(" ", "-"))
        found.update(re.findall(r"<a (?:name|id)=\"([^\"]+)\"", line))
    return found


def dead_links(path: pathlib.Path, root: pathlib.Path):
    for number, line in lines_of(path):
        for link in LINK.findall(CODE.sub("", line)):
            if re.match(r"[a-z]+:", link):
                continue
            target, _, fragment = link.partition("#")
            there = (path.parent / target).resolve() if target else path.resolve()
            if not there.is_relative_to(root.resolve()) or not there.exists():
                yield f"{path}:{number}: {link} leads nowhere"
            elif fragment and there.suffix == ".md" and fragment not in anchors(there):
                yield f"{path}:{number}: {link}: no such heading"


def main() -> int:
    dead, checked = [], 0
    for folder in map(pathlib.Path, sys.argv[1:]):
        for path in sorted(folder.rglob("*.md")):
            if not any(part in ("build", "node_modules") or part.startswith(".") for part in path.relative_to(folder).parts):
                checked += 1
                dead += dead_links(path, folder)
    print(*dead, sep="\n", end="\n" if dead else "")
    print(f"{checked} files, {len(dead)} dead links")
    return 1 if dead or not checked else 0


if __name__ == "__main__":
    sys.exit(main())
