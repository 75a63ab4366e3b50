"""What the Markdown pages say can be found, run and parsed."""

import re
from pathlib import Path

import click
import msgspec
import pytest
import yaml

from benchmarks.__main__ import benchmarks
from spillover.cloud.config import CloudConfig
from spillover.common import cli
from spillover.common.config import load_config, parse_config
from spillover.common.model.manifest import Manifest
from spillover.edge.config import CameraConfig, EdgeConfig
from spillover.edge.policy.base import Reason
from spillover.edge.sinks.record import Record
from spillover.lab.files import merged
from spillover.lab.loadtest.config import LoadConfig
from spillover.lab.models.prepare.pair import CLOUD_MODEL
from tests.support.documents import PAGES, ROOT, Page
from tests.support.dry_run import check_command, words_after
from tests.support.reference.folders import with_folders
from tests.support.reference.structs import required_keys

README = Page(Path("README.md"))
MINIMAL = ROOT / "examples" / "edge.min.yaml"
FOLDERS = ("common", "edge", "cloud", "lab", "benchmarks", "tests", "proto", "deploy", "docs", "examples")
SOURCES = {".py", ".pyi", ".proto", ".yaml"}
BASES: dict[str, tuple[type, dict[str, object]]] = {
    "edge.yaml": (EdgeConfig, {"camera": {"source": "0"}, "model": {"folder": "m"}}),
    "cloud.yaml": (CloudConfig, {}),
    "model.yaml": (Manifest, {}),
    "load.yaml": (
        LoadConfig,
        {"modes": {"m": {}}, "links": {"l": {}}, "scenarios": {"s": {"modes": ["m"], "links": ["l"]}}},
    ),
}
"""What a snippet is laid over, by the name in its first line."""

NO_COMMANDS = {Path("CHANGELOG.md"), Path("docs/reference/cli.md")}
"""One names commands of the past, the other is made of what the parsers say."""


def _name(page: Page) -> str:
    return str(page.path)


each_page = pytest.mark.parametrize("page", PAGES, ids=_name)


def test_the_front_page_is_short() -> None:
    """README.md fits into 110 lines."""
    assert len(README.text.splitlines()) <= 110


def test_the_front_page_names_the_test_command() -> None:
    """README.md has the two commands that everything begins with."""
    lines = list(README.shell_lines)
    assert "make demo" in lines
    assert "make test" in lines


@each_page
def test_links_lead_somewhere(page: Page) -> None:
    """Each relative link names a file that exists, and a heading in it."""
    for link in page.links:
        name, _, anchor = link.partition("#")
        target = (ROOT / page.path).parent / name if name else ROOT / page.path
        assert target.exists(), link
        if anchor:
            assert anchor in Page(target.resolve().relative_to(ROOT)).anchors, link


@each_page
def test_paths_exist(page: Page) -> None:
    """Each path below one of the project's folders that stands in backticks exists."""
    for code in page.inline_code:
        if re.fullmatch(r"[\w.-]+(/[\w.-]+)*/?", code) and "/" in code and code.split("/")[0] in FOLDERS:
            assert (ROOT / code).exists(), code


@pytest.mark.parametrize("page", [page for page in PAGES if page.path not in NO_COMMANDS], ids=_name)
def test_commands_parse(page: Page) -> None:
    """Each command line names commands and options that exist, and all that are required."""
    for program, command in (("spillover", cli.spillover), ("python -m benchmarks", benchmarks)):
        for line in page.shell_lines:
            _check(page, line, program, command, complete=True)
        for code in page.inline_code:
            if code.startswith(f"{program} ") or (program == "spillover" and code.startswith("lab ")):
                _check(page, code, program, command, complete=False)


