/* SPDX-License-Identifier: Apache-2.0 */
/* tlstap.c - the command people type: run a program under the tap, ask agentd how it is.
 *
 * Sets LD_PRELOAD and becomes the program; it is not there any more when the program runs, so the exit code
 * and signals are the program's own. Exit codes of its own are those of env(1): 125 the tap cannot be set
 * up, 126 the program cannot be executed, 127 it is not there. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define LIBRARY "libtlstap.so"
#define LIBRARY_DLSYM "libtlstap-dlsym.so"
#define EXIT_TAP 125
#define EXIT_EXEC 126
#define EXIT_MISSING 127
#define EXIT_FINE 0
#define EXIT_MISSED 1	/* doctor: something is missed; why: it is not tapped */
#define EXIT_NO_AGENT 2 /* doctor, why: no agentd answered */

/* agentd's words (SESSIONS_FINE of agentd/sessions.h, WHY_YES of agentd/why.h): a line that begins so is good news */
#define FINE "Nothing is missed"
#define TAPPED "Tapped: "

#define DISABLE_FILE TLSTAP_SYSCONFDIR "/disable" /* agentd's --disable-file */

static const char usage[] =
	"usage: tlstap run [--dlsym] [--] COMMAND [ARGUMENT]...\n"
	"       tlstap status [--json] [--socket PATH]\n"
	"       tlstap doctor [--socket PATH]\n"
	"       tlstap why PID [--socket PATH]\n"
	"       tlstap disable | enable [--file PATH]\n"
	"       tlstap --help | --version\n"
	"\n"
	"run     runs COMMAND with its TLS traffic mirrored, if an agentd is running\n"
	"status  shows what agentd has taken, forged and sent\n"
	"doctor  names the programs of this host whose TLS is not seen in the clear, and says\n"
	"        why and what to do; exits 0 if there are none, 1 if there are, 2 without agentd\n"
	"why     says whether process PID is tapped, by which rule, and what to do if it is not; exits 0\n"
	"        if it is, 1 if it is not, 2 without agentd\n"
	"disable switches all taps off within a second, without restarting anything\n"
	"enable  switches them on again\n"
	"\n"
	"      --dlsym                   for a COMMAND that looks its TLS library up by dlsym(3)\n"
	"      --json                    as JSON\n"
	"      --socket PATH             of another agentd than the system's\n"
	"      --file PATH               not the system's disable file: agentd's --disable-file\n"
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

/* The library that stands in front of dlsym(3). Its place among the preloaded ones is of no matter to ours. */
static int preload_dlsym(void)
{
	char lib[PATH_MAX];

	if (!find("../libtlstap/" LIBRARY_DLSYM, TLSTAP_LIBDIR "/" LIBRARY_DLSYM, lib))
		return complain(EXIT_TAP, LIBRARY_DLSYM, "not found");
	return preload(lib);
}

static int cmd_run(char **argv)
{
	char lib[PATH_MAX];
	bool by_name = false;
	int r;

	for (; *argv && **argv == '-'; argv++) {
		if (strcmp(*argv, "--") == 0) {
			argv++;
			break;
		}
		if (strcmp(*argv, "--dlsym") != 0)
			return complain(EXIT_TAP, *argv, "no such option (see tlstap --help)");
		by_name = true;
	}
	if (!*argv)
		return complain(EXIT_TAP, "run", "which command? (see tlstap --help)");
	r = find_library(lib);
	if (r == 0 && by_name)
		r = preload_dlsym();
	if (r == 0)
		r = preload(lib);
	if (r)
		return r;
	execvp(argv[0], argv);
	return complain(errno == ENOENT ? EXIT_MISSING : EXIT_EXEC, argv[0], strerror(errno));
}

/* What to execute for a question to agentd. */
struct question {
	char agentd[PATH_MAX];
	char *args[5];
	bool json;
};

/* Read the options of a command that asks agentd. Returns 0 or an exit code, having complained. */
static int prepare(char **argv, bool json_allowed, struct question *q)
{
	static char option[] = "--socket";
	char *sock = getenv("TLSTAP_SOCKET");

	memset(q, 0, sizeof(*q));
	for (; *argv; argv++) {
		if (json_allowed && strcmp(*argv, "--json") == 0)
			q->json = true;
		else if (strcmp(*argv, "--socket") == 0 && argv[1])
			sock = *++argv;
		else
			return complain(EXIT_TAP, *argv, "no such option, or a value is missing (see tlstap --help)");
	}
	if (!find("../agentd/agentd", TLSTAP_SBINDIR "/agentd", q->agentd))
		return complain(EXIT_TAP, "agentd", "not found");
	q->args[0] = q->agentd;
	if (sock && *sock) {
		q->args[2] = option;
		q->args[3] = sock;
	}
	return 0;
}

