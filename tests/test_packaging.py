"""The package list is the tree, imports point one way, and the stages keep apart."""

import ast
import configparser
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("data", "extract", "train", "evaluate")
MAY_IMPORT = {"data": {"data"}, "extract": {"data", "extract"}, "train": {"data", "train"}}
MAY_IMPORT["evaluate"] = {"data", "train", "evaluate"}
IMAGE_ROWS = Path("evaluate/image_rows.py")  # beside the commands the only module that needs extract
JAVA_SCORERS = Path("evaluate/metrics/java_scorers.py")  # pycocoevalcap, which holds GPL programs, is an extra
HDF5 = tuple(map(Path, ("data/cache.py", "data/cache_creation.py", "data/cache_tables.py", "data/foreign/hdf5.py")))
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def setup_cfg() -> configparser.ConfigParser:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    return config


def imported(path: Path) -> set[str]:
    """Full names of the modules that a file imports, at its top or inside functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            names.add(node.module or "")
    return names


def is_command(parts: Sequence[str]) -> bool:
    """Whether a module, given the parts of its name, holds commands: only these may import from several packages."""
    return parts[-1].startswith("cli") or ("commands" in parts and parts[-1] != "options")


def test_the_package_list_is_the_tree() -> None:
    listed = set(setup_cfg()["options"]["packages"].split())
    found = {"mrnn." + ".".join(path.parent.relative_to(ROOT).parts) for path in MODULES}
    assert listed == found
    assert all((ROOT / Path(*name.split(".")[1:]) / "__init__.py").exists() for name in listed)


def test_every_package_is_marked_as_typed() -> None:
    data = setup_cfg()["options.package_data"]
    for package in PACKAGES:
        assert (ROOT / package / "py.typed").exists()
        assert "py.typed" in data[f"mrnn.{package}"].split()


def test_the_metadata_names_every_python_that_is_supported() -> None:
    metadata = setup_cfg()["metadata"]
    minors = [line.rpartition(".")[2] for line in metadata["classifiers"].split("\n") if "Python :: 3." in line]
    assert minors == ["11", "12", "13"]
    assert setup_cfg()["options"]["python_requires"] == ">=3.11"
    assert metadata["author"]
    assert all(
        url.startswith("https://")
        for _, _, url in (line.partition(" = ") for line in metadata["project_urls"].strip().splitlines())
    )


def test_the_citation_names_this_version() -> None:
    metadata, citation = setup_cfg()["metadata"], (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {metadata['version']}\n" in citation
    assert f"\nlicense: {metadata['license']}\n" in citation


def test_every_console_script_exists() -> None:
    for line in setup_cfg()["options.entry_points"]["console_scripts"].strip().splitlines():
        name, _, target = (part.strip() for part in line.partition("="))
        module, _, function = target.partition(":")
        path = ROOT / Path(*module.split(".")[1:]).with_suffix(".py")
        assert f"def {function}(" in path.read_text(), f"{name} has no {target}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    ours = {name for name in imported(path) if name.split(".")[0] in ("mrnn", *PACKAGES)}
    assert all(name.startswith("mrnn.") for name in ours), f"{path} imports a package by its bare name"
    assert not any(is_command(name.split(".")) for name in ours), "nobody imports a command"
    if not is_command(path.relative_to(ROOT).with_suffix("").parts):
        packages = {name.split(".")[1] for name in ours}
        allowed = MAY_IMPORT[package] | ({"extract"} if path.relative_to(ROOT) == IMAGE_ROWS else set())
        assert packages <= allowed, f"{package} may not import {packages - allowed}"


def test_each_heavy_library_has_its_place() -> None:
    for path in MODULES:
        top = {name.split(".")[0] for name in imported(path)}
        package = path.relative_to(ROOT).parts[0]
        assert "h5py" not in top or path.relative_to(ROOT) in HDF5
        assert "torch" not in top or package != "data"
        assert "pycocoevalcap" not in top or path.relative_to(ROOT) == JAVA_SCORERS
        assert "torchvision" not in top or package == "extract"
        several = {name for name in imported(path) if name.startswith(("torch.distributed", "torch.nn.parallel"))}
        assert not several or path.relative_to(ROOT) == Path("train/distributed.py")


def test_what_holds_gpl_programs_is_optional() -> None:
    options = setup_cfg()
    assert "pycocoevalcap" not in options["options"]["install_requires"]
    holders = {name for name, needs in options["options.extras_require"].items() if "pycocoevalcap" in needs}
    assert holders == {"java"}


def test_looking_into_a_cache_imports_no_torch() -> None:
    code = "import sys, mrnn.data.cli, mrnn.data.datasets; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
