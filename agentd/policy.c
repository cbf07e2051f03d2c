/* SPDX-License-Identifier: Apache-2.0 */
/* policy.c - rules: read once, matched often. */
#include "policy.h"

#include <errno.h>
#include <fnmatch.h>
#include <limits.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>

/* Programs whose failure would be the host's, which guard it, or which start what others run in; and ourselves, or each
 * byte forged would be tapped again on its way out. By the last component of their path: their places differ. */
static const char *const built_in[] = {
	"init",
	"systemd",
	"systemd-*",
	"dbus-daemon",
	"dbus-broker",
	"dbus-broker-launch",
	"dbus-daemon-launch-helper",
	"udevd",
	"eudev",
	"polkitd",
	"polkit-agent-helper-1",
	"pkexec",
	"login",
	"agetty",
	"getty",
	"sulogin",
	"su",
	"sudo",
	"sudoedit",
	"doas",
	"runuser",
	"sshd",
	"sshd-session",
	"sshd-auth",
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
	"youki",
	"dockerd",
	"docker-init",
	"docker-proxy",
	"podman",
	"conmon",
	"conmonrs",
	"crio",
	"kubelet",
	"lxc-start",
	"agentd",
	"receiverd",
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

static bool is_glob(const char *s)
{
	return s[strcspn(s, "*?[\\")] != '\0';
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

static int add(struct policy *p, enum policy_list list, const char *text, char err[static POLICY_ERR])
{
	struct policy_rule r = {.kind = POLICY_EXE}, *to;
	const char *wrong = parse(&r, text);

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
		abort(); /* at start, or by the administrator's hand */
	p->rule[list] = to;
	if (r.kind == POLICY_EXE && !is_glob(value_of(&r)))
		r.path = realpath(value_of(&r), NULL);
	p->of_user |= r.kind == POLICY_UID;
	p->of_cgroup |= r.kind == POLICY_UNIT || r.kind == POLICY_CGROUP;
	to[p->n[list]++] = r;
	return 0;
}

int policy_load(struct policy *p, const struct opt_list list[static POLICY_LISTS], char err[static POLICY_ERR])
{
	struct policy fresh = {.of_user = false};
	int ret = 0;

	for (unsigned l = 0; l < POLICY_LISTS; l++)
		for (size_t i = 0; i < list[l].n && !ret; i++)
			ret = add(&fresh, (enum policy_list)l, list[l].item[i], err);
	policy_free(ret ? &fresh : p);
	if (!ret)
		*p = fresh;
	return ret;
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

static bool has_component(const char *path, const char *glob)
{
	char part[NAME_MAX + 1];

	while (*path) {
		size_t n = strcspn(path, "/");

		if (n && n < sizeof(part)) {
			memcpy(part, path, n);
			part[n] = '\0';
			if (fnmatch(glob, part, 0) == 0)
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
		return fnmatch(value_of(r), s->exe, 0) == 0 || (r->path && strcmp(r->path, s->exe) == 0);
	case POLICY_UID:
		return r->uid == s->uid;
	case POLICY_UNIT:
		return s->cgroup && has_component(s->cgroup, value_of(r));
	case POLICY_CGROUP:
		return s->cgroup && fnmatch(value_of(r), s->cgroup, 0) == 0;
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

static const char *find_built_in(const char *exe)
{
	const char *slash = strrchr(exe, '/'), *name = slash ? slash + 1 : exe;

	for (unsigned i = 0; i < sizeof(built_in) / sizeof(built_in[0]); i++)
		if (fnmatch(built_in[i], name, 0) == 0)
			return built_in[i];
	return NULL;
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
	else if ((name = find_built_in(exe)) != NULL)
		say(ret, false, "a program of this name is never tapped: ", name);
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
