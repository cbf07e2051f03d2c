/* SPDX-License-Identifier: Apache-2.0 */
/* policy.c - rules: read once, matched often. */
#include "policy.h"

#include <errno.h>
#include <fnmatch.h>
#include <limits.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Programs whose failure would be the host's, which guard it, or which start what others run in; and ourselves, or each
 * byte forged would be tapped again on its way out. By the last component of their path, for their places differ, with
 * any suffix: who puts sshd.old aside has one that runs. Or, with a '/', by their path. */
static const char *const built_in[] = {
	"init",
	"openrc-init",
	"runit",
	"runit-init",
	"s6-svscan",
	"dinit",
	"tini",
	"dumb-init",
	"catatonit",
	"busybox",
	"systemd",
	"systemd-*",
	"systemctl",
	"journalctl",
	"loginctl",
	"*/lib/systemd/*",
	"dbus-daemon",
	"dbus-broker",
	"dbus-broker-launch",
	"dbus-daemon-launch-helper",
	"udevd",
	"udevadm", /* systemd-udevd is a symbolic link to it */
	"eudev",
	"*/lib/udev/*",
	"polkitd",
	"polkit-agent-helper-1",
	"pkexec",
	"login",
	"agetty",
	"getty",
	"sulogin",
	"su",
	"su-rs",
	"sudo",
	"sudo-rs",
	"sudoedit",
	"doas",
	"runuser",
	"sshd",
	"sshd-session",
	"sshd-auth",
	"dropbear",
	"gdm",
	"gdm3",
	"gdm-*",
	"lightdm",
	"sddm",
	"sddm-helper",
	"containerd",
	"containerd-shim",
	"containerd-shim-*",
	"runc",
	"crun",
	"/memfd:*_cloned:/proc/self/exe", /* what these two go on as */
	"youki",
	"runsc",
	"dockerd",
	"docker-init",
	"docker-proxy",
	"buildkitd",
	"rootlesskit",
	"podman",
	"conmon",
	"conmonrs",
	"crio",
	"cri-dockerd",
	"kubelet",
	"lxc-*",
	"lxd",
	"incusd",
	"agentd",
	"receiverd",
	"tlstap-*",
};

static const char *const list_name[] = {[POLICY_DENY] = "deny", [POLICY_ALLOW] = "allow", [POLICY_ISOLATE] = "isolate"};

/* --- rules ------------------------------------------------------------------------------------------- */

static const char *value_of(const struct policy_rule *r)
{
	return strchr(r->text, ':') + 1;
}

static bool number(const char *s, uint32_t *ret)
{
	char *end;
	unsigned long v;

	errno = 0;
	v = strtoul(s, &end, 10);
	if (*s < '0' || *s > '9' || *end || errno || v >= UINT32_MAX)
		return false;
	*ret = (uint32_t)v;
	return true;
}

#define WILDCARDS "*?[\\"

/* @path, taken literally, and @rest, as one glob. */
static char *glob_of(const char *path, const char *rest)
{
	char *ret = malloc(2 * strlen(path) + strlen(rest) + 1), *to = ret;

	if (!ret)
		abort(); /* at start, or by the administrator's hand */
	for (; *path; *to++ = *path++)
		if (strchr(WILDCARDS, *path))
			*to++ = '\\';
	strcpy(to, rest);
	return ret;
}

/* The real path of the first @n bytes of @path: *@ret, NULL: there is nothing. Returns 0 or -errno. */
static int real_path(const char *path, size_t n, char **ret)
{
	char *s = strndup(path, n);
	int err;

	if (!s)
		abort();
	*ret = realpath(s, NULL);
	err = errno;
	free(s);
	return *ret || err == ENOENT || err == ENOTDIR ? 0 : -err;
}

/* Where do the symbolic links in @glob lead? The kernel names a program by its real path: none begins with /bin where
 * that is a link to /usr/bin. *@ret: a glob, NULL: there is nothing. Returns 0 or -errno. */
static int follow(const char *glob, char **ret)
{
	size_t n = strcspn(glob, WILDCARDS);
	char *real = NULL;
	int err = glob[n] ? 0 : real_path(glob, n, &real);

	if (!err && !real) { /* its directory, then */
		while (n > 0 && glob[--n] != '/')
			;
		if (n > 0)
			err = real_path(glob, n, &real);
	}
	*ret = real ? glob_of(real, glob + n) : NULL;
	free(real);
	return err;
}

