"""Word list check: a search for words that have a standard term in the glossary of CONTRIBUTING.md.

    .venv/bin/python tests/house_style.py [FILE …]

Without arguments, all files in the git index are checked. The exit code is 1 if a word is found. Identifiers are split
into words: `put_off` is "put off".
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
SUFFIXES = {".py", ".lua", ".md", ".toml", ".cfg", ".yml", ".example", ""}
#: Prefixes of the paths that are not checked: this list and its test, names in earlier schemas, and the license.
SKIPPED = ("tests/house_style.py", "tests/pure/test_house_style.py", "models/migrations/", "LICENSE")
#: Regular expressions of words, and their replacements. A blank also matches `_` and `-`.
REPLACEMENTS = {
    "afresh|anew": "again",
    "at once": "immediately, or: at the same time",
    "bad luck|misfortune": "failure",
    "bury|buries|buried": "dead-letter",
    "dead workers?|dead consumers?": "lost worker, expired consumer",
    "deeds?": "action",
    "dies|died|dying": "crashes, exits, ends",
    "deaths?": "crash, crash count",
    "doomed": "expected to fail",
    "doubles (do|are|of|which)": "duplicates",
    "everybody|everyone": "all clients",
    "for ever|(?<!serve_)(?<!run_)forever": "without limit, permanently",
    "(give|gives|gave|given|giving) back": "release, return",
    "handovers?": "pending evaluation",
    "he|she|him|whom": "it",
    "heirs?": "successor",
    "in hand": "leased",
    "innocent": "unrelated",
    "(is|are|was|were|be) away": "unavailable",
    "lest": "so that … not",
    "minted": "generated",
    "misbehaves?": "fails",
    "nobody|no one": "no client, no worker",
    "of late": "recently",
    "ought to": "must, should",
    "put off|puts off": "delayed, snoozed, rescheduled",
    "refusals?": "rejection",
    "says no": "rejects",
    "sisters?|brothers?": "the other commands",
    "so that none": "so that no …",
    "somebody|someone": "a client, a worker",
    "speaks|spoke|spoken": "fires, triggers",
    "(take|takes|took|taken) apart": "split",
    "the door": "group commit",
    "theirs|ours": "the noun",
    "told|tells of|tells whether": "received, notified; return whether",
    "what befell|befalls": "happens",
    "whatever (happens|befalls)": "in every case",
    "whoever": "each process that",
}


class Finding(NamedTuple):
    """Word to replace, with its file and line number."""

    path: str
    line: int
    word: str
    replacement: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.word!r} → {self.replacement}"


def pattern(words: str) -> re.Pattern[str]:
    """Return a compiled pattern that also matches these words in identifiers."""
    return re.compile(rf"(?<![a-zA-Z])(?:{words.replace(' ', '[ _-]')})(?![a-zA-Z])", re.IGNORECASE)


PATTERNS = {pattern(words): replacement for words, replacement in REPLACEMENTS.items()}


def findings(path: str, text: str) -> Iterator[Finding]:
    """Yield the words to replace in the text of a file; tables in CONTRIBUTING.md are not checked."""
    for number, line in enumerate(text.splitlines(), 1):
        if path == "CONTRIBUTING.md" and line.startswith("|"):
            continue
        for words, replacement in PATTERNS.items():
            for match in words.finditer(line):
                yield Finding(path, number, match[0], replacement)


def files() -> list[str]:
    """Return the paths of all files to check, relative to the root of the repository."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    paths = [path for path in listed.splitlines() if Path(path).suffix in SUFFIXES and (ROOT / path).is_file()]
    return [path for path in paths if not path.startswith(SKIPPED)]


def main(paths: list[str]) -> int:
    """Print the findings in these files, by default in all files, and return the exit code."""
    found = [finding for path in paths or files() for finding in findings(path, (ROOT / path).read_text())]
    for finding in found:
        sys.stdout.write(f"{finding}\n")
    sys.stdout.write(f"{len(found)} words to replace\n" if found else "No words to replace\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
