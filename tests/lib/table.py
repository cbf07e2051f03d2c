# SPDX-License-Identifier: Apache-2.0
"""Which TLS library of which program was shown to work, by which test: README's table.

A test that shows that the connections of a real program are forged byte-identical and under their true 5-tuple says so
with a mark, on itself or on one of its parameters:

    @shows("wget", "GnuTLS")
    def test_wget(...):

    @pytest.mark.parametrize("library", [pytest.param("wolfssl", marks=shows("lighttpd", "wolfSSL"))])

A program of several libraries has a mark for each. When such a test passes, fails or is skipped, a line goes to the file
that TLSTAP_SHOWN names, if it is set. tests/table writes README's table from the marks, and compares it with them and
with those lines."""
import json
import os
import re
import subprocess

import pytest

README_BEGIN, README_END = "<!-- by tests/table --write -->\n", "<!-- end of it -->\n"

# whose version is what version, in Debian
PACKAGES = {"OpenSSL": "libssl3", "GnuTLS": "libgnutls30", "NSS": "libnss3", "BoringSSL": "android-libboringssl",
            "mbedTLS": "libmbedtls14", "wolfSSL": "libwolfssl35",
            "Apache": "apache2", "HAProxy": "haproxy", "PostgreSQL": "postgresql", "psql": "postgresql-client-15",
            "Postfix": "postfix", "Python asyncio": "python3", "Python smtplib": "python3", "Ruby Net::HTTP": "ruby",
            "Perl IO::Socket::SSL": "libio-socket-ssl-perl", "Perl LWP": "libwww-perl", "ldapsearch": "ldap-utils",
            "gnutls-cli": "gnutls-bin", "gnutls-serv": "gnutls-bin", "tstclnt": "libnss3-tools",
            "selfserv": "libnss3-tools", "libcurl-nss": "libcurl3-nss", "libcurl-gnutls": "libcurl3-gnutls",
            "openssl s_server -www": "openssl", "openssl ocsp": "openssl", "Firefox": "firefox-esr",
            "Qt": "libqt5network5", "PHP": "php-cli"}
# what tests/run has only where it was installed by hand
APART = {"Firefox"}


def shows(program, library):
    return pytest.mark.shows(program, library)


def marks(item):
    """{(library, program)} of a test"""
    return {mark.args[::-1] for mark in item.iter_markers("shows")}


def record(item, report):
    """Called after each phase of each test."""
    path = os.environ.get("TLSTAP_SHOWN")
    if not path or (report.passed and report.when != "call"):
        return
    with open(path, "a", encoding="utf-8") as f:
        for library, program in sorted(marks(item)):
            json.dump({"library": library, "program": program, "test": item.nodeid, "outcome": report.outcome}, f)
            f.write("\n")


def version(name):
    """As Debian says it, or "" if it does not."""
    done = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", PACKAGES.get(name, name)], capture_output=True,
                          text=True, check=False)
    return re.sub(r"^\d+:|[-+~].*$", "", done.stdout)


class Collected:
    """A plugin of pytest. @rows  {(library, program): names of files with such tests}"""

    def __init__(self):
        self.rows = {}

    def pytest_collection_modifyitems(self, items):
        for item in items:
            for row in marks(item):
                self.rows.setdefault(row, set()).add(item.path.name)


def markdown(rows):
    """Versions are not in it: they differ from machine to machine."""
    lines = ["| TLS library | programs | tests, in `tests/system/` |", "| --- | --- | --- |"]
    for library in sorted({library for library, _ in rows}, key=str.lower):
        mine = {program: files for (of, program), files in rows.items() if of == library}
        names = sorted(name.removeprefix("test_").removesuffix(".py") for name in set().union(*mine.values()))
        lines.append(f"| {library} | {', '.join(sorted(mine, key=str.lower))} | {', '.join(f'`{n}`' for n in names)} |")
    return "\n".join(lines) + "\n"


def problems(rows, ran):
    """What is wrong with a whole run, whose lines @ran are. @rows  what README has"""
    outcomes = {}
    for line in ran:
        outcomes.setdefault((line["library"], line["program"]), []).append((line["outcome"], line["test"]))
    for row in sorted(set(rows) | set(outcomes)):
        name = f"{row[1]} ({row[0]})"
        of = [outcome for outcome, _ in outcomes.get(row, [])]
        if row not in rows:
            yield f"{name} is not in the table"
        elif "failed" in of:
            yield f"{name}: failed in {[test for outcome, test in outcomes[row] if outcome == 'failed']}"
        elif "passed" not in of and not (set(of) == {"skipped"} and row[1] in APART):
            yield f"{name} is in the table, but no test showed it"