/* Returns what is wrong with it, or NULL. */
static const char *parse(struct policy_rule *r, const char *text)
{
	static const char *const kind[] = {[POLICY_EXE] = "exe:", [POLICY_UNIT] = "unit:", [POLICY_CGROUP] = "cgroup:"};
	size_t head = strcspn(text, ":") + 1;
	const char *value = text + head;
	const struct passwd *pw;

	if (strlen(text) >= POLICY_RULE_MAX)
		return "too long";
	if (!text[head - 1] || !*value)
		return "not exe:GLOB, uid:N, user:NAME, unit:GLOB or cgroup:GLOB";
	if (strncmp(text, "uid:", head) == 0 || strncmp(text, "user:", head) == 0) {
		r->kind = POLICY_UID;
		if (text[1] == 'i')
			return number(value, &r->uid) ? NULL : "not a user's number";
		pw = getpwnam(value);
		if (!pw)
			return "there is no such user";
		r->uid = pw->pw_uid;
		return NULL;
	}
	for (unsigned k = POLICY_EXE; k <= POLICY_CGROUP; k++) {
		if (k == POLICY_UID || strlen(kind[k]) != head || strncmp(text, kind[k], head) != 0)
			continue;
		r->kind = k;
		if (k == POLICY_UNIT)
			return strchr(value, '/') ? "a unit's name has no '/' (see cgroup:)" : NULL;
		return *value == '/' || *value == '*' ? NULL : "a path begins with '/'";
	}
	return "not exe:GLOB, uid:N, user:NAME, unit:GLOB or cgroup:GLOB";
}

/* What @text stood for when we could still look: at the start we may see more. NULL: it was not there. */
static char *known_path(const struct policy *p, const char *text)
{
	for (unsigned l = 0; l < POLICY_LISTS; l++)
		for (unsigned i = 0; i < p->n[l]; i++) {
			const struct policy_rule *r = &p->rule[l][i];

			if (r->path && strcmp(r->text, text) == 0)
				return glob_of("", r->path);
		}
	return NULL;
}

static int add(struct policy *p, const struct policy *old, enum policy_list list, const char *text,
	       char err[static POLICY_ERR])
{
	struct policy_rule r = {.kind = POLICY_EXE}, *to;
	const char *wrong = parse(&r, text);
	int err_no = 0;

	if (wrong) {
		snprintf(err, POLICY_ERR, "--%s: \"%.200s\": %s", list_name[list], text, wrong);
		return -EINVAL;
	}
	if (p->n[POLICY_DENY] + p->n[POLICY_ALLOW] + p->n[POLICY_ISOLATE] == POLICY_RULES_MAX) {
		snprintf(err, POLICY_ERR, "--%s: more than %d rules", list_name[list], POLICY_RULES_MAX);
		return -E2BIG;
	}
	to = reallocarray(p->rule[list], p->n[list] + 1, sizeof(r));
	r.text = strdup(text);
	if (!to || !r.text)
		abort();
	p->rule[list] = to;
	if (r.kind == POLICY_EXE && (err_no = follow(value_of(&r), &r.path)) != 0)
		r.path = known_path(old, text);
	if (err_no && !r.path) {
		snprintf(err, POLICY_ERR, "--%s: \"%.200s\" cannot be looked up: %s", list_name[list], text,
			 strerror(-err_no));
		free(r.text);
		return err_no;
	}
	p->of_user |= r.kind == POLICY_UID;
	p->of_cgroup |= r.kind == POLICY_UNIT || r.kind == POLICY_CGROUP;
	to[p->n[list]++] = r;
	return 0;
}

/* Of a file that was replaced meanwhile the kernel says so; it is still that program. Returns false: not known. */
static bool program_of(const char *exe, char ret[static HELPER_PATH_MAX])
{
	static const char gone[] = " (deleted)";
	size_t n = exe ? strnlen(exe, HELPER_PATH_MAX) : 0;

	if (n == 0 || n >= HELPER_PATH_MAX - 1)
		return false;
	memcpy(ret, exe, n + 1);
	if (n > sizeof(gone) - 1 && strcmp(ret + n - (sizeof(gone) - 1), gone) == 0)
		ret[n - (sizeof(gone) - 1)] = '\0';
	return true;
}

int policy_make(struct policy *ret, const struct policy *old, const struct opt_list list[static POLICY_LISTS],
		char err[static POLICY_ERR])
{
	char own[HELPER_PATH_MAX] = "";
	int err_no = 0;

	*ret = (struct policy){.of_user = false};
	for (unsigned l = 0; l < POLICY_LISTS; l++)
		for (size_t i = 0; i < list[l].n && !err_no; i++)
			err_no = add(ret, old, (enum policy_list)l, list[l].item[i], err);
	if (readlink("/proc/self/exe", own, sizeof(own) - 1) > 0)
		(void)program_of(own, ret->own);
	if (err_no)
		policy_free(ret);
	return err_no;
}

