"""The README is true where it can be checked."""

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


def test_the_hyperparameter_table_is_that_of_the_model() -> None:
    found = re.search(r"<!-- hyperparameters -->\n(.*?)\n<!-- /hyperparameters -->", README, re.DOTALL)

    lines = ["| name | flag | default | allowed | what it is |", "|---|---|---|---|---|"]
    for name, field in Hyperparameters.model_fields.items():
        flag = "--" + name.replace("_", "-")
        lines.append(f"| `{name}` | `{flag}` | {field.default} | {limits(name)} | {field.description} |")
    assert found is not None
    assert found[1].splitlines() == lines


def test_the_file_tree_names_every_module() -> None:
    paths = [*(ROOT / "lstmfcn").glob("*.py"), *(ROOT / "serve_app").glob("*.py")]
    modules = {path.name for path in paths} - {"__init__.py", "__main__.py"}

    assert modules == set(re.findall(r"^  (\w+\.py) ", README, re.MULTILINE))


def test_the_python_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (example,) = re.findall(r"## In Python\n\n```python\n(.*?)```", README, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    write_csv(Path("train.csv"), make_dataset(12), labelled=True)
    names: dict[str, object] = {}

    exec(example.replace("epochs=50", "epochs=2"), names)  # noqa: S102

    assert set(names["labels"]) <= {"down", "up"}  # type: ignore[call-overload]


def test_every_make_target_of_the_readme_exists() -> None:
    targets = set(re.findall(r"(?:^|`|&& )make ([a-z-]+)", README, re.MULTILINE))
    makefile = (ROOT / "Makefile").read_text()

    assert {"demo", "test"} < targets
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


def test_every_path_that_the_readme_links_exists() -> None:
    links = re.findall(r"\]\((?!http|#)([^)]+)\)", README)

    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_heading_that_the_readme_links_exists() -> None:
    headings = re.findall(r"^#+ (.+)$", README, re.MULTILINE)
    links = re.findall(r"\]\(#([^)]+)\)", README)

    assert links
    assert set(links) <= {re.sub(r"[^a-z -]", "", heading.lower()).replace(" ", "-") for heading in headings}
