/* SPDX-License-Identifier: Apache-2.0 */
/* tlstap.c - the command people type: run a program under the tap, ask agentd how it is.
 *
 * Sets LD_PRELOAD and becomes the program; it is not there any more when the program runs, so the exit code
 * and signals are the program's own. Exit codes of its own are those of env(1): 125 the tap cannot be set
 * up, 126 the program cannot be executed, 127 it is not there. */
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LIBRARY "libtlstap.so"
#define EXIT_TAP 125
#define EXIT_EXEC 126
#define EXIT_MISSING 127

static const char usage[] = "usage: tlstap run [--] COMMAND [ARGUMENT]...\n"
			    "       tlstap status [--json] [--socket PATH]\n"
			    "       tlstap --help | --version\n"
			    "\n"
			    "run     runs COMMAND with its TLS traffic mirrored, if an agentd is running\n"
			    "status  shows what agentd has taken, forged and sent\n"
			    "\n"
			    "      --json                    as JSON\n"
			    "      --socket PATH             of another agentd than the system's\n"
			    "      --version                 print the version and exit\n"
			    "      --help                    print this text and exit\n"
			    "\n"
			    "TLSTAP_LIB     path of " LIBRARY " to load\n"
			    "TLSTAP_SOCKET  path of agentd's socket\n";

static int complain(int code, const char *what, const char *why)
{
	fprintf(stderr, "tlstap: %s: %s\n", what, why);
	return code;
}

/* Write the directory of this program's file into @ret. Returns false if /proc does not tell. */
static bool own_dir(char ret[static PATH_MAX])
{
	ssize_t n = readlink("/proc/self/exe", ret, PATH_MAX - 1);
	char *slash;

	if (n <= 0)
		return false;
	ret[n] = '\0';
	slash = strrchr(ret, '/');
	if (!slash)
		return false;
	*slash = '\0';
	return true;
}

/* Find a file of ours: beside this program in a build tree (@tree, relative to our directory), else where
 * `cmake --install` puts it. */
static bool find(const char *tree, const char *installed, char ret[static PATH_MAX])
{
	char dir[PATH_MAX], path[2 * PATH_MAX];

	if (own_dir(dir)) {
		snprintf(path, sizeof(path), "%s/%s", dir, tree);
		if (access(path, R_OK) == 0 && realpath(path, ret))
			return true;
	}
	return access(installed, R_OK) == 0 && realpath(installed, ret);
}

/* Write the path of libtlstap.so into @ret. Returns 0 or an exit code, having complained. */
static int find_library(char ret[static PATH_MAX])
{
	const char *lib = getenv("TLSTAP_LIB");

	if (!lib || !*lib) {
		if (find("../libtlstap/" LIBRARY, TLSTAP_LIBDIR "/" LIBRARY, ret))
			return 0;
		return complain(EXIT_TAP, LIBRARY, "not found (TLSTAP_LIB may say where it is)");
	}
	if (access(lib, R_OK) == -1)
		return complain(EXIT_TAP, lib, strerror(errno));
	if (!realpath(lib, ret))
		return complain(EXIT_TAP, lib, strerror(errno));
	return 0;
}

/* Put @lib in front of what LD_PRELOAD holds already. */
static int preload(const char *lib)
{
	const char *old = getenv("LD_PRELOAD");
	char *value;

	/* ld.so(8) separates by blanks and colons and knows no escape */
	if (strpbrk(lib, " :"))
		return complain(EXIT_TAP, lib, "a path with blanks or colons cannot be preloaded");
	if (asprintf(&value, old && *old ? "%s:%s" : "%s", lib, old) == -1)
		return complain(EXIT_TAP, LIBRARY, strerror(errno));
	if (setenv("LD_PRELOAD", value, 1) == -1) {
		free(value);
		return complain(EXIT_TAP, "LD_PRELOAD", strerror(errno));
	}
	free(value);
	return 0;
}

static int cmd_run(char **argv)
{
	char lib[PATH_MAX];
	int r;

	if (*argv && strcmp(*argv, "--") == 0)
		argv++;
	else if (*argv && **argv == '-')
		return complain(EXIT_TAP, *argv, "no such option (see tlstap --help)");
	if (!*argv)
		return complain(EXIT_TAP, "run", "which command? (see tlstap --help)");
	r = find_library(lib);
	if (r == 0)
		r = preload(lib);
	if (r)
		return r;
	execvp(argv[0], argv);
	return complain(errno == ENOENT ? EXIT_MISSING : EXIT_EXEC, argv[0], strerror(errno));
}

static int cmd_status(char **argv)
{
	char agentd[PATH_MAX], mode[] = "--status=json";
	const char *sock = getenv("TLSTAP_SOCKET");
	char option[] = "--socket", *args[] = {agentd, mode, NULL, NULL, NULL};
	bool json = false;

	for (; *argv; argv++) {
		if (strcmp(*argv, "--json") == 0)
			json = true;
		else if (strcmp(*argv, "--socket") == 0 && argv[1])
			sock = *++argv;
		else
			return complain(EXIT_TAP, *argv, "no such option, or a value is missing (see tlstap --help)");
	}
	if (!json)
		mode[strlen("--status")] = '\0';
	if (sock && *sock) {
		args[2] = option;
		args[3] = strdup(sock);
	}
	if (!find("../agentd/agentd", TLSTAP_SBINDIR "/agentd", agentd))
		return complain(EXIT_TAP, "agentd", "not found");
	execv(agentd, args);
	return complain(EXIT_EXEC, agentd, strerror(errno));
}

int main(int argc, char **argv)
{
	if (argc < 2) {
		fputs(usage, stderr);
		return EXIT_TAP;
	}
	if (strcmp(argv[1], "run") == 0)
		return cmd_run(argv + 2);
	if (strcmp(argv[1], "status") == 0)
		return cmd_status(argv + 2);
	if (strcmp(argv[1], "--help") == 0) {
		fputs(usage, stdout);
		return 0;
	}
	if (strcmp(argv[1], "--version") == 0) {
		puts("tlstap " TLSTAP_VERSION);
		return 0;
	}
	return complain(EXIT_TAP, argv[1], "no such command (see tlstap --help)");
}