static int cmd_status(char **argv)
{
	char text[] = "--status", json[] = "--status=json";
	struct question q;
	int r = prepare(argv, true, &q);

	if (r)
		return r;
	q.args[1] = q.json ? json : text;
	execv(q.agentd, q.args);
	return complain(EXIT_EXEC, q.agentd, strerror(errno));
}

/* Run @q with its output in a pipe. Returns the pipe, or NULL, having complained. */
static FILE *start(const struct question *q, pid_t *ret)
{
	FILE *from = NULL;
	int fd[2];

	if (pipe(fd) == 0) {
		*ret = fork();
		if (*ret == 0) {
			dup2(fd[1], STDOUT_FILENO);
			close(fd[0]);
			close(fd[1]);
			execv(q->agentd, q->args);
			_exit(complain(EXIT_EXEC, q->agentd, strerror(errno)));
		}
		close(fd[1]);
		if (*ret > 0)
			from = fdopen(fd[0], "r");
	}
	if (!from)
		complain(EXIT_TAP, "agentd", strerror(errno));
	return from;
}

/* Ask @q with mode @mode, and show the answer. Returns 0 if a line of it begins with @good. */
static int show(struct question *q, char *mode, const char *good)
{
	bool fine = false, answered = false;
	int status = 0;
	char *line = NULL;
	size_t size = 0;
	FILE *from;
	pid_t pid;

	q->args[1] = mode;
	from = start(q, &pid);
	if (!from)
		return EXIT_TAP;
	while (getline(&line, &size, from) > 0) {
		answered = true;
		fine |= strncmp(line, good, strlen(good)) == 0;
		fputs(line, stdout);
	}
	free(line);
	fclose(from);
	while (waitpid(pid, &status, 0) == -1 && errno == EINTR)
		;
	if (fflush(stdout) == EOF)
		return complain(EXIT_TAP, "agentd", strerror(errno));
	if (!answered || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
		return EXIT_NO_AGENT;
	return fine ? EXIT_FINE : EXIT_MISSED;
}

static int cmd_doctor(char **argv)
{
	char mode[] = "--status=doctor";
	struct question q;
	int r = prepare(argv, false, &q);

	return r ? r : show(&q, mode, FINE);
}

static int cmd_why(char **argv)
{
	char mode[32];
	struct question q;
	size_t digits = *argv ? strspn(*argv, "0123456789") : 0;
	int r;

	if (!digits || digits > 10 || (*argv)[digits])
		return complain(EXIT_TAP, "why", "which process? Give its number (see tlstap --help)");
	snprintf(mode, sizeof(mode), "--status=why:%s", *argv);
	r = prepare(argv + 1, false, &q);
	return r ? r : show(&q, mode, TAPPED);
}

/* Make @path, if there is nothing. Whatever is there will do; it is not opened. */
static int make(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);

	if (fd != -1)
		close(fd);
	return fd != -1 || errno == EEXIST ? 0 : -errno;
}

static int cmd_switch(char **argv, bool off)
{
	const char *path = DISABLE_FILE;
	int err;

	for (; *argv; argv++) {
		if (strcmp(*argv, "--file") != 0 || !argv[1])
			return complain(EXIT_TAP, *argv, "no such option, or a value is missing (see tlstap --help)");
		path = *++argv;
	}
	if (off) {
		err = make(path);
		if (err == -ENOENT && strcmp(path, DISABLE_FILE) == 0 && mkdir(TLSTAP_SYSCONFDIR, 0755) == 0)
			err = make(path); /* who runs agentd without a configuration has no such directory */
	} else {
		err = unlink(path) == 0 || errno == ENOENT || errno == ENOTDIR ? 0 : -errno;
	}
	return err ? complain(EXIT_TAP, path, strerror(-err)) : EXIT_FINE;
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
	if (strcmp(argv[1], "doctor") == 0)
		return cmd_doctor(argv + 2);
	if (strcmp(argv[1], "why") == 0)
		return cmd_why(argv + 2);
	if (strcmp(argv[1], "disable") == 0 || strcmp(argv[1], "enable") == 0)
		return cmd_switch(argv + 2, argv[1][0] == 'd');
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
