/* SPDX-License-Identifier: Apache-2.0 */
/* identity.c - self-made key and certificate (see identity.h). */
#include "common/identity.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NAME_MAX_CN 64 /* what X.509 allows in a common name */
#define VALID_DAYS (30 * 365)

static EVP_PKEY *make_key(void)
{
	EVP_PKEY_CTX *c = EVP_PKEY_CTX_new_id(EVP_PKEY_EC, NULL);
	EVP_PKEY *key = NULL;

	if (c == NULL || EVP_PKEY_keygen_init(c) != 1 ||
	    EVP_PKEY_CTX_set_ec_paramgen_curve_nid(c, NID_X9_62_prime256v1) != 1 || EVP_PKEY_keygen(c, &key) != 1)
		key = NULL;
	EVP_PKEY_CTX_free(c);
	return key;
}

static bool add_ext(X509 *x, int nid, const char *value)
{
	X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, NULL, nid, value);
	bool ok = e != NULL && X509_add_ext(x, e, -1) == 1;

	X509_EXTENSION_free(e);
	return ok;
}

/* Host names are used in a certificate only if they are plain: anything else could be syntax in the extension. */
static void host_name(char ret[static NAME_MAX_CN + 1])
{
	if (gethostname(ret, NAME_MAX_CN) == -1)
		ret[0] = '\0';
	ret[NAME_MAX_CN] = '\0';
	if (ret[0] == '\0' ||
	    ret[strspn(ret, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-")] != '\0')
		(void)snprintf(ret, NAME_MAX_CN, "tlstap-receiver");
}

static bool set_serial(X509 *x)
{
	uint64_t serial;

	if (RAND_bytes((unsigned char *)&serial, sizeof(serial)) != 1)
		return false;
	return ASN1_INTEGER_set_uint64(X509_get_serialNumber(x), serial >> 1 | 1) == 1;
}

static X509 *make_cert(EVP_PKEY *key)
{
	char host[NAME_MAX_CN + 1], san[NAME_MAX_CN + 8];
	X509 *x = X509_new();
	X509_NAME *name;

	host_name(host);
	(void)snprintf(san, sizeof(san), "DNS:%s", host);
	if (x == NULL || X509_set_version(x, 2) != 1 || !set_serial(x) ||
	    X509_gmtime_adj(X509_getm_notBefore(x), -24L * 3600) == NULL ||
	    X509_time_adj_ex(X509_getm_notAfter(x), VALID_DAYS, 0, NULL) == NULL || X509_set_pubkey(x, key) != 1)
		goto fail;
	name = X509_get_subject_name(x);
	if (X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)host, -1, -1, 0) != 1 ||
	    X509_set_issuer_name(x, name) != 1 || !add_ext(x, NID_basic_constraints, "critical,CA:FALSE") ||
	    !add_ext(x, NID_ext_key_usage, "serverAuth,clientAuth") || !add_ext(x, NID_subject_alt_name, san) ||
	    X509_sign(x, key, EVP_sha256()) == 0)
		goto fail;
	return x;
fail:
	X509_free(x);
	return NULL;
}

/* Key and certificate as PEM into the new file @path. Takes nothing. */
static int write_pem(const char *path, EVP_PKEY *key, X509 *cert)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	int r = 0;
	FILE *f;

	if (fd == -1)
		return -errno;
	f = fdopen(fd, "w");
	if (f == NULL) {
		r = -errno;
		close(fd);
		return r;
	}
	if (PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL) != 1 || PEM_write_X509(f, cert) != 1)
		r = -EIO;
	if (fflush(f) == EOF || fsync(fd) == -1)
		r = -errno;
	if (fclose(f) == EOF && r == 0)
		r = -errno;
	return r;
}

static void sync_dir(const char *dir)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd != -1) {
		(void)fsync(fd);
		close(fd);
	}
}

static int make(const char *dir, const char *path)
{
	char tmp[PATH_MAX + 32];
	EVP_PKEY *key = make_key();
	X509 *cert = key == NULL ? NULL : make_cert(key);
	int r;

	if (cert == NULL) {
		r = -EIO;
		goto out;
	}
	(void)snprintf(tmp, sizeof(tmp), "%s.%d", path, (int)getpid());
	(void)unlink(tmp);
	r = write_pem(tmp, key, cert);
	if (r == 0 && rename(tmp, path) == -1)
		r = -errno;
	if (r != 0)
		(void)unlink(tmp);
	else
		sync_dir(dir);
out:
	X509_free(cert);
	EVP_PKEY_free(key);
	ERR_clear_error();
	return r;
}

int identity_load(SSL_CTX *ctx, const char *dir, char err[static IDENTITY_ERR])
{
	char path[PATH_MAX];
	int r;

	if ((size_t)snprintf(path, sizeof(path), "%s/%s", dir, IDENTITY_FILE) >= sizeof(path)) {
		(void)snprintf(err, IDENTITY_ERR, "name of the state directory is too long");
		return -ENAMETOOLONG;
	}
	if (access(path, F_OK) == -1) {
		if (mkdir(dir, 0700) == -1 && errno != EEXIST) {
			r = -errno;
			(void)snprintf(err, IDENTITY_ERR, "cannot make the state directory %.160s: %s", dir,
				       strerror(-r));
			return r;
		}
		r = make(dir, path);
		if (r != 0) {
			(void)snprintf(err, IDENTITY_ERR, "cannot write key and certificate to %.160s: %s", path,
				       strerror(-r));
			return r;
		}
	}
	if (SSL_CTX_use_certificate_chain_file(ctx, path) != 1 ||
	    SSL_CTX_use_PrivateKey_file(ctx, path, SSL_FILETYPE_PEM) != 1 || SSL_CTX_check_private_key(ctx) != 1) {
		(void)snprintf(err, IDENTITY_ERR,
			       "%.120s holds no key with its certificate (%s); remove it to have a new one made", path,
			       access(path, R_OK) == -1 ? strerror(errno) : "damaged");
		ERR_clear_error();
		return -EBADMSG;
	}
	return 0;
}
