"""The command line as a shell sees it: codes, sentences, and what goes to which stream."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ingot.__main__ import main


def _main(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command in this process; for those that log nothing."""
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    printed = capsys.readouterr()
    return int(stop.value.code or 0), printed.out, printed.err


def _ingot(
    *arguments: str, cwd: Path | None = None, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ingot", *arguments],
        cwd=cwd,
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def test_help_lists_the_commands() -> None:
    done = _ingot("--help")
    assert (done.returncode, done.stderr) == (0, "")
    commands = re.findall(r"^  (\w+)  +[A-Z].*\.$", done.stdout.partition("Commands:")[2], re.MULTILINE)
    assert commands[:3] == ["compile", "run", "serve"]
    assert {"inspect", "targets"} <= set(commands)


def test_every_command_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    listed = re.findall(r"^  (\w+)  ", _main(capsys, "--help")[1].partition("Commands:")[2], re.MULTILINE)
    for command in listed:
        code, out, err = _main(capsys, command, "--help")
        assert (code, err) == (0, "")
        assert out.startswith(f"Usage: ingot {command}")
        assert "--verbose" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["melt"], "No such command 'melt'"),
        (["compile"], "Missing argument 'MODEL'"),
        (
            ["compile", "somewhere", "--quant", "int9"],
            "no quantization scheme or format 'int9'; there are none, ",
        ),
        (["compile", "somewhere", "--target", "toaster"], "no target 'toaster'"),
        (["compile", "somewhere", "--page-size", "17"], "'17' is not one of"),
        (["run"], "Missing argument 'MODEL_OR_ARTIFACT'"),
        (["inspect", "somewhere", "--ir", "paged", "--json"], "choose one"),
    ],
)
def test_wrong_usage_is_code_2(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = _main(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("Usage: ingot")
    assert said in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["compile", "nowhere"], "'nowhere' is neither a folder that exists nor a hub id"),
        (["run", "nowhere", "hello"], "'nowhere' is neither a folder that exists nor a hub id"),
        (["serve", "nowhere", "--port", "0"], "'nowhere' is neither a folder that exists nor a hub id"),
        (["run", ".", "hello"], "holds no config.json"),
        (["inspect", "nowhere"], "nowhere is no artifact"),
    ],
)
def test_a_failure_is_one_sentence_and_code_1(arguments: list[str], said: str, tmp_path: Path) -> None:
    done = _ingot(*arguments, cwd=tmp_path, environment={"INGOT_CACHE": str(tmp_path / "cache")})
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"Error: [^\n]+\n", done.stderr), done.stderr
    assert said in done.stderr


def test_only_debugging_shows_where_a_failure_came_from(tmp_path: Path) -> None:
    for line in (["-v", "inspect", "nowhere"], ["inspect", "nowhere", "-v"]):
        assert "Traceback" not in _ingot(*line, cwd=tmp_path).stderr
    for line in (["-vv", "inspect", "nowhere"], ["inspect", "-vv", "nowhere"]):
        done = _ingot(*line, cwd=tmp_path)
        assert done.returncode == 1
        assert "Traceback" in done.stderr
        assert "ArtifactError" in done.stderr


def test_a_fault_of_ours_is_a_sentence_too() -> None:
    code = (
        "import ingot.runtime.commands.inspect as module, sys\n"
        "def fail(folder): raise ZeroDivisionError('by nothing')\n"
        "module.read_manifest = fail\n"
        "from ingot.__main__ import main; main(['inspect', 'x'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "Error: ZeroDivisionError: by nothing (a fault of ingot's; -vv shows where)\n"


def test_an_interrupt_is_code_130_and_quiet() -> None:
    code = (
        "import ingot.runtime.commands.inspect as module, time\n"
        "def wait(folder): print('waiting', flush=True); time.sleep(60)\n"
        "module.read_manifest = wait\n"
        "from ingot.__main__ import main; main(['inspect', 'x'])"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "waiting\n"
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=10) == 130
        assert process.stderr.read().strip() == ""
