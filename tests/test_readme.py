"""The README and the documents in docs/ are true where it can be checked."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest
from ray._private.runtime_env.packaging import _dir_travel

from lstmfcn.hyperparameters import Hyperparameters, limits
from tests.samples import make_dataset, write_csv

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_the_hyperparameter_table_is_that_of_the_model() -> None:
    document = (ROOT / "docs" / "network.md").read_text()
    found = re.search(r"<!-- hyperparameters -->\n(.*?)\n<!-- /hyperparameters -->", document, re.DOTALL)

    lines = ["| name | flag | default | allowed | what it is |", "|---|---|---|---|---|"]
    for name, field in Hyperparameters.model_fields.items():
        flag = "--" + name.replace("_", "-")
        lines.append(f"| `{name}` | `{flag}` | {field.default} | {limits(name)} | {field.description} |")
    assert found is not None
    assert found[1].splitlines() == lines


def test_the_file_tree_names_every_module() -> None:
    paths = [*(ROOT / "lstmfcn").glob("*.py"), *(ROOT / "serve_app").glob("*.py")]
    modules = {path.name for path in paths} - {"__init__.py", "__main__.py"}

    tree = (ROOT / "docs" / "development.md").read_text()
    assert modules == set(re.findall(r"^  (\w+\.py) ", tree, re.MULTILINE))


def test_the_python_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (example,) = re.findall(r"### In Python\n\n```python\n(.*?)```", README, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    write_csv(Path("train.csv"), make_dataset(12), labelled=True)
    names: dict[str, object] = {}

    exec(example.replace("epochs=50", "epochs=2"), names)  # noqa: S102

    assert set(names["labels"]) <= {"down", "up"}  # type: ignore[call-overload]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_make_target_that_is_named_exists(path: Path) -> None:
    targets = set(re.findall(r"(?:^|`|&& )make ([a-z-]+)", path.read_text(), re.MULTILINE))
    makefile = (ROOT / "Makefile").read_text()

    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)


def test_code_and_yaml_files_travel_with_a_submitted_job_and_no_data(tmp_path: Path) -> None:
    for name in (".rayignore", "jobs/tune.py", "space.yaml", "train.csv", "sweep/best/checkpoint.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes((ROOT / ".rayignore").read_bytes())
    travelling: list[str] = []

    _dir_travel(
        tmp_path,
        [],
        lambda path: travelling.append(str(path.relative_to(tmp_path))),
        include_gitignore=True,
        logger=logging.getLogger("silent"),
    )

    assert sorted(travelling) == [".", "jobs", "jobs/tune.py", "space.yaml"]


def headings(path: Path) -> set[str]:
    lines = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^a-z -]", "", line.lower()).replace(" ", "-") for line in lines}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_path_and_heading_that_is_linked_exists(path: Path) -> None:
    for link in re.findall(r"\]\((?!http)([^)]+)\)", path.read_text()):
        name, _, heading = link.partition("#")
        linked = path.parent / name if name else path
        assert linked.exists(), link
        assert not heading or heading in headings(linked), link