@each_page
def test_make_targets_exist(page: Page) -> None:
    """Each `make` command names a target of the Makefile."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for line in (*page.shell_lines, *page.inline_code):
        if words := words_after(line, "make") if line.startswith("make ") else None:
            named = [word for word in words if re.fullmatch(r"[a-z-]+", word)]
            assert set(named[:1]) <= targets, line


@each_page
def test_snippets_parse(page: Page) -> None:
    """Each block of YAML says whose it is, and its keys and values are accepted there."""
    for block in page.blocks("yaml"):
        if block == MINIMAL.read_text(encoding="utf-8"):
            continue
        name = block.splitlines()[0].removeprefix("# ")
        kind, base = BASES[name]
        snippet = yaml.safe_load(block)
        if "cameras" in snippet:
            base = {key: value for key, value in base.items() if key != "camera"}
        text = yaml.safe_dump(merged(base, snippet))
        environ = dict.fromkeys(re.findall(r"\$\{(\w+)\}", text), "x")
        parse_config(text, kind, f"{page.path}: {name}", environ)


@each_page
def test_results_have_the_fields_that_are_shown(page: Page) -> None:
    """Each result that is shown has only keys of a result."""
    for block in page.blocks("json"):
        _check_keys(msgspec.json.decode(block), Record)


def test_the_smallest_edge_yaml_is_smallest() -> None:
    """examples/edge.min.yaml has six lines, one camera, every key that is required, and no other."""
    text = MINIMAL.read_text(encoding="utf-8")
    load_config(MINIMAL, EdgeConfig)
    assert len(text.splitlines()) == 6
    assert _keys(yaml.safe_load(text)) == _keys(
        required_keys(EdgeConfig) | {"camera": required_keys(CameraConfig)}
    )


def test_the_front_page_serves_the_prepared_cloud_model() -> None:
    """Three models are prepared; a server of all three has no default, and refuses that page's edge."""
    commands = "\n".join(README.blocks("sh"))
    assert f"spillover cloud --model {CLOUD_MODEL.parent.name} " in commands


def test_the_front_page_shows_the_smallest_edge_yaml() -> None:
    """README.md has examples/edge.min.yaml as it is."""
    assert MINIMAL.read_text(encoding="utf-8") in README.blocks("yaml")


def test_the_table_of_folders_is_up_to_date() -> None:
    """ARCHITECTURE.md lists the folders with their own sentences."""
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    assert text == with_folders(text), "ARCHITECTURE.md is out of date: run `make docs`"


def test_every_reason_is_explained() -> None:
    """docs/reference/policy.md has each reason that a decision may give."""
    explained = Page(Path("docs/reference/policy.md")).text
    assert [reason.value for reason in Reason if f"| `{reason.value}` |" not in explained] == []


def test_exit_codes_are_explained() -> None:
    """docs/operations.md has each exit code of the command line."""
    explained = Page(Path("docs/operations.md")).text
    codes = [value for name, value in vars(cli).items() if name.startswith("EXIT_")]
    assert codes
    assert [code for code in codes if f"| {code} |" not in explained] == []


def test_pages_that_code_names_exist() -> None:
    """Each page below docs/ that a source file or an example names exists."""
    sources = [path for name in FOLDERS for path in (ROOT / name).rglob("*") if path.suffix in SOURCES]
    assert sources
    for source in sources:
        named = re.findall(r"docs/[\w/.-]+\.md", source.read_text(encoding="utf-8"))
        assert [page for page in named if not (ROOT / page).exists()] == [], source


def test_every_page_is_in_the_index() -> None:
    """docs/README.md links to each page below docs/."""
    index = Page(Path("docs/README.md"))
    linked = {link.partition("#")[0] for link in index.links}
    pages = {str(page.path.relative_to("docs")) for page in PAGES if page.path.parts[0] == "docs"}
    assert pages - linked == {"README.md"}


def _check(page: Page, line: str, program: str, command: click.Command, *, complete: bool) -> None:
    text = f"spillover {line}" if line.startswith("lab ") else line
    words = words_after(text, program)
    if words is None:
        return
    try:
        check_command(command, words, complete=complete)
    except click.UsageError as error:
        pytest.fail(f"{page.path}: {line}: {error.format_message()}")


def _check_keys(found: object, kind: object) -> None:
    fields = {field.encode_name: field.type for field in msgspec.inspect.type_info(kind).fields}
    assert isinstance(found, dict)
    assert found.keys() <= fields.keys()
    for key, value in found.items():
        if isinstance(value, dict) and hasattr(fields[key], "fields"):
            _check_keys(value, fields[key].cls)


def _keys(value: object, prefix: str = "") -> set[str]:
    if not isinstance(value, dict):
        return {prefix}
    return {prefix}.union(*(_keys(inner, f"{prefix}.{key}") for key, inner in value.items()))
