"""Commands, their options and the documents agree."""

import configparser
import importlib
import re
import shlex
import subprocess
from pathlib import Path

import click
import pytest

from mrnn.data.commands import COMMANDS as SUBCOMMANDS
from mrnn.data.commands import load

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [
    *(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "SECURITY")),
    *sorted((ROOT / "docs").glob("*.md")),
]


def commands() -> dict[str, click.Command]:
    """The console scripts of setup.cfg by name."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    lines = config["options.entry_points"]["console_scripts"].strip().splitlines()
    targets = [re.split(r"\s*[=:]\s*", line.strip()) for line in lines]
    return {name: getattr(importlib.import_module(module), function) for name, module, function in targets}


COMMANDS = commands()


def command_lines(text: str) -> list[list[str]]:
    """Words of every command of ours in the code blocks of a document, and in shell scripts."""
    blocks = "\n".join(re.findall(r"^```\w*\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE))
    blocks = text if text.startswith("#!") else blocks
    joined = blocks.replace("\\\n", " ").replace("python -m mrnn.data.commands", "mrnn")
    lines = [line.split("#")[0].strip() for line in joined.splitlines()]
    return [shlex.split(line) for line in lines if line.split(" ")[0] in COMMANDS]


def used(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command of a line, and the words after its name."""
    name, *rest = words
    if name == "mrnn" and rest and not rest[0].startswith("-"):
        assert rest[0] in SUBCOMMANDS, f"mrnn has no subcommand {rest[0]}"
        return load(rest[0]), rest[1:]
    return COMMANDS[name], rest


@pytest.mark.parametrize("path", [*DOCUMENTS, *sorted((ROOT / "jobs").glob("*.sh"))], ids=lambda path: path.name)
def test_every_option_in_a_document_exists(path: Path) -> None:
    for line in command_lines(path.read_text()):
        command, words = used(line)
        known = {word for option in command.params for word in (*option.opts, *option.secondary_opts)}
        named = {word.split("=")[0] for word in words if word.startswith("--")} - {"--help"}
        assert named <= known, f"{path.name}: {' '.join(line[:2])} has no {named - known}"


@pytest.mark.parametrize("path", sorted((ROOT / "jobs").glob("*.sbatch")), ids=lambda path: path.name)
def test_every_option_in_a_job_file_exists(path: Path) -> None:
    text = path.read_text().replace("\\\n", " ")
    name, line = re.findall(rf"^srun .*?\b({'|'.join(COMMANDS)}) (.*)$", text, flags=re.MULTILINE)[0]
    known = {option for parameter in COMMANDS[name].params for option in parameter.opts}
    assert set(re.findall(r"(?<=\s)--[a-z-]+", line)) <= known
    assert subprocess.run(["bash", "-n", str(path)], check=False).returncode == 0


def test_the_readme_names_every_command() -> None:
    text = (ROOT / "README.md").read_text()
    assert [name for name in COMMANDS if name not in text] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_help_ends_with_an_example(name: str) -> None:
    command = COMMANDS[name]
    text = command.get_help(click.Context(command, info_name=name))
    assert "Example" in text
    assert f"  {name} " in text.partition("Example")[2]


def test_links_between_documents_lead_somewhere() -> None:
    for path in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text()):
            assert (path.parent / target).exists(), f"{path.name} links to {target}, which is not there"


def test_the_page_of_an_index_has_no_links_into_the_repository() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    page = ROOT / config["metadata"]["long_description"].removeprefix("file: ")
    targets = re.findall(r"\]\(([^)]+)\)", page.read_text())
    assert targets
    assert all(target.startswith("https://") for target in targets)


def test_the_page_of_commands_names_each_with_its_script() -> None:
    text = (ROOT / "docs" / "commands.md").read_text()
    rows = dict(re.findall(r"^\| `mrnn ([a-z-]+)` \| `([a-z-]+)` \|", text, flags=re.MULTILINE))
    assert {name: COMMANDS[script] for name, script in rows.items()} == {name: load(name) for name in SUBCOMMANDS}


def test_links_to_headings_lead_to_a_heading() -> None:
    for path in DOCUMENTS:
        for target, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", path.read_text()):
            headings = re.findall(
                r"^#+ (.*)", (path.parent / target if target else path).read_text(), flags=re.MULTILINE
            )
            found = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor in found, f"{path.name} links to {target}#{anchor}, which is not there"


def test_make_help_lists_every_target() -> None:
    text = (ROOT / "Makefile").read_text()
    phony = re.search(r"\.PHONY: (.*)", text)
    assert phony is not None
    assert set(phony[1].split()) == set(re.findall(r"^([a-z]+):.*##", text, flags=re.MULTILINE))
