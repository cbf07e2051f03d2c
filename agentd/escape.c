/* SPDX-License-Identifier: Apache-2.0 */
/* escape.c - names that others chose, made harmless. */
#include "escape.h"

static void put(FILE *to, const char *s, const char *before_x, const char *special)
{
	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;

		if (c < ' ' || c > '~')
			fprintf(to, "%sx%02x", before_x, c);
		else if (special && (c == '"' || c == '\\'))
			fprintf(to, "%s%c", special, c);
		else
			fputc(c, to);
	}
}

void escape_text(FILE *to, const char *s)
{
	put(to, s, "\\", NULL);
}

void escape_json(FILE *to, const char *s)
{
	fputc('"', to);
	put(to, s, "\\\\", "\\");
	fputc('"', to);
}
