"""Checks every dependency's licence against the allow-list of deny.toml, and that it comes from crates.io.

Reads `cargo metadata --format-version 1` from standard input.
"""

from __future__ import annotations

import json
import re
import sys
import tomllib
from pathlib import Path

CRATES_IO = "registry+https://github.com/rust-lang/crates.io-index"
TOKEN = re.compile(r"\(|\)|[^\s()]+")


def permitted(expression: str, allowed: set[str]) -> bool:
    """Whether an SPDX expression can be met with what is allowed. `AND` binds more than `OR`."""
    # What crates wrote before SPDX: `MIT/Apache-2.0`.
    tokens = TOKEN.findall(expression.replace("/", " OR "))

    def one() -> bool:
        token = tokens.pop(0)
        if token == "(":
            result = either()
            if tokens.pop(0) != ")":
                raise ValueError("a parenthesis stays open")
            return result
        if tokens[:1] == ["WITH"]:
            # An exception permits more than its licence does.
            del tokens[:2]
        return token in allowed

    def both() -> bool:
        result = one()
        while tokens[:1] == ["AND"]:
            tokens.pop(0)
            result &= one()
        return result

    def either() -> bool:
        result = both()
        while tokens[:1] == ["OR"]:
            tokens.pop(0)
            result |= both()
        return result

    result = either()
    if tokens:
        raise ValueError(f"{tokens[0]!r} is one too many")
    return result


def problem(package: dict, allowed: set[str]) -> str | None:
    if package["source"] != CRATES_IO:
        return f"comes from {package['source']}"
    licence = package["license"]
    if not licence:
        return "names no licence"
    try:
        return None if permitted(licence, allowed) else f"is under {licence}"
    except (ValueError, IndexError) as error:
        return f"has a licence that cannot be read: {licence!r}: {error}"


def main() -> int:
    deny = Path(__file__).resolve().parents[1] / "deny.toml"
    allowed = set(tomllib.loads(deny.read_text())["licenses"]["allow"])
    metadata = json.load(sys.stdin)
    own = set(metadata["workspace_members"])
    others = [package for package in metadata["packages"] if package["id"] not in own]
    problems = [(package, found) for package in others if (found := problem(package, allowed))]
    for package, found in problems:
        print(f"{package['name']} {package['version']} {found}", file=sys.stderr)
    print(f"{len(others)} dependencies, {len(problems)} that may not be used")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
