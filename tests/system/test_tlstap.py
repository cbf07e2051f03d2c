# SPDX-License-Identifier: Apache-2.0
"""tlstap run and tlstap status."""
import os
import shutil
import signal
import subprocess

import pytest

from proc import environment, library, program, run

TLSTAP = program("tlstap")


def tlstap(*args, env=None, **more):
    return run([TLSTAP, *args], check=False, env=env or environment(), **more)


def test_run_preloads_the_library_of_the_build_tree():
    done = tlstap("run", "printenv", "LD_PRELOAD")
    assert done.returncode == 0 and done.stdout.decode().strip() == os.path.realpath(library())


def test_run_keeps_an_existing_preload():
    done = tlstap("run", "--", "printenv", "LD_PRELOAD", env=environment(LD_PRELOAD="/lib/x86_64-linux-gnu/libm.so.6"))
    assert done.stdout.decode().strip() == os.path.realpath(library()) + ":/lib/x86_64-linux-gnu/libm.so.6"


def test_run_takes_the_library_it_is_told(scratch):
    other = os.path.join(scratch, "other.so")
    shutil.copy(library(), other)
    done = tlstap("run", "printenv", "LD_PRELOAD", env=environment(TLSTAP_LIB=other))
    assert done.stdout.decode().strip() == other


@pytest.mark.parametrize("code", [0, 1, 42, 255])
def test_run_exit_code_is_the_commands(code):
    assert tlstap("run", "sh", "-c", f"exit {code}").returncode == code


def test_run_dies_of_the_commands_signal():
    assert tlstap("run", "sh", "-c", "kill -TERM $$").returncode == -signal.SIGTERM


def test_run_passes_arguments_and_input_unchanged():
    words = ["printf", "%s|", "a b", "", "$HOME", "*", "--", "-x", "\t"]
    assert tlstap("run", *words).stdout == b"a b||$HOME|*|--|-x|\t|"
    done = subprocess.run([TLSTAP, "run", "cat"], input=b"in\0put", capture_output=True, check=True, env=environment())
    assert done.stdout == b"in\0put"


@pytest.mark.parametrize("args,code,message", [
    (["run"], 125, "tlstap: run: which command? (see tlstap --help)\n"),
    (["run", "--"], 125, "tlstap: run: which command? (see tlstap --help)\n"),
    (["run", "--nix", "true"], 125, "tlstap: --nix: no such option (see tlstap --help)\n"),
    (["run", "no-such-command"], 127, "tlstap: no-such-command: No such file or directory\n"),
    (["run", "/etc/passwd"], 126, "tlstap: /etc/passwd: Permission denied\n"),
    (["walk"], 125, "tlstap: walk: no such command (see tlstap --help)\n"),
    (["status", "--nix"], 125, "tlstap: --nix: no such option, or a value is missing (see tlstap --help)\n"),
    (["status", "--socket"], 125, "tlstap: --socket: no such option, or a value is missing (see tlstap --help)\n"),
])
def test_messages(args, code, message):
    done = tlstap(*args)
    assert (done.returncode, done.stdout, done.stderr.decode()) == (code, b"", message)


def test_run_without_a_library_says_so(scratch):
    done = tlstap("run", "true", env=environment(TLSTAP_LIB="/nonexistent/x.so"))
    assert (done.returncode, done.stderr) == (125, b"tlstap: /nonexistent/x.so: No such file or directory\n")
    blank = os.path.join(scratch, "a b.so")
    shutil.copy(library(), blank)
    done = tlstap("run", "true", env=environment(TLSTAP_LIB=blank))
    assert done.returncode == 125 and b"cannot be preloaded" in done.stderr


def test_help_and_version():
    assert tlstap("--version").stdout.startswith(b"tlstap ")
    assert tlstap("--help").stdout.startswith(b"usage: tlstap run")
    done = tlstap()
    assert done.returncode == 125 and done.stderr.startswith(b"usage:")


def test_status_asks_agentd(agentd, scratch):
    agent = agentd("-I", "any", "-D", "-w", os.path.join(scratch, "out.pcapng"))
    text = tlstap("status", "--socket", agent.socket)
    assert text.returncode == 0 and text.stdout
    as_json = tlstap("status", "--json", env=environment(TLSTAP_SOCKET=agent.socket))
    assert as_json.returncode == 0 and as_json.stdout.startswith(b"{")


def test_status_without_agentd_is_one_line():
    done = tlstap("status", "--socket", "/nonexistent/sock")
    assert done.returncode != 0 and done.stderr.count(b"\n") == 1 and b"/nonexistent/" in done.stderr


def test_run_taps_nothing_without_agentd_and_changes_nothing():
    plain = run(["openssl", "version"])
    done = tlstap("run", "openssl", "version")
    assert (done.returncode, done.stdout, done.stderr) == (0, plain.stdout, plain.stderr)
