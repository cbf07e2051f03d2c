# SPDX-License-Identifier: Apache-2.0
"""Other people's test suites, as their packages install them, each in a network namespace of its own that has nothing
but a loopback interface; and what became of each of their tests."""
import os
import re
import signal
import subprocess
import xml.etree.ElementTree

from proc import environment
from web import LIB, PYTHON

INSTALLED = "/usr/libexec/installed-tests"


class Suite:
    """@least   bytes of cleartext that its tests say at least; 0: it speaks no TLS, and nothing may be seen
    @fast    it is part of tests/run"""

    def __init__(self, name, *what, least, fast=False):
        self.name, self.what, self.least, self.fast = name, what, least, fast

    def __repr__(self):
        return self.name

    def command(self, folder, only):
        """The command line. @only  names of some of its tests, else all are run"""
        raise NotImplementedError

    def outcomes(self, folder):
        """[(name of a test, what became of it)] of all that have run."""
        raise NotImplementedError

    def names(self, differing):  # pylint: disable=unused-argument
        """The tests to run again, of those that differ; or none for all."""
        return []


class Unittest(Suite):
    """Modules of unittest, by unittest_outcomes.py."""

    def command(self, folder, only):
        return [PYTHON, os.path.join(LIB, "unittest_outcomes.py"), os.path.join(folder, "outcomes"), *(only or self.what)]

    def outcomes(self, folder):
        with open(os.path.join(folder, "outcomes"), encoding="utf-8") as f:
            return [tuple(line.rstrip("\n").split("\t", 1)) for line in f]

    def names(self, differing):
        names = sorted({name.split(" ")[0] for name in differing})
        return names if all(re.fullmatch(r"[\w.]+\.test\w+", name) for name in names) else []


class Pytest(Suite):
    """Modules of pytest."""

    def command(self, folder, only):
        return [PYTHON, "-m", "pytest", "-p", "no:cacheprovider", "-q", "--junitxml", os.path.join(folder, "outcomes"),
                "--rootdir", folder, *(["-k", " or ".join(only)] if only else []), "--pyargs", *self.what]

    def outcomes(self, folder):
        try:
            tree = xml.etree.ElementTree.parse(os.path.join(folder, "outcomes"))
        except (OSError, xml.etree.ElementTree.ParseError):
            return []
        return [(f"{case.get('classname')}.{case.get('name')}", "+".join(sorted(child.tag for child in case
                                                                                if child.tag != "properties")) or "ok")
                for case in tree.getroot().iter("testcase")]

    def names(self, differing):
        return sorted({name.split("[")[0].split(".")[-1] for name in differing})


class Glib(Suite):
    """A test program of GLib, which says "ok 1 /path"."""

    def command(self, folder, only):
        return [*self.what, "--tap", *[a for name in only or () for a in ("-p", name)]]

    def outcomes(self, folder):
        with open(os.path.join(folder, "log"), encoding="utf-8", errors="replace") as f:
            lines = [re.match(r"(ok|not ok) \d+ (\S+)( # (?:SKIP|TODO).*)?", line) for line in f]
        return [(m[2], m[1] + (m[3] or "")) for m in lines if m]

    def names(self, differing):
        return sorted(set(differing))


SUITES = [
    Unittest("python-ssl", "test.test_ssl", least=100000, fast=True),
    Unittest("python-httplib", "test.test_httplib", "test.test_urllib2_localnet", least=1000, fast=True),
    Unittest("python-ftplib", "test.test_ftplib", least=10000, fast=True),
    Unittest("python-poplib", "test.test_poplib", least=1000, fast=True),
    Unittest("python-smtplib", "test.test_smtplib", least=0, fast=True),
    Unittest("python-asyncio-ssl", "test.test_asyncio.test_ssl", "test.test_asyncio.test_sslproto", least=10000, fast=True),
    Glib("glib-networking", f"{INSTALLED}/glib-networking/connection-gnutls", least=1000, fast=True),
    Unittest("python-imaplib", "test.test_imaplib", least=1000),
    Unittest("python-asyncio", "test.test_asyncio.test_events", "test.test_asyncio.test_streams",
             "test.test_asyncio.test_sendfile", "test.test_asyncio.test_server", least=1000),
    Unittest("tornado", "tornado.test.iostream_test", "tornado.test.httpserver_test", "tornado.test.tcpserver_test",
             "tornado.test.simple_httpclient_test", "tornado.test.websocket_test", least=1000),
    Pytest("trio", "trio.tests.test_ssl", "trio.tests.test_dtls", "trio.tests.test_highlevel_ssl_helpers", least=1000),
    Pytest("aiosmtpd", "aiosmtpd.tests.test_starttls", "aiosmtpd.tests.test_smtps", least=1000),
]


class Run:
    """One run of a suite, begun; end() waits for it.
    @preload  a library, and @env what it is to be told"""

    def __init__(self, suite, folder, ns, only=(), **env):
        self.suite, self.folder = suite, folder
        home = os.path.join(folder, "home")
        os.makedirs(home)
        with open(os.path.join(folder, "log"), "wb") as log:
            self.process = subprocess.Popen(ns.command(suite.command(folder, only)), cwd=home, stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
                                            env=environment(HOME=home, TMPDIR=home, **env))

    def end(self, timeout=300):
        """Returns [(name, outcome)], sorted; the last one is that of the whole."""
        try:
            code = f"exit code {self.process.wait(timeout)}"
        except subprocess.TimeoutExpired:
            code = "hung"
        finally:
            self.kill()
        return [*sorted(self.suite.outcomes(self.folder)), ("(the program)", code)]

    def kill(self):
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()


def differences(one, other):
    """The lines that only one of two lists of outcomes has, as text, and the names of their tests."""
    def minus(a, b):
        rest = list(b)
        for entry in a:
            if entry in rest:
                rest.remove(entry)
            else:
                yield entry
    lost, new = list(minus(one, other)), list(minus(other, one))
    text = [f"- {name}: {outcome}" for name, outcome in lost] + [f"+ {name}: {outcome}" for name, outcome in new]
    return text, sorted({name for name, _ in lost + new} - {"(the program)"})

