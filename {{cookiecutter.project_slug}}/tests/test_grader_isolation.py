"""Python graders that run answers as code: what such an answer cannot read, reach, keep alive or score."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from finetune.scoring.graders import isolation, python_grader
from finetune.scoring.graders.check_definitions import check_grader
from finetune.scoring.graders.confinement import landlock_version
from finetune.scoring.graders.definitions import Python
from finetune.scoring.graders.isolation import trust_warning, working_command
from finetune.scoring.graders.local import Graded, grade

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux can isolate a grader")
ISOLATED = pytest.mark.skipif(
    sys.platform == "linux" and (working_command() is None or not landlock_version()),
    reason="this system forbids namespaces or has no Landlock",
)

RUNS_ANSWERS = """
def grade(sample, item):
    names = {}
    exec(sample["output_text"], names)
    return names.get("result", 0)
"""


def run(*answers: str, source: str = RUNS_ANSWERS, expected: str = "result = 1") -> Graded:
    """Return the grades of answers by a grader that runs them."""
    grader = check_grader("mine", {"type": "python", "source": source})
    assert isinstance(grader, Python)
    return grade(grader, [{"asked": "?", "expected": expected}] * len(answers), answers)


@pytest.fixture(params=["bwrap", "unshare"])
def program(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Isolate by this program only. Skips the test where it does not work."""
    found = shutil.which(request.param)
    monkeypatch.setattr(shutil, "which", lambda name: found if name == request.param else None)
    working_command.cache_clear()
    if working_command() is None or not landlock_version():
        pytest.skip(f"{request.param} does not work here")
    yield request.param
    working_command.cache_clear()


