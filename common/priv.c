/* SPDX-License-Identifier: Apache-2.0 */
/* Changing user and capabilities, with the raw calls: less than a library would need around it. */
#include "priv.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdint.h>
#include <unistd.h>

#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include <linux/capability.h>

#define CAP_WORDS _LINUX_CAPABILITY_U32S_3

static int set_caps(const uint32_t want[static CAP_WORDS], bool keep_setid)
{
	struct __user_cap_header_struct h = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct d[CAP_WORDS];

	if (syscall(SYS_capget, &h, d) == -1)
		return -errno;
	for (size_t i = 0; i < CAP_WORDS; i++) {
		uint32_t keep = want[i];

		if (i == 0 && keep_setid)
			keep |= 1u << CAP_SETUID | 1u << CAP_SETGID | 1u << CAP_SETPCAP;
		d[i].permitted &= keep;
		d[i].effective = d[i].permitted;
		d[i].inheritable = 0;
	}
	return syscall(SYS_capset, &h, d) == -1 ? -errno : 0;
}

static int become(const char *user)
{
	struct passwd *pw;

	errno = 0;
	pw = getpwnam(user);
	if (pw == NULL)
		return errno == 0 ? -ENOENT : -errno;
	if (pw->pw_uid == geteuid() && pw->pw_uid == getuid() && pw->pw_gid == getegid())
		return 0;
	if (prctl(PR_SET_KEEPCAPS, 1) == -1 || initgroups(user, pw->pw_gid) == -1 ||
	    setresgid(pw->pw_gid, pw->pw_gid, pw->pw_gid) == -1 || setresuid(pw->pw_uid, pw->pw_uid, pw->pw_uid) == -1)
		return -errno;
	return 0;
}

int priv_drop(const char *user, const int *caps, size_t n)
{
	uint32_t want[CAP_WORDS] = {0};
	struct rlimit none = {0, 0};
	int err;

	for (size_t i = 0; i < n; i++)
		want[caps[i] / 32] |= 1u << (caps[i] % 32);
	for (int c = 0; c < 32 * CAP_WORDS; c++) { /* -EPERM without CAP_SETPCAP, -EINVAL beyond the last */
		if (!(want[c / 32] >> (c % 32) & 1))
			(void)prctl(PR_CAPBSET_DROP, c, 0, 0, 0);
	}
	(void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	err = set_caps(want, true);
	if (err == 0 && user != NULL)
		err = become(user);
	if (err == 0)
		err = set_caps(want, false); /* also makes effective again what setresuid() switched off */
	if (err != 0)
		return err;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == -1 || prctl(PR_SET_DUMPABLE, 0) == -1 ||
	    setrlimit(RLIMIT_CORE, &none) == -1)
		return -errno;
	return 0;
}
