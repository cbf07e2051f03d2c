/* SPDX-License-Identifier: Apache-2.0 */
/* Sockets, sessions and a certificate for the small programs on GnuTLS. */
#include "gsnip.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <gnutls/x509.h>

bool gsnip_server;
const char *gsnip_mode = "";
char **gsnip_argv;
int gsnip_argc;

static struct sockaddr_in address = {.sin_family = AF_INET};
static int listener = -1, sessions;
static gnutls_certificate_credentials_t cred;
static gnutls_datum_t ticket_key;

void gsnip_die(const char *what, long code)
{
	fprintf(stderr, "%s: %s: %ld %s, errno %d\n", gsnip_server ? "server" : "client", what, code,
		code < 0 ? gnutls_strerror((int)code) : "", errno);
	_exit(9);
}

static void must(const char *what, long code)
{
	if (code < 0)
		gsnip_die(what, code);
}

static void make_certificate(void)
{
	gnutls_x509_privkey_t key;
	gnutls_x509_crt_t crt;

	must("key", gnutls_x509_privkey_init(&key));
	must("key",
	     gnutls_x509_privkey_generate(key, GNUTLS_PK_ECDSA, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0));
	must("certificate", gnutls_x509_crt_init(&crt));
	gnutls_x509_crt_set_version(crt, 3);
	gnutls_x509_crt_set_serial(crt, "\1", 1);
	gnutls_x509_crt_set_activation_time(crt, time(NULL) - 3600);
	gnutls_x509_crt_set_expiration_time(crt, time(NULL) + 86400);
	gnutls_x509_crt_set_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, "snippet.test", 12);
	gnutls_x509_crt_set_key(crt, key);
	must("certificate", gnutls_x509_crt_sign2(crt, crt, key, GNUTLS_DIG_SHA256, 0));
	must("certificate", gnutls_certificate_set_x509_key(cred, &crt, 1, key));
	gnutls_x509_crt_deinit(crt);
	gnutls_x509_privkey_deinit(key);
	must("ticket key", gnutls_session_ticket_key_generate(&ticket_key));
}

void gsnip_init(int argc, char **argv)
{
	int on = 1;

	if (argc < 4 || (strcmp(argv[1], "server") != 0 && strcmp(argv[1], "client") != 0)) {
		fprintf(stderr, "usage: %s server|client ADDR PORT [ARG]...\n", argv[0]);
		exit(2);
	}
	signal(SIGPIPE, SIG_IGN);
	gsnip_server = strcmp(argv[1], "server") == 0;
	gsnip_argc = argc - 4;
	gsnip_argv = argv + 4;
	gsnip_mode = gsnip_argc ? gsnip_argv[0] : "";
	address.sin_port = htons((uint16_t)atoi(argv[3]));
	if (inet_pton(AF_INET, argv[2], &address.sin_addr) != 1)
		gsnip_die("address", 0);
	must("credentials", gnutls_certificate_allocate_credentials(&cred));
	if (!gsnip_server)
		return;
	make_certificate();
	listener = socket(AF_INET, SOCK_STREAM, 0);
	(void)setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(listener, (void *)&address, sizeof(address)) == -1 || listen(listener, 64) == -1)
		gsnip_die("listen", 0);
}

static unsigned count_entries(const char *dir)
{
	DIR *d = opendir(dir);
	unsigned n = 0;

	while (d && readdir(d))
		n++;
	if (d)
		closedir(d);
	return n;
}

int gsnip_done(void)
{
	if (listener != -1)
		close(listener);
	gnutls_certificate_free_credentials(cred);
	gnutls_free(ticket_key.data);
	printf("descriptors %u threads %u\n", count_entries("/proc/self/fd") - 3, count_entries("/proc/self/task") - 2);
	return fflush(stdout) != 0;
}

int gsnip_tcp(void)
{
	int fd = -1, on = 1;

	if (listener != -1)
		fd = accept(listener, NULL, NULL);
	for (unsigned i = 0; listener == -1 && fd == -1 && i < 500; i++) {
		fd = socket(AF_INET, SOCK_STREAM, 0);
		if (connect(fd, (void *)&address, sizeof(address)) == 0)
			break;
		close(fd);
		fd = -1;
		usleep(20000);
	}
	if (fd == -1)
		gsnip_die("connection", 0);
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	return fd;
}

static FILE *open_save(const char *kind)
{
	const char *dir = getenv("SNIP_SAVE");
	char path[512];
	FILE *f;

	if (!dir)
		return NULL;
	snprintf(path, sizeof(path), "%s/%s.%d.%d.%s", dir, gsnip_server ? "server" : "client", (int)getpid(), sessions,
		 kind);
	f = fopen(path, "ae");
	if (!f)
		gsnip_die(path, 0);
	return f;
}

void gsnip_new(struct gsnip *g, int fd, unsigned flags)
{
	const char *tls = getenv("SNIP_TLS");
	gnutls_datum_t protocol = {(unsigned char *)"snippet/1", 9};

	memset(g, 0, sizeof(*g));
	g->fd = fd;
	must("init", gnutls_init(&g->s, flags | (gsnip_server ? GNUTLS_SERVER : GNUTLS_CLIENT)));
	must("priority",
	     gnutls_priority_set_direct(g->s,
					tls && strcmp(tls, "1.2") == 0 ? "NORMAL:-VERS-ALL:+VERS-TLS1.2" : "NORMAL",
					NULL));
	must("credentials", gnutls_credentials_set(g->s, GNUTLS_CRD_CERTIFICATE, cred));
	gnutls_transport_set_int(g->s, fd);
	must("alpn", gnutls_alpn_set_protocols(g->s, &protocol, 1, 0));
	if (gsnip_server)
		must("ticket", gnutls_session_ticket_enable_server(g->s, &ticket_key));
	else
		must("name", gnutls_server_name_set(g->s, GNUTLS_NAME_DNS, "snippet.test", 12));
	g->tx = open_save("tx");
	g->rx = open_save("rx");
	sessions++;
}

void gsnip_handshake(struct gsnip *g)
{
	int r;

	do
		r = gnutls_handshake(g->s);
	while (r < 0 && !gnutls_error_is_fatal(r));
	must("handshake", r);
}

void gsnip_free(struct gsnip *g)
{
	struct timeval patience = {.tv_sec = 5};
	char buf[4096];

	gnutls_deinit(g->s);
	if (g->tx)
		fclose(g->tx);
	if (g->rx)
		fclose(g->rx);
	(void)setsockopt(g->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	(void)shutdown(g->fd, SHUT_WR);
	while (recv(g->fd, buf, sizeof(buf), 0) > 0)
		;
	close(g->fd);
}

void gsnip_save(struct gsnip *g, bool tx, const void *buf, size_t n)
{
	FILE *f = tx ? g->tx : g->rx;

	if (f)
		fwrite(buf, 1, n, f);
}
