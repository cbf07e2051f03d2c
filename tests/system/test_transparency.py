# SPDX-License-Identifier: Apache-2.0
"""Other people's test suites give under the tap, with an agent running, exactly the results that they give without.

Each suite runs twice at once, in two network namespaces. When the two lists of outcomes differ, the tests that differ run
again, AGAIN times on both sides: a test is taken for flaky only if nothing came out of it with the tap, then, that did
not come out of it without. tests/run has the suites that take seconds, tests/transparency has them all."""
import os
import tempfile
import warnings

import pytest

import net as network
import tapd
from proc import compile_c
from suites import SUITES, Run, Unittest, differences

HERE = os.path.dirname(os.path.abspath(__file__))
AGAIN, ATTEMPTS = 5, 4
CHOSEN = [suite for suite in SUITES if suite.fast or os.environ.get("TLSTAP_SUITES") == "all"]


class Trial:
    """A suite without and with the tap. @preload  a library that goes before ours, or None"""

    def __init__(self, suite, folder, preload=None):
        self.suite, self.folder, self.runs, self.before = suite, folder, 0, 0
        os.makedirs(folder)
        self.bare, self.tapped = network.Namespace("bare"), network.Namespace("tapped")
        self.agent = tapd.Agentd(folder, self.tapped, "-I", "any", "-D", "-w", "/dev/null", "--pool-size", "64M")
        self.env = {k: v for k, v in self.agent.env().items() if k in ("LD_PRELOAD", "TLSTAP_SOCKET")}
        if preload:
            self.env["LD_PRELOAD"] = f"{preload} {self.env['LD_PRELOAD']}"
        self.going = []

    def begin(self, only=()):
        self.runs += 1
        self.before = self.agent.check_balance()["reported"]
        self.going = [Run(self.suite, os.path.join(self.folder, f"p{self.runs}"), self.bare, only),
                      Run(self.suite, os.path.join(self.folder, f"t{self.runs}"), self.tapped, only, **self.env)]

    def both(self, only=()):
        """Returns the outcomes without and with the tap, which saw what was said."""
        for _ in range(ATTEMPTS):
            if not self.going:
                self.begin(only)
            results = [run.end() for run in self.going]
            self.going = []
            seen = self.agent.check_balance()["reported"] - self.before
            # a process that could not attach within 20 ms is not tapped: then this was no trial
            if only or seen >= self.suite.least:
                assert seen == 0 or self.suite.least, f"{seen} bytes were seen of a suite that says nothing"
                return results
        raise AssertionError(f"the tap was not there: {seen} bytes seen, {self.agent.status()}")

    def check(self):
        plain, tapped = self.both()
        assert len(plain) > 1, f"nothing has run: {self.said('p')}"
        text, names = differences(plain, tapped)
        if not text:
            return
        only = self.suite.names(names) if names else []
        known, odd = set(plain), []
        for _ in range(AGAIN):
            plain, tapped = self.both(only)
            known.update(plain)
            odd += [entry for entry in tapped if entry not in known]
        odd = [entry for entry in odd if entry not in known]
        assert not odd, "with the tap (+) and without (-), and again:\n" + "\n".join(
            [*text[:40], *map(str, odd[:40]), self.said("t")])
        warnings.warn(f"{self.suite}: flaky: {text[:10]}")

    def said(self, side):
        with open(os.path.join(self.folder, f"{side}1", "log"), "rb") as f:
            return f.read()[-6000:].decode(errors="replace")

    def end(self):
        for run in self.going:
            run.kill()
        self.agent.stop()
        self.bare.delete()
        self.tapped.delete()


@pytest.fixture(scope="module")
def folder():
    name = tempfile.mkdtemp(prefix="suites.", dir=os.environ.get("TLSTAP_SCRATCH"))
    os.chmod(name, 0o755)
    return name


@pytest.fixture(scope="module")
def trials(folder, request):  # pylint: disable=redefined-outer-name
    """All fast suites that were asked for, begun at once: they mostly wait."""
    asked = [item.callspec.params["suite"] for item in request.session.items
             if item.function is test_suite]
    found = {}

    def end():
        for trial in found.values():
            trial.end()
    request.addfinalizer(end)
    for suite in asked:
        found[suite] = Trial(suite, os.path.join(folder, suite.name))
        if suite.fast:
            found[suite].begin()
    return found


@pytest.mark.parametrize("suite", CHOSEN, ids=str)
def test_suite(suite, trials):  # pylint: disable=redefined-outer-name
    trials[suite].check()


FTP = "test.test_ftplib.TestTLS_FTPClassMixin"
NOTICED_BY = {"QUEUE": "test.test_urllib2_localnet.TestUrlopen.test_https", "SHUTDOWN": f"{FTP}.test_storlines",
              "BIT": f"{FTP}.test_dir"}


@pytest.mark.parametrize("harm", NOTICED_BY)
def test_harm_would_be_seen(harm, folder, request):  # pylint: disable=redefined-outer-name
    """The same with a library that does what a bad tap might do."""
    library = compile_c(os.path.join(HERE, "harmful.c"), os.path.join(folder, f"{harm}.so"), f"-D{harm}", "-shared",
                        "-fPIC", "-Wl,--no-as-needed", "-lssl", "-lcrypto")
    trial = Trial(Unittest(harm, NOTICED_BY[harm], least=1), os.path.join(folder, harm), library)
    request.addfinalizer(trial.end)
    with pytest.raises(AssertionError, match="with the tap"):
        trial.check()


def test_no_tap_would_be_seen(folder, request):  # pylint: disable=redefined-outer-name
    trial = Trial(Unittest("none", NOTICED_BY["QUEUE"], least=1), os.path.join(folder, "none"))
    request.addfinalizer(trial.end)
    del trial.env["LD_PRELOAD"]
    with pytest.raises(AssertionError, match="the tap was not there"):
        trial.check()
