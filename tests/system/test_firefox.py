# SPDX-License-Identifier: Apache-2.0
"""Firefox, without a display: a page over HTTP/1.1 and over HTTP/2, all as it went over the wire."""
import json
import os
import shutil

import pytest

import net as network
from proc import run
from stage import Stage
from table import shows
from web import Nginx, pattern

pytestmark = pytest.mark.skipif(not shutil.which("firefox-esr"),
                                reason="no firefox-esr: packaging/install-deps firefox")

PAGE = b"<!DOCTYPE html><title>page</title>" + b"".join(b'<img src="/image%d.svg">' % i for i in range(8))
IMAGE = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect width="9" height="9"/><!--%s--></svg>'
IMAGES = {f"image{i}.svg": IMAGE % pattern(20000 * i, b"%d" % i).hex().encode() for i in range(8)}
PREFERENCES = {
    "app.update.enabled": False,
    "browser.safebrowsing.malware.enabled": False,
    "browser.safebrowsing.phishing.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "extensions.update.enabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "network.http.speculative-parallel-limit": 0,
    "services.settings.server": "",
    "toolkit.telemetry.enabled": False,
}


class Site(Nginx):
    """A page with images. Its certificate is of an authority of its own: Firefox takes no self-signed one."""

    def __init__(self, folder, ns, **options):
        ext, cert, key = (os.path.join(folder, name) for name in ("ext", "server.example.crt", "server.example.key"))
        self.authority = os.path.join(folder, "ca.crt")
        new = ["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        run([*new, "-x509", "-days", "30", "-keyout", self.authority + ".key", "-out", self.authority,
             "-subj", "/CN=authority.example"])
        run([*new, "-keyout", key, "-out", cert + ".req", "-subj", "/CN=server.example"])
        with open(ext, "w", encoding="ascii") as f:
            f.write(f"subjectAltName=IP:{network.CLIENT4}\nextendedKeyUsage=serverAuth\n")
        run(["openssl", "x509", "-req", "-in", cert + ".req", "-CA", self.authority, "-CAkey", self.authority + ".key",
             "-CAcreateserial", "-days", "30", "-extfile", ext, "-out", cert])
        super().__init__(folder, ns, extra="types { text/html html; image/svg+xml svg; }", **options)
        self.put("page.html", PAGE)
        for name, image in IMAGES.items():
            self.put(name, image)


def profile(folder, authority, http2):
    """One that trusts this authority."""
    os.makedirs(folder)
    with open(os.path.join(folder, "user.js"), "w", encoding="ascii") as f:
        for name, value in {**PREFERENCES, "network.http.http2.enabled": http2}.items():
            f.write(f"user_pref({json.dumps(name)}, {json.dumps(value)});\n")
    run(["certutil", "-N", "-d", "sql:" + folder, "--empty-password"])
    run(["certutil", "-A", "-d", "sql:" + folder, "-n", "authority", "-t", "C,,", "-i", authority])
    return folder


@pytest.fixture
def stage(agentd, net, scratch, started):
    return Stage(agentd, net, scratch, started)


@shows("Firefox", "NSS")
@pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
def test_page(http2, stage, scratch):  # pylint: disable=redefined-outer-name
    site = stage.service(Site, False, http2=http2)
    home = os.path.join(scratch, "home")
    folder = profile(os.path.join(home, "profile"), site.authority, http2)
    shot = os.path.join(scratch, "shot.png")
    stage.client(True, HOME=home)(["firefox-esr", "--headless", "--no-remote", "--profile", folder,
                                   "--screenshot", shot, f"https://{network.CLIENT4}/page.html"])
    assert os.path.getsize(shot) > 1000
    truth = stage.check(1)
    first = b"PRI * HTTP/2.0" if http2 else b"GET /page.html HTTP/1.1"
    assert any(sides[0].startswith(first) for sides in truth.values())
    answers = b"".join(sides[1] for sides in truth.values())
    assert PAGE in answers
    assert len(answers) > sum(map(len, IMAGES.values())) if http2 else all(i in answers for i in IMAGES.values())
