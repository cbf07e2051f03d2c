# SPDX-License-Identifier: Apache-2.0
"""Run unittest modules of other people and write down what became of each of their tests, one line each:
  NAME<tab>OUTCOME     ok, skipped: REASON, fail: EXCEPTION, error: EXCEPTION, xfail, unexpected
What an exception said is not kept: it may hold a port or an address. Of a test's subtests those that fail have lines.

usage: python3 unittest_outcomes.py FILE MODULE[.CLASS[.TEST]]..."""
import sys
import unittest


class Outcomes(unittest.TextTestResult):
    """@file  where the lines go, as they come: of a run that dies all is kept until then"""

    file = None

    def line(self, test, outcome):
        print(test.id(), outcome.replace("\n", " "), sep="\t", file=self.file, flush=True)

    def addSuccess(self, test):
        super().addSuccess(test)
        self.line(test, "ok")

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self.line(test, f"skipped: {reason}")

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self.line(test, f"fail: {err[0].__name__}")

    def addError(self, test, err):
        super().addError(test, err)
        self.line(test, f"error: {err[0].__name__}")

    def addExpectedFailure(self, test, err):
        super().addExpectedFailure(test, err)
        self.line(test, "xfail")

    def addUnexpectedSuccess(self, test):
        super().addUnexpectedSuccess(test)
        self.line(test, "unexpected")

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:
            self.line(subtest, f"fail: {err[0].__name__}")


def main():
    names = sys.argv[2:]
    if any(name.startswith("test.") for name in names):
        from test import support  # pylint: disable=import-outside-toplevel
        support.use_resources = []  # no tests of hosts in the Internet
        support.verbose = False
    with open(sys.argv[1], "w", encoding="utf-8") as Outcomes.file:
        tests = unittest.defaultTestLoader.loadTestsFromNames(names)
        done = unittest.TextTestRunner(verbosity=2, resultclass=Outcomes).run(tests)
    return 0 if done.wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main())
