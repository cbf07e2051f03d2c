# SPDX-License-Identifier: Apache-2.0
"""Programs that never call SSL_read() or SSL_write(): openssl s_server -www, and OpenSSL's own HTTP client."""
import net as network
from services import Asyncio, Service
from stage import Stage, Unread, check_forged
from table import shows
from web import certificate
from wire import shifted


class SslServer(Service):
    """openssl s_server -www: BIO_f_buffer over BIO_f_ssl over a socket."""

    def prepare(self):
        return ["openssl", "s_server", "-accept", str(self.port), "-cert", self.cert, "-key", self.key, "-www", "-quiet"]


@shows("openssl s_server -www", "OpenSSL")
def test_s_server_www(agentd, net, scratch, started):
    s = Stage(agentd, net, scratch, started)
    s.service(SslServer, True)
    pages = []
    for how in ([], ["--http1.0"], ["--tls-max", "1.2"]):
        pages.append(s.client(False)(["curl", "-skf", *how, f"https://{network.SERVER4}/"]).stdout)
    truth = s.check(3)
    assert all(sides[0].startswith(b"GET / HTTP/1.") for sides in truth.values())
    assert all(b"s_server" in page and any(page in sides[1] for sides in truth.values()) for page in pages)


@shows("openssl ocsp", "OpenSSL")
def test_http_client(agentd, net, scratch, started):
    """The OCSP client asks over HTTPS; what it asks is all that matters here."""
    s = Stage(agentd, net, scratch, started)
    s.service(Asyncio, False, port=8443, keys=True)
    cert, _ = certificate(scratch)
    ask = f"openssl ocsp -issuer {cert} -cert {cert} -url https://{network.CLIENT4}:8443"
    for path in ("one", "two"):
        s.client(True)(["sh", "-c", f"{ask}/{path} || true"])  # what it is answered is no OCSP
    truth = shifted(s.wire.truth())
    assert sorted(sides[0].split()[1] for sides in truth.values()) == [b"/one", b"/two"]
    for key, (asked, answered) in truth.items():
        read = Unread(answered)  # the body, once it has seen what type it is, is not
        read.tail = len(answered) - answered.index(b"\r\n\r\n") - 4
        truth[key] = (asked, read)
    check_forged(s.agent, s.path, truth)
