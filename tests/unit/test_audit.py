"""`make audit` never takes "nobody was asked" for "nothing is known"."""

import json

import pytest

from tests.support.audit import Findings, ask, exit_code, lines, read

CLEAN = {"name": "click", "version": "8.5.1", "vulns": []}
KNOWN = {"name": "old", "version": "1.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["1.1"]}]}
SKIPPED = {"name": "cffi", "skip_reason": "Dependency not found"}


def _read(*dependencies: dict[str, object]) -> Findings:
    return read(json.dumps({"dependencies": dependencies}), "")


@pytest.mark.parametrize(
    ("dependencies", "code"),
    [([CLEAN], 0), ([CLEAN, KNOWN], 1), ([CLEAN, SKIPPED], 3), ([KNOWN, SKIPPED], 1)],
    ids=["nothing known", "known", "not asked", "both"],
)
def test_the_exit_code_tells_what_is_known_from_what_nobody_was_asked(dependencies, code):
    """0 needs an answer about every package."""
    assert exit_code([_read(CLEAN), _read(*dependencies)]) == code


def test_a_vulnerability_is_named_with_the_version_that_mends_it():
    """Package, version, identifier and remedy stand in one line."""
    assert list(lines(_read(KNOWN))) == ["old 1.0: PYSEC-1, mended by 1.1"]


def test_a_reason_is_given_for_what_could_not_be_asked():
    """The number of such packages, and the service's words for the first."""
    first, second = lines(_read(SKIPPED, SKIPPED))
    assert first.startswith("COULD NOT ASK about 2")
    assert second == "cffi: Dependency not found"


def test_a_service_that_is_out_of_reach_is_no_good_news(tmp_path):
    """A program that prints no JSON and fails leaves its last words as the reason, and exit code 3."""
    program = tmp_path / "pip-audit"
    program.write_text("#!/bin/sh\necho 'Failed to resolve the host' >&2\nexit 1\n", encoding="utf-8")
    program.chmod(0o755)
    findings = ask(str(program), tmp_path / "cloud.txt")
    assert exit_code([findings]) == 3
    assert findings.not_asked == ["Failed to resolve the host"]
