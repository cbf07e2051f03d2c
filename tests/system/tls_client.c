/* SPDX-License-Identifier: Apache-2.0 */
/* tls_client.c - tls_client ADDRESS PORT: a TLS session that stays until stdin ends.
 *
 * Waits for a line before it connects, prints "up" when the handshake is done and a request was written.
 * With -DPAST the TLS library is loaded RTLD_DEEPBIND and called through dlsym(3), past any interposer. */
#include <arpa/inet.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef PAST
#include <dlfcn.h>

static void *lib;
#define CALL(name) ((__typeof__(&name))dlsym(lib, #name))
#else
#define CALL(name) name
#endif

int main(int argc, char **argv)
{
	static const char request[] = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
	struct sockaddr_in to = {.sin_family = AF_INET};
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	SSL_CTX *ctx;
	SSL *ssl;

#ifdef PAST
	lib = dlopen("libssl.so.3", RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);
	if (!lib)
		return 3;
#endif
	if (argc != 3 || inet_pton(AF_INET, argv[1], &to.sin_addr) != 1)
		return 2;
	to.sin_port = htons((uint16_t)atoi(argv[2]));
	ctx = CALL(SSL_CTX_new)(CALL(TLS_client_method)());
	if (getchar() == EOF)
		return 1;
	if (connect(fd, (struct sockaddr *)&to, sizeof(to)) == -1)
		return 1;
	ssl = CALL(SSL_new)(ctx);
	CALL(SSL_set_fd)(ssl, fd);
	if (CALL(SSL_connect)(ssl) != 1 || CALL(SSL_write)(ssl, request, (int)strlen(request)) <= 0)
		return 1;
	puts("up");
	fflush(stdout);
	while (getchar() != EOF)
		;
	return 0;
}
