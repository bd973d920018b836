"""What the README says is tried: its study runs, its pandas code runs, its links and commands exist."""

import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
STUDY, PANDAS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_the_study_of_the_readme_runs_and_its_pandas_code_reads_it(ablate, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    short = STUDY.replace("epochs=5", "epochs=1").replace("(0, 1, 2)", "(0, 1)").replace("width=16", "width=4")
    assert short.count("\n") == STUDY.count("\n") <= 25
    Path("my_study.py").write_text(short)
    ended = ablate("run", "./my_study.py", "--in-process")
    assert ended.code == 0, ended.err
    names: dict[str, object] = {}
    exec(PANDAS, names)
    assert len(names["df"]) == 8  # type: ignore[arg-type]
    assert len(names["effects"]) == 4  # type: ignore[arg-type]
    assert {"arm", "seed", "train_loss"} <= set(names["curves"].columns)  # type: ignore[attr-defined]
    assert len(names["best"]) == 1  # type: ignore[arg-type]


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "benchmarks/README.md"])
def test_links_point_to_files_that_exist(page):
    text = (ROOT / page).read_text()
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if not target.startswith("http"):
            assert ((ROOT / page).parent / target).exists(), target


def test_commands_of_the_readme_exist(ablate):
    commands = re.findall(r"^    \.venv/bin/ablate (.*)$", README, re.MULTILINE)
    assert len(commands) >= 4
    for command in commands:
        verb, *words = shlex.split(command, comments=True)
        shown = ablate(verb, "--help")
        assert shown.code == 0
        for flag in (word for word in words if word.startswith("--")):
            assert flag in shown.out
    targets = set(re.findall(r"^    make (\w+)", README, re.MULTILINE))
    makefile = (ROOT / "Makefile").read_text()
    assert targets
    assert all(f"\n{target}:" in makefile for target in targets)
