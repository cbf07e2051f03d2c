# SPDX-License-Identifier: Apache-2.0
"""Fixtures: a scratch directory, a network, the daemons. Whatever a test starts ends with it; when it fails, the
logs in its scratch directory are shown."""
import glob
import os
import re
import shutil
import signal
import sys
import tempfile

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lib"))
# pylint: disable=wrong-import-position
import net as network  # noqa: E402
import proc  # noqa: E402
import table  # noqa: E402
import tapd  # noqa: E402
import web  # noqa: E402

LOG_TAIL = 4000


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: takes more than some ten seconds")
    config.addinivalue_line("markers", "shows(program, library): a row of README's table, see tests/lib/table.py")


def pytest_sessionstart():
    network.clean_leftovers()
    # A polite kill cleans up like Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))


@pytest.hookimpl(tryfirst=True, hookwrapper=True)
def pytest_runtest_makereport(item):
    result = yield
    report = result.get_result()
    setattr(item, "report_" + report.when, report)
    table.record(item, report)


@pytest.fixture
def scratch(request):
    base = os.environ.get("TLSTAP_SCRATCH")
    folder = tempfile.mkdtemp(prefix=re.sub(r"[^A-Za-z0-9]+", "_", request.node.name)[:40] + ".", dir=base)
    os.chmod(folder, 0o755)
    yield folder
    failed = any(getattr(request.node, "report_" + when, None) and getattr(request.node, "report_" + when).failed
                 for when in ("setup", "call"))
    if failed:
        for log in sorted(glob.glob(os.path.join(folder, "**", "*.log"), recursive=True)):
            with open(log, "rb") as f:
                text = f.read()[-LOG_TAIL:].decode(errors="replace")
            if text:
                print(f"---- {os.path.relpath(log, folder)}\n{text}")
    if not base:
        shutil.rmtree(folder, ignore_errors=True)
    elif not failed:
        # tests/run -k is for looking at what failed; big captures of what passed only fill the disk
        for big in glob.glob(os.path.join(folder, "**", "*"), recursive=True):
            if os.path.isfile(big) and os.path.getsize(big) > 16 << 20:
                os.unlink(big)


@pytest.fixture
def net():
    n = network.Network()
    yield n
    n.delete()


@pytest.fixture
def started():
    """Things with stop() and kill() that end with the test, last first. Not stopping properly is a failure."""
    things = []
    yield things
    errors = []
    for thing in reversed(things):
        try:
            thing.stop()
        except AssertionError as error:
            errors.append(str(error))
    assert not errors, "\n".join(errors)


@pytest.fixture
def agentd(net, scratch, started):  # pylint: disable=redefined-outer-name
    """agentd(*ARGUMENTS, ns=net.server, asan=False): an agent that taps what has its env()."""
    if not os.path.exists(proc.program("agentd")):
        pytest.fail("agentd was not built")

    def start(*args, ns=None, asan=False, env=None, socket=None):
        agent = tapd.Agentd(scratch, ns or net.server, *args, asan=asan, env=env, socket=socket)
        started.append(agent)
        return agent
    return start


@pytest.fixture
def receiverd(net, scratch, started):  # pylint: disable=redefined-outer-name
    if not os.path.exists(proc.program("receiverd")):
        pytest.fail("receiverd was not built")

    def start(*args, ns=None, asan=False, env=None):
        receiver = tapd.Receiverd(scratch, ns or net.ids, *args, asan=asan, env=env)
        started.append(receiver)
        return receiver
    return start


@pytest.fixture
def nginx(net, scratch, started):  # pylint: disable=redefined-outer-name
    def start(ns=None, **options):
        folder = tempfile.mkdtemp(prefix="nginx.", dir=scratch)
        server = web.Nginx(folder, ns or net.server, **options)
        started.append(server)
        return server
    return start


@pytest.fixture
def python_server(net, scratch, started):  # pylint: disable=redefined-outer-name
    def start(ns=None, **options):
        folder = tempfile.mkdtemp(prefix="python.", dir=scratch)
        server = web.PythonServer(folder, ns or net.server, **options)
        started.append(server)
        return server
    return start
