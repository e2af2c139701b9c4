"""Files with mistakes: each file of `bad_files` is named <code>.<line>.<what>.jsonl after its finding.

A file `….against.jsonl` with the same name is the other split.
"""

import json
import subprocess
from pathlib import Path

import pytest
from conftest import Project, clean_environment

FOLDER = Path(__file__).parent / "bad_files"
FILES = sorted(path for path in FOLDER.glob("*.jsonl") if not path.stem.endswith(".against"))

SCRIPT = """
import json, sys
from pathlib import Path
from finetune.data.checks.across_files import check
found = {}
for name in sys.argv[1:]:
    other = Path(name).with_suffix(".against.jsonl")
    found[Path(name).name] = check([Path(name)], [other] if other.exists() else [])
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def reports(binaries: Path, installed: Path) -> dict[str, dict]:
    """Return the report of every file, made by one process."""
    command = [binaries / "python", "-c", SCRIPT, *FILES]
    done = subprocess.run(command, cwd=installed, env=clean_environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_the_corpus_is_large_and_its_codes_are_documented(installed: Path) -> None:
    assert len(FILES) >= 250
    page = (installed / "docs" / "data.md").read_text(encoding="utf-8")
    for path in FILES:
        assert f"`{path.stem.split('.')[0]}`" in page


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_bad_file_gives_its_finding(reports: dict[str, dict], path: Path) -> None:
    code, line, _ = path.stem.split(".", 2)
    findings = reports[path.name]["findings"]
    assert (code, int(line)) in [(finding["code"], finding["line"]) for finding in findings]
    for finding in findings:
        assert set(finding) == {"code", "severity", "file", "line", "message", "fix"}
        assert finding["message"]
        assert finding["fix"]


def test_no_finding_repeats_a_secret_or_personal_data(reports: dict[str, dict]) -> None:
    for path in FILES:
        if path.stem.startswith(("secret", "personal_data")):
            report = json.dumps(reports[path.name])
            for word in ("ghp_", "AKIA", "hunter2", "anna", "4111", "3704", "7946", "1234"):
                assert word not in report, path.name


def test_the_command_prints_text_json_and_github_annotations(installed: Path, binaries: Path, tmp_path: Path) -> None:
    project = Project(tmp_path, binaries, tmp_path / "home")  # not in a project
    bad = str(FOLDER / "unknown_role.2.bot.jsonl")
    package = {"PYTHONPATH": str(installed)}
    text = project.stage("check", bad, code=1, **package).stdout
    assert f"{bad}:2: error unknown_role: messages[1] has the role 'bot'" in text
    report = json.loads(project.stage("check", bad, "--format", "json", code=1, **package).stdout)
    assert set(report) == {"examples", "errors", "warnings", "findings"}
    assert report["errors"] == 2
    github = project.stage("check", bad, "--format", "github", code=1, **package).stdout
    assert f"::error file={bad},line=2,title=unknown_role::" in github
    copy = tmp_path / "a.jsonl"
    copy.write_bytes((FOLDER / "unknown_key.2.id.jsonl").read_bytes())
    fixed = project.stage("check", str(copy), "--fix", code=1, **package)  # two examples are still too few
    assert f"{copy}:2: fixed: the key 'id' removed" in fixed.stderr
    assert "unknown_key" not in fixed.stdout
    assert (tmp_path / "a.fixed.jsonl").exists()
    assert "Check the file's name" in project.stage("check", "none.jsonl", code=1, **package).stderr