@pytest.fixture
def no_namespaces(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let no program make namespaces, as in a locked container."""
    monkeypatch.setattr(shutil, "which", lambda name: None)
    working_command.cache_clear()
    yield
    working_command.cache_clear()


READ_ENVIRONMENTS = """
import os
from pathlib import Path
seen = b""
for process in Path("/proc").glob("[0-9]*"):
    for name in ("environ", "cmdline"):
        try:
            seen += (process / name).read_bytes()
        except OSError:
            pass
result = float(b"sk-of-a-" + b"test" in seen)
"""


def test_an_answer_cannot_read_the_environment_of_another_process(program: str, monkeypatch: Any) -> None:
    reader = [sys.executable, "-c", "import os, sys; sys.stdin.read()"]
    with subprocess.Popen(reader, stdin=subprocess.PIPE, env={"KEY": "sk-of-a-" + "test"}) as holder:
        assert run(READ_ENVIRONMENTS) == Graded([0], {})
        assert holder.poll() is None


@pytest.mark.usefixtures("no_namespaces")
@pytest.mark.skipif(not landlock_version(), reason="no Landlock")
def test_without_namespaces_landlock_closes_the_environments() -> None:
    reader = [sys.executable, "-c", "import os, sys; sys.stdin.read()"]
    with subprocess.Popen(reader, stdin=subprocess.PIPE, env={"KEY": "sk-of-a-" + "test"}):
        assert run(READ_ENVIRONMENTS) == Graded([0], {})


@ISOLATED
def test_an_answer_cannot_read_the_files_of_the_user(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sk-of-a-test", encoding="utf-8")
    project = python_grader.PROJECT
    paths = [tmp_path / "key", project / "params.yaml", project / "pyproject.toml", Path("/etc/hostname"), tmp_path]
    answers = [f"import os; os.listdir({str(one)!r}) if {one.is_dir()} else open({str(one)!r})" for one in paths]
    found = run(*answers)
    assert [found.errors[row].split(":")[0] for row in range(len(paths))] == ["PermissionError"] * len(paths)


@ISOLATED
def test_an_answer_cannot_change_files(tmp_path: Path) -> None:
    library = next(Path(path) for path in sys.path if path.endswith("site-packages")) / "made_by_an_answer.py"
    targets = [tmp_path / "new", library, python_grader.PROJECT / "finetune" / "new.py"]
    found = run(*(f"open({str(one)!r}, 'w').write('x')" for one in targets))
    assert len(found.errors) == len(targets)
    assert not any(one.exists() for one in targets)


def test_an_answer_cannot_fill_the_disk() -> None:
    assert "File too large" in run("open('large', 'wb').truncate(2**29); result = 1").errors[0]


def test_a_grader_imports_packages_and_modules_of_the_project() -> None:
    source = "import rapidfuzz, numpy, finetune.core.errors\n" + RUNS_ANSWERS
    assert run(
        "result = 1", "import sklearn.metrics, tempfile; open('mine', 'w'); result = 1", source=source
    ) == Graded([1, 1], {})


def test_an_answer_cannot_connect_to_this_computer(program: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        udp.settimeout(0.2)
        tcp.settimeout(0.2)
        found = run(
            f"import socket; socket.create_connection(('127.0.0.1', {tcp.getsockname()[1]}), 2); result = 1",
            f"import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', {udp.getsockname()!r})",
        )
        with pytest.raises(TimeoutError):
            tcp.accept()
        with pytest.raises(TimeoutError):
            udp.recv(1)
    assert found.scores == [0, 0]


def alive(mark: str) -> list[int]:
    """Return the processes that have a mark in their command."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (process / "cmdline").read_bytes() and int(process.name) != os.getpid():
                found.append(int(process.name))
        except OSError:
            continue
    return found


ESCAPES = {
    "a child": "import subprocess, sys; subprocess.Popen([sys.executable, '-c', {code!r}])",
    "another session": """
import subprocess, sys
subprocess.Popen([sys.executable, '-c', {code!r}], start_new_session=True)
""",
    "an orphan with the pipe": """
import os, sys
if not os.fork():
    os.setsid()
    if not os.fork():
        for file in range(3, 64):
            try:
                os.set_inheritable(file, True)
            except OSError:
                pass
        os.execv(sys.executable, [sys.executable, '-c', {code!r}])
    os._exit(0)
""",
    "ended at once": """
import os, sys
if not os.fork():
    os.setsid()
    os.execv(sys.executable, [sys.executable, '-c', {code!r}])
os._exit(0)
""",
}


@pytest.mark.parametrize("way", ESCAPES)
@pytest.mark.parametrize("namespaces", [True, False])
def test_what_an_answer_starts_ends_with_its_row(
    way: str, namespaces: bool, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    if not namespaces:
        request.getfixturevalue("no_namespaces")
    mark = f"mark-{os.getpid()}-{len(way)}-{namespaces}"
    code = f"import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); '{mark}'; time.sleep(60)"
    count = f"""
import time
from pathlib import Path
time.sleep(0.3)
marks = [one for one in Path("/proc").glob("[0-9]*/cmdline") if b"{mark}" in one.read_bytes()]
result = 1 - len(marks)
"""
    began = time.monotonic()
    found = run("result = 1\n" + ESCAPES[way].format(code=code), count)
    assert found.scores[1] == 1
    assert not alive(mark)
    assert time.monotonic() - began < 10


FORGED = """
import os
for file in range(0, 64):
    try:
        os.write(file, b'{"score": 1}\\n')
    except OSError:
        pass
"""


def test_text_written_to_any_file_is_no_score() -> None:
    found = run("print({'score': 1})", FORGED, FORGED + "os._exit(0)", "result = 0.5")
    assert found.scores == [0, 0, 0, 0.5]
    assert found.errors[1] == found.errors[2] == "something other than grade() wrote the result"


def test_an_answer_cannot_change_how_the_next_is_graded() -> None:
    found = run(
        "import builtins; builtins.float = lambda value: 1.0; result = 0",
        "import sys; sys.modules['grader'].grade = lambda *_: 1; result = 0",
        "import json; json.dumps = lambda *_: '{\"score\": 1}'; result = 0",
        "open('rapidfuzz.py', 'w').write('x = 1'); open('left', 'w'); import os; os.chdir('..'); result = 0",
        "import rapidfuzz; result = float(hasattr(rapidfuzz, 'x'))",
        "import os; result = len(os.listdir('.'))",
        "import os; open(os.path.join('..', 'left'), 'w'); result = 1",
        "result = 0",
    )
    assert found.scores[3:] == [0, 0, 0, 0, 0]
    assert list(found.errors) == [6]


AS_A_PROCESS = """
import subprocess, sys
def grade(sample, item):
    subprocess.run([sys.executable, "-c", sample["output_text"]], timeout=4)
    return 0.25
"""


@pytest.mark.slow
def test_an_answer_in_a_process_of_its_own_cannot_reach_the_grader(program: str, monkeypatch: Any) -> None:
    """The way to run answers that the documents name: not even the row's own score can be changed."""
    monkeypatch.setattr(python_grader, "ROW_SECONDS", 8.0)
    found = run(
        "import os\nfor p in range(1, 9):\n  for f in os.scandir(f'/proc/{p}/fd'): os.write(os.open(f.path, 1), b'x')",
        "import os\nfor p in range(1, 9):\n  try: open(f'/proc/{p}/mem', 'r+b')\n  except OSError: continue\n"
        "  p == os.getpid() or os.kill(os.getppid(), 9)",
        "import os, signal; os.kill(os.getppid(), 19)",
        "pass",
        source=AS_A_PROCESS,
    )
    assert found.scores[:2] == [0.25, 0.25]
    assert found.scores[3] == 0.25


def test_a_killed_grader_fails_only_the_row_that_killed_it() -> None:
    assert run("result = 1", "import os; os.kill(os.getppid(), 9); result = 1", "result = 1").scores[::2] == [1, 1]


def test_what_grade_loads_at_its_first_call_is_loaded_once() -> None:
    source = """
import time
loaded = []
def grade(sample, item):
    if not loaded:
        time.sleep(0.5)
        loaded.append(1)
    return 1
"""
    began = time.monotonic()
    assert run(*["x"] * 20, source=source).scores == [1] * 20
    assert time.monotonic() - began < 9  # twenty times half a second otherwise


@pytest.mark.parametrize("expected", ["while True: pass", "import os; os._exit(1)", "raise SystemExit"])
def test_an_expected_answer_that_cannot_be_run_spoils_nothing(expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(python_grader, "ROW_CPU_SECONDS", 1)
    assert run("result = 1", expected=expected) == Graded([1], {})


@pytest.mark.usefixtures("no_namespaces")
def test_without_namespaces_a_grader_works_and_a_warning_is_said() -> None:
    assert run("result = 1") == Graded([1], {})
    inner = {"type": "multi", "graders": {"a": {"type": "python"}}, "calculate_output": "a"}
    for definition in ({"type": "python"}, inner):
        assert "trust" in str(trust_warning({"mine": definition}))
    assert trust_warning({"mine": {"type": "string_check"}}) is None


@ISOLATED
def test_with_isolation_nothing_is_said() -> None:
    assert trust_warning({"mine": {"type": "python"}}) is None


def test_a_program_that_is_there_but_forbidden_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forbidden = tmp_path / "bwrap"
    forbidden.write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    ignoring = tmp_path / "unshare"  # runs the program without a namespace
    ignoring.write_text('#!/bin/sh\nwhile [ "$1" != sh ]; do shift; done\nshift 4\nexec "$@"\n', encoding="utf-8")
    for one in (forbidden, ignoring):
        one.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda name: str(tmp_path / name))
    working_command.cache_clear()
    assert isolation.isolating(tmp_path) == []
    working_command.cache_clear()
