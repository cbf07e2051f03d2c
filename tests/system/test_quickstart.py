# SPDX-License-Identifier: Apache-2.0
"""packaging/quickstart shows what it promises, in time, and leaves nothing behind."""
import glob
import os
import signal
import subprocess
import time

import pytest

from proc import ROOT, environment, run, wait_for

QUICKSTART = [os.path.join(ROOT, "packaging", "quickstart"), "--no-install"]


def left_over():
    names = [n for n in run(["ip", "netns", "list"]).stdout.decode().split() if n.startswith("tlstapq")]
    return names + glob.glob("/tmp/tlstap-quickstart.*")


@pytest.mark.slow
def test_shows_the_whole_way():
    begin = time.monotonic()
    done = run(QUICKSTART, timeout=180, env=environment())
    assert time.monotonic() - begin < 180
    out = done.stdout.decode()
    for text in ("GET /jewels.txt HTTP/1.1", "06:11:22:33:44:55 > 06:11:22:33:44:56", "192.0.2.2.447",
                 'alert "a secret in a request"', 'alert "a secret in a response"', "http  GET server.example/jewels.txt",
                 "http  POST server.example/login", "reported", "acknowledged", "It works."):
        assert text in out, text
    assert "\033" not in out  # no terminal, no colour
    assert not left_over()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("at", ["== Build", "== Start", "== What curl"])
def test_cleans_up_when_it_is_stopped(number, at, scratch):
    log = os.path.join(scratch, "out")
    with open(log, "wb") as out:
        # A group of its own, as a terminal's Ctrl-C reaches all of it.
        with subprocess.Popen(QUICKSTART, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                              env=environment(), start_new_session=True) as process:
            def shown():
                with open(log, encoding="utf-8") as f:
                    return at in f.read()
            wait_for(shown, 120)
            time.sleep(0.3)
            os.killpg(process.pid, number)
            assert process.wait(60) in (0, 128 + number)
    assert not left_over()


def test_says_what_it_needs():
    done = run([*QUICKSTART, "--nix"], check=False)
    assert done.returncode == 2 and done.stderr.count(b"\n") == 1
    done = run(["setpriv", "--reuid", "65534", "--clear-groups", *QUICKSTART], check=False)
    assert done.returncode == 1 and b"root" in done.stderr
    assert not left_over()
