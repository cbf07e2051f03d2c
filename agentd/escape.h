/* SPDX-License-Identifier: Apache-2.0 */
/* escape.h - names that others chose (programs, servers), made harmless for JSON and for a terminal. */
#ifndef TLSTAP_ESCAPE_H
#define TLSTAP_ESCAPE_H

#include <stdio.h>

/* Write @s: printable ASCII as it is, all other bytes as \xNN. */
void escape_text(FILE *to, const char *s);

/* Write @s as a JSON string, quotes around it. Its value is what escape_text() writes. */
void escape_json(FILE *to, const char *s);

#endif
