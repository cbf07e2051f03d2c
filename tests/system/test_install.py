# SPDX-License-Identifier: Apache-2.0
"""cmake --install puts everything where a distribution would, and keeps the administrator's configuration."""
import os
import shutil

import pytest

from proc import build_dir, environment, run

WANTED = ("usr/local/sbin/agentd", "usr/local/sbin/receiverd", "usr/local/bin/tlstap",
          "usr/local/lib/systemd/system/tlstap-agentd.service", "usr/local/lib/systemd/system/tlstap-receiverd.service",
          "etc/tlstap/agentd.conf", "etc/tlstap/receiverd.conf", "usr/local/share/man/man8/agentd.8",
          "usr/local/share/man/man8/receiverd.8", "usr/local/share/man/man1/tlstap.1",
          "usr/local/share/man/man7/libtlstap.7")


@pytest.fixture
def installed(scratch):
    root = os.path.join(scratch, "root")

    def install():
        return run(["cmake", "--install", build_dir()], env=environment(DESTDIR=root))
    install()
    return root, install


def files(root):
    return {os.path.relpath(os.path.join(folder, name), root) for folder, _, names in os.walk(root) for name in names}


def test_everything_is_in_its_place(installed):
    root, _ = installed
    found = files(root)
    libraries = sorted(f for f in found if f.endswith(".so"))
    assert [os.path.basename(f) for f in libraries] == ["libtlstap-dlsym.so", "libtlstap.so"]
    assert all(f.startswith("usr/local/lib") for f in libraries)
    assert found - set(libraries) == set(WANTED)


def test_configuration_is_kept(installed):
    root, install = installed
    conf = os.path.join(root, "etc/tlstap/agentd.conf")
    with open(conf, "w", encoding="ascii") as f:
        f.write("# mine\n")
    install()
    with open(conf, encoding="ascii") as f:
        assert f.read() == "# mine\n"


def test_units_name_what_was_installed(installed):
    root, _ = installed
    for name in ("agentd", "receiverd"):
        with open(os.path.join(root, f"usr/local/lib/systemd/system/tlstap-{name}.service"), encoding="ascii") as f:
            text = f.read()
        assert f"ExecStart=/usr/local/sbin/{name} --config /etc/tlstap/{name}.conf\n" in text
        assert "@" not in text
        assert ("ExecReload=/bin/kill -HUP $MAINPID\n" in text) == (name == "agentd")  # it alone reads its options again


def test_units_are_understood(installed):
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    root, _ = installed
    done = run(["systemd-analyze", "verify", "--man=no", "--root", root, "tlstap-agentd.service",
                "tlstap-receiverd.service"], check=False)
    assert b"Unknown key" not in done.stderr and b"Failed to parse" not in done.stderr, done.stderr.decode()


def test_the_library_is_found_where_it_was_installed(installed, scratch):
    """Out of the build tree, the command says that the library is missing, and takes the one it is told."""
    root, _ = installed
    command = os.path.join(root, "usr/local/bin/tlstap")
    library = next(os.path.join(root, f) for f in files(root) if f.endswith("/libtlstap.so"))
    moved = shutil.copy(command, os.path.join(scratch, "tlstap-alone"))
    done = run([moved, "run", "printenv", "LD_PRELOAD"], env=environment(TLSTAP_LIB=library))
    assert done.stdout.decode().strip() == os.path.realpath(library)
