/* SPDX-License-Identifier: Apache-2.0 */
/* standin.h - the functions of standin.c's library, which is all that it has. */
#ifndef STANDIN_H
#define STANDIN_H

typedef struct ssl_st SSL;
typedef struct ssl_ctx_st SSL_CTX;

const void *SSLv23_method(void);
SSL_CTX *SSL_CTX_new(const void *method);
void SSL_CTX_free(SSL_CTX *ctx);
int SSL_CTX_use_certificate_file(SSL_CTX *ctx, const char *file, int type);
int SSL_CTX_use_PrivateKey_file(SSL_CTX *ctx, const char *file, int type);
SSL *SSL_new(SSL_CTX *ctx);
void SSL_free(SSL *ssl);
int SSL_clear(SSL *ssl);
int SSL_set_fd(SSL *ssl, int fd);
int SSL_get_rfd(const SSL *ssl);
void *SSL_get_rbio(const SSL *ssl);
int SSL_connect(SSL *ssl);
int SSL_accept(SSL *ssl);
int SSL_read(SSL *ssl, void *buf, int num);
int SSL_write(SSL *ssl, const void *buf, int num);
int SSL_peek(SSL *ssl, void *buf, int num);
int SSL_get_error(const SSL *ssl, int ret);
int SSL_shutdown(SSL *ssl);
int SSL_state(const SSL *ssl);
int SSL_version(const SSL *ssl);

#endif
