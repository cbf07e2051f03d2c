/* SPDX-License-Identifier: Apache-2.0 */
/* identity.h - a daemon's self-made key and certificate, kept in its state directory. */
#ifndef TLSTAP_IDENTITY_H
#define TLSTAP_IDENTITY_H

#include <openssl/ssl.h>

#define IDENTITY_ERR 256
#define IDENTITY_FILE "receiver.pem"

/* Give @ctx the key and certificate in @dir/receiver.pem. If there is no such file, make @dir (0700; its parent must
 * exist) and the file: a P-256 key and a certificate over it with the host's name, valid for 30 years; written under
 * another name, synced and renamed, so that there is a whole file or none. Blocks on the disk: start and reload only.
 * Returns 0, or with one line in @err -EBADMSG (the file holds no key with its certificate), -EIO (OpenSSL could not
 * make one) or an errno of the file system. */
int identity_load(SSL_CTX *ctx, const char *dir, char err[static IDENTITY_ERR]);

#endif
