/* SPDX-License-Identifier: Apache-2.0 */
/* What a bad tap might do to OpenSSL's callers, one thing at a time: to see that the suites notice. Linked with libssl,
 * or RTLD_NEXT would not find the real one. */
#include <dlfcn.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#define REAL(name) ((__typeof__(&(name)))dlsym(RTLD_NEXT, #name))

#ifdef SHUTDOWN
int SSL_shutdown(SSL *ssl)
{
	(void)ssl;
	return 1;
}
#endif

#if defined(QUEUE) || defined(BIT)
int SSL_read_ex(SSL *ssl, void *buf, size_t num, size_t *readbytes)
{
	int ok = REAL(SSL_read_ex)(ssl, buf, num, readbytes);

#ifdef QUEUE
	ERR_raise(ERR_LIB_SSL, SSL_R_BAD_LENGTH);
#endif
#ifdef BIT
	if (ok && *readbytes > 20)
		((char *)buf)[20] ^= 1;
#endif
	return ok;
}
#endif
