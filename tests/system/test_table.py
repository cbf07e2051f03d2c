# SPDX-License-Identifier: Apache-2.0
"""README's table of what was shown would be found wrong if it were."""
import pytest

import table
from proc import ROOT, run

ROWS = {("OpenSSL", "curl"): {"test_a.py"}, ("NSS", "Firefox"): {"test_b.py"}, ("OpenSSL", "nginx"): {"test_a.py"}}
CURL, NGINX, FIREFOX, WGET = (dict(zip(("library", "program"), row), test="x")
                              for row in [*(r for r in ROWS if r[1] != "Firefox"), ("NSS", "Firefox"), ("GnuTLS", "wget")])


def ran(*lines):
    return list(table.problems(ROWS, [dict(line, outcome=outcome) for line, outcome in lines]))


def test_all_was_shown():
    all_passed = [(CURL, "passed"), (NGINX, "passed")]
    assert not ran(*all_passed, (FIREFOX, "passed"))
    assert not ran(*all_passed, (FIREFOX, "skipped"))
    assert not ran(*all_passed, (FIREFOX, "skipped"), (CURL, "skipped"))


@pytest.mark.parametrize("lines,problem", [
    ([(CURL, "passed"), (FIREFOX, "passed")], "nginx (OpenSSL) is in the table, but no test showed it"),
    ([(CURL, "passed"), (NGINX, "skipped"), (FIREFOX, "passed")], "nginx (OpenSSL) is in the table, but no test showed it"),
    ([(CURL, "passed"), (NGINX, "passed")], "Firefox (NSS) is in the table, but no test showed it"),
    ([(CURL, "passed"), (CURL, "failed"), (NGINX, "passed"), (FIREFOX, "passed")], "curl (OpenSSL): failed in ['x']"),
    ([(CURL, "passed"), (WGET, "passed"), (NGINX, "passed"), (FIREFOX, "passed")], "wget (GnuTLS) is not in the table"),
])
def test_what_is_wrong(lines, problem):
    assert ran(*lines) == [problem]


def test_marks_become_lines(tmp_path, monkeypatch):
    """Of a test that passes, of one that fails, and of one that never begins."""
    shown, tests = tmp_path / "shown", tmp_path / "test_marked.py"
    tests.write_text("import pytest\nfrom table import shows\n"
                     "@shows('a', 'X')\n@shows('b', 'X')\ndef test_1():\n\tpass\n"
                     "@shows('c', 'X')\ndef test_2():\n\tassert False\n"
                     "@pytest.mark.parametrize('p', [pytest.param(1, marks=shows('d', 'Y'))])\n"
                     "def test_3(p):\n\tpytest.skip('no')\n", encoding="ascii")
    (tmp_path / "conftest.py").write_text((open(f"{ROOT}/tests/system/conftest.py", encoding="utf-8").read())
                                          .replace("os.path.abspath(__file__)", repr(f"{ROOT}/tests/system/x")))
    monkeypatch.setenv("TLSTAP_SHOWN", str(shown))
    done = run(["/usr/bin/python3", "-m", "pytest", "-p", "no:cacheprovider", "-q", str(tests)], check=False,
               env={"TLSTAP_SHOWN": str(shown), "PATH": "/usr/bin:/bin:/usr/sbin:/sbin"}, cwd=tmp_path)
    lines = [(line["program"], line["library"], line["outcome"])
             for line in map(table.json.loads, shown.read_text(encoding="utf-8").splitlines())]
    assert lines == [("a", "X", "passed"), ("b", "X", "passed"), ("c", "X", "failed"), ("d", "Y", "skipped")], done
