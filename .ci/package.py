"""Prints facts about our own package, one a line: `features`, `examples` or `rust-version`.

Reads `cargo metadata --format-version 1` from standard input.
"""

from __future__ import annotations

import json
import sys

metadata = json.load(sys.stdin)
(package,) = [package for package in metadata["packages"] if package["id"] in metadata["workspace_members"]]
match sys.argv[1]:
    case "features":
        facts = sorted(set(package["features"]) - {"default"})
    case "examples":
        facts = [target["name"] for target in package["targets"] if "example" in target["kind"]]
    case "rust-version":
        facts = [package["rust_version"]]
    case unknown:
        sys.exit(f"unknown fact: {unknown}")
for fact in facts:
    print(fact)
