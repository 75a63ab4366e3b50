"""Asks pip-audit for known vulnerabilities of pinned requirements, and tells apart "none" and "nobody asked".

Run as `python -m tests.support.audit PIP_AUDIT FILE ...`; `make audit` does. pip-audit itself ends with 0
when its service knows none of the packages, as where the package index is a mirror without advisories.

Exit codes: 0 nothing is known, and all were asked about; 1 something is known; 3 some were not asked about.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

EXIT_KNOWN, EXIT_NOT_ASKED = 1, 3
_LIMIT_S = 600.0


@dataclass(slots=True)
class Findings:
    """What is known of the packages of one file."""

    asked: int = 0
    known: list[str] = field(default_factory=list)
    """Vulnerabilities: package, version, identifier, versions that mend it."""
    not_asked: list[str] = field(default_factory=list)
    """Why the service could not tell, for each package, or for all of them at once."""


def main(program: str, files: Sequence[str]) -> int:
    """Ask about each file, print what came back, and return the exit code."""
    all_findings = []
    for name in files:
        findings = ask(program, Path(name))
        all_findings.append(findings)
        print(f"{name}: {findings.asked} packages asked about")  # noqa: T201 - a program's output
        for line in lines(findings):
            print(f"  {line}")  # noqa: T201 - as above
    return exit_code(all_findings)


def ask(program: str, requirements: Path) -> Findings:
    """Run pip-audit on a file whose entries are all pinned and hashed: nothing is resolved or installed."""
    command = [program, "--disable-pip", "--require-hashes", "--progress-spinner=off", "--format=json"]
    done = subprocess.run(
        [*command, "-r", str(requirements)], capture_output=True, text=True, timeout=_LIMIT_S, check=False
    )
    return read(done.stdout, done.stderr)


def read(output: str, errors: str) -> Findings:
    """What pip-audit printed as JSON; without any, the end of `errors` is why nobody was asked."""
    findings = Findings()
    if not output.strip():
        findings.not_asked.append(errors.strip()[-400:] or "pip-audit printed nothing")
        return findings
    for package in json.loads(output)["dependencies"]:
        if reason := package.get("skip_reason"):
            findings.not_asked.append(f"{package['name']}: {reason}")
            continue
        findings.asked += 1
        for one in package["vulns"]:
            mended = ", ".join(one["fix_versions"]) or "no version"
            findings.known.append(f"{package['name']} {package['version']}: {one['id']}, mended by {mended}")
    return findings


def lines(findings: Findings) -> Iterator[str]:
    """Findings for a person: every vulnerability, and the first reason why others are unknown."""
    yield from findings.known
    if findings.not_asked:
        yield f"COULD NOT ASK about {len(findings.not_asked)}, so this says nothing of them; the first:"
        yield findings.not_asked[0]


def exit_code(all_findings: Sequence[Findings]) -> int:
    """What is known outweighs what is not."""
    if any(findings.known for findings in all_findings):
        return EXIT_KNOWN
    return EXIT_NOT_ASKED if any(findings.not_asked for findings in all_findings) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