int policy_load(struct policy *p, const struct opt_list list[static POLICY_LISTS], char err[static POLICY_ERR])
{
	struct policy fresh;
	int ret = policy_make(&fresh, p, list, err);

	if (ret)
		return ret;
	policy_free(p);
	*p = fresh;
	return 0;
}

void policy_free(struct policy *p)
{
	for (unsigned l = 0; l < POLICY_LISTS; l++) {
		while (p->n[l]) {
			struct policy_rule *r = &p->rule[l][--p->n[l]];

			free(r->text);
			free(r->path);
		}
		free(p->rule[l]);
	}
	memset(p, 0, sizeof(*p));
}

/* --- matching ---------------------------------------------------------------------------------------- */

/* What looks like a wildcard may be part of the name: systemd writes foo\x2dbar.service. */
static bool like(const char *glob, const char *s)
{
	return fnmatch(glob, s, 0) == 0 || strcmp(glob, s) == 0;
}

static bool has_component(const char *path, const char *glob)
{
	char part[NAME_MAX + 1];

	while (*path) {
		size_t n = strcspn(path, "/");

		if (n && n < sizeof(part)) {
			memcpy(part, path, n);
			part[n] = '\0';
			if (like(glob, part))
				return true;
		}
		path += n + (path[n] == '/');
	}
	return false;
}

static bool matches(const struct policy_rule *r, const struct policy_subject *s)
{
	switch (r->kind) {
	case POLICY_EXE:
		return like(value_of(r), s->exe) || (r->path && fnmatch(r->path, s->exe, 0) == 0);
	case POLICY_UID:
		return r->uid == s->uid;
	case POLICY_UNIT:
		return s->cgroup && has_component(s->cgroup, value_of(r));
	case POLICY_CGROUP:
		return s->cgroup && like(value_of(r), s->cgroup);
	}
	return false;
}

static const struct policy_rule *find(const struct policy *p, enum policy_list list, const struct policy_subject *s)
{
	for (unsigned i = 0; i < p->n[list]; i++)
		if (matches(&p->rule[list][i], s))
			return &p->rule[list][i];
	return NULL;
}

/* @name, or the same with a suffix. */
static bool is_called(const char *known, const char *name)
{
	size_t n = strlen(known);

	return fnmatch(known, name, 0) == 0 || (strncmp(known, name, n) == 0 && name[n] == '.');
}

static const char *find_built_in(const char *exe)
{
	const char *slash = strrchr(exe, '/'), *name = slash ? slash + 1 : exe;

	for (unsigned i = 0; i < sizeof(built_in) / sizeof(built_in[0]); i++)
		if (strchr(built_in[i], '/') ? fnmatch(built_in[i], exe, 0) == 0 : is_called(built_in[i], name))
			return built_in[i];
	return NULL;
}

static void say(struct policy_answer *ret, bool tap, const char *what, const char *rule)
{
	ret->tap = tap;
	snprintf(ret->why, sizeof(ret->why), "%s%s", what, rule);
}

void policy_judge(const struct policy *p, const struct policy_subject *subject, struct policy_answer *ret)
{
	char exe[HELPER_PATH_MAX];
	struct policy_subject s = *subject;
	const struct policy_rule *r;
	const char *name;

	memset(ret, 0, sizeof(*ret));
	s.exe = exe;
	if (s.cgroup && !*s.cgroup)
		s.cgroup = NULL;
	if (s.pid == 1)
		say(ret, false, "it is the first process, and that is never tapped", "");
	else if (!program_of(subject->exe, exe))
		say(ret, false, "its program is not known, or its path is too long", "");
	else if (strcmp(exe, p->own) == 0)
		say(ret, false, "it is agentd", "");
	else if ((name = find_built_in(exe)) != NULL)
		say(ret, false, "a program of this name or place is never tapped: ", name);
	else if (p->of_cgroup && !s.cgroup)
		say(ret, false, "its control group is not known, or its path is too long, and there are rules about it",
		    "");
	else if ((r = find(p, POLICY_DENY, &s)) != NULL)
		say(ret, false, "deny = ", r->text);
	else if (p->n[POLICY_ALLOW] && !(r = find(p, POLICY_ALLOW, &s)))
		say(ret, false, "no allow rule matches it", "");
	else
		say(ret, true, r ? "allow = " : "no rule denies it", r ? r->text : "");
	ret->isolate = ret->tap && find(p, POLICY_ISOLATE, &s);
}

void policy_judge_event(const struct policy *p, const struct helper_event *e, struct policy_answer *ret)
{
	struct policy_subject s = {.pid = e->p.pid, .uid = e->uid, .exe = e->exe, .cgroup = e->cgroup};

	policy_judge(p, &s, ret);
}
