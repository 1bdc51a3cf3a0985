"""What the manual, client/README.md, lists is what there is."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import grpc
import pytest
import typer
from typer.testing import CliRunner

import cutstream
from cutstream import errors
from cutstream.cli import app
from cutstream_server.errors import CutstreamError

MANUAL = Path(cutstream.__file__).parents[1] / "README.md"
TEXT = MANUAL.read_text()
COMMANDS = typer.main.get_command(app).commands
# OUTPUT_UNWRITABLE is the commands' own.
OWN_REASONS = {name for name in vars(errors) if name.isupper() and vars(errors)[name] == name} | {"OUTPUT_UNWRITABLE"}


def section(title: str) -> str:
    """The text under a heading, up to the next of its kind."""
    return re.split(r"^#+ ", TEXT.partition(f"# {title}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]


def first_cells(text: str) -> list[str]:
    """The first column of the tables in a text."""
    return [row.split(" | ")[0].strip("| ") for row in text.splitlines() if row.startswith("| ")]


def flags(command: str) -> set[str]:
    return {flag for parameter in COMMANDS[command].params for flag in parameter.opts if flag.startswith("--")}


def lines_of_shell() -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
    commands = [part.strip() for block in blocks for line in block.splitlines() for part in line.split(" | ")]
    return [command for command in commands if command.startswith("cutstream ")]


def reasons_of_the_server(kind: type[CutstreamError] = CutstreamError) -> set[str]:
    own = {kind.reason} if "reason" in vars(kind) else set()
    return own.union(*(reasons_of_the_server(sub) for sub in kind.__subclasses__()))


def test_bulks_table_has_every_flag_of_bulk_and_no_other():
    cells = " ".join(first_cells(section("Thousands of images: `cutstream bulk`")))
    assert set(re.findall(r"--[a-z-]+", cells)) == flags("bulk") - flags("info") | {"--timeout"}


@pytest.mark.parametrize("line", lines_of_shell())
def test_a_command_of_the_manual_can_be_typed(line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = shlex.split(line.partition(" > ")[0], comments=True)
    context = COMMANDS[words[1]].make_context(words[1], words[2:])
    assert context.args == []


def test_the_table_of_errors_has_every_reason_and_no_other():
    listed = set(", ".join(first_cells(section("Errors"))[1:]).split(", "))
    statuses = {code.name for code in grpc.StatusCode}
    assert reasons_of_the_server() | OWN_REASONS <= listed
    assert listed <= reasons_of_the_server() | OWN_REASONS | statuses


def test_the_table_of_errors_says_truly_what_is_retried():
    for row in section("Errors").splitlines():
        cells = [cell.strip() for cell in row.split("|")]
        if row.startswith("| ") and cells[1] != "reason":
            for reason in cells[1].split(", "):
                assert (cells[2] != "no") == cutstream.CutoutError(reason, "").retryable, reason


def test_the_table_of_the_manifest_has_every_field(server, tmp_path, monkeypatch):
    async def script(image):
        if image.data == b"bad":
            return server.failure(image, "NO_OBJECT", grpc.StatusCode.FAILED_PRECONDITION)
        return server.success(image)

    server.script = script
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    Path("photos/good.jpg").write_bytes(b"good")
    Path("photos/bad.jpg").write_bytes(b"bad")
    assert CliRunner().invoke(app, ["bulk", "photos", "out", "--target", server.target]).exit_code == 1
    fields = {field for line in Path("out/manifest.jsonl").read_text().splitlines() for field in json.loads(line)}
    table = section("Thousands of images: `cutstream bulk`").partition("| field |")[2]
    assert set(re.findall(r"`(\w+)`", " ".join(first_cells(table)))) == fields


def test_the_examples_of_the_manual_are_there():
    links = re.findall(r"\]\((\.\./[^)#]+)\)", TEXT)
    assert len(links) > 4
    assert [link for link in links if not (MANUAL.parent / link).exists()] == []
