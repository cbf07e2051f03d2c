# SPDX-License-Identifier: Apache-2.0
"""libcurl.py TLS VERSION URL... - fetch these one after the other with the libcurl that stands on TLS, which is nss or
gnutls; print the bodies. VERSION: 1 or 2, of HTTP. With - as VERSION it only says whether that libcurl can be had."""
import ctypes
import sys

URL, WRITEFUNCTION, VERIFYPEER, VERIFYHOST, HTTP_VERSION = 10002, 20011, 64, 81, 84
HTTP_VERSIONS = {"1": 2, "2": 3}
RESPONSE_CODE = 0x200002


def main(tls, version, *urls):
    curl = ctypes.CDLL(f"libcurl-{tls}.so.4")
    if version == "-":
        return
    curl.curl_easy_init.restype = ctypes.c_void_p
    handle = ctypes.c_void_p(curl.curl_easy_init())

    def on_data(data, size, n, _):
        sys.stdout.buffer.write(ctypes.string_at(data, size * n))
        return size * n

    callback = ctypes.CFUNCTYPE(ctypes.c_size_t, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t,
                                ctypes.c_void_p)(on_data)
    curl.curl_easy_setopt(handle, WRITEFUNCTION, callback)
    for option, value in ((VERIFYPEER, 0), (VERIFYHOST, 0), (HTTP_VERSION, HTTP_VERSIONS[version])):
        curl.curl_easy_setopt(handle, option, ctypes.c_long(value))
    for url in urls:
        curl.curl_easy_setopt(handle, URL, url.encode())
        code = curl.curl_easy_perform(handle)
        if code:
            sys.exit(f"{url}: curl error {code}")
    curl.curl_easy_cleanup(handle)


main(*sys.argv[1:])
