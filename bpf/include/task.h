/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Who is running: the sandbox of a task, its tag, and the file it executes. BCC rewrites pointer chains into a helper that cgroup programs
 * may not call, so kernel fields are read explicitly everywhere.
 */

#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif

/*
 * By names of our own: where it cannot see the kernel's symbols (no CAP_SYSLOG), BCC takes a kernel to be older than 5.5 and replaces its own
 * by bpf_probe_read, which cgroup programs may not call and which does not tell user memory from the kernel's.
 */
static long (*read_kernel)(void *to, __u32 size, const void *from) = (void *)BPF_FUNC_probe_read_kernel;
static long (*read_kernel_str)(void *to, __u32 size, const void *from) = (void *)BPF_FUNC_probe_read_kernel_str;
static long (*read_user)(void *to, __u32 size, const void *from) = (void *)BPF_FUNC_probe_read_user;
static long (*read_user_str)(void *to, __u32 size, const void *from) = (void *)BPF_FUNC_probe_read_user_str;

#define KREAD(ptr, type, field) ({ \
	typeof(((struct type *)0)->field) __value; \
	__builtin_memset(&__value, 0, sizeof(__value)); \
	read_kernel(&__value, sizeof(__value), (void *)(ptr) + __builtin_offsetof(struct type, field)); \
	__value; })

#define MAX_LEVEL 16

static __always_inline void count_failure(int which)
{
	__u64 *n = failures.lookup(&which);

	if (n)
		*n += 1;
}

/* The governed ancestor of the current task's cgroup: an exact look-up of the leaf would miss every child cgroup. */
static __always_inline struct sandbox *governing(void)
{
	int zero = 0;
	__u32 *mask = levels.lookup(&zero);

	if (!mask)
		return 0;
	for (int level = 1; level < MAX_LEVEL; level++) {
		if (!(*mask & (1u << level)))
			continue;
		__u64 id = bpf_get_current_ancestor_cgroup_id(level);
		struct sandbox *box = id ? sandboxes.lookup(&id) : 0;
		if (box)
			return box;
	}
	return 0;
}

/*
 * Whether a container begins in a cgroup where that is to be waited for: its process has left the mount namespace of the runtime that
 * prepared it, and its parent has not. Children of its own are in the same one as their parents.
 */
static __always_inline int begins_at_gate(void)
{
	int zero = 0, gated = 0;
	__u32 *mask = levels.lookup(&zero);
	void *task = (void *)bpf_get_current_task(), *parent;

	if (!mask)
		return 0;
	for (int level = 1; level < MAX_LEVEL; level++) {
		if (!(*mask & (1u << level)))
			continue;
		__u64 id = bpf_get_current_ancestor_cgroup_id(level);
		__u32 *gate = id ? gates.lookup(&id) : 0;
		if (gate)
			gated |= *gate;
	}
	if (gated != GATE_STOPS)
		return 0;
	parent = (void *)KREAD(task, task_struct, real_parent);
	return KREAD(KREAD(task, task_struct, nsproxy), nsproxy, mnt_ns) != KREAD(KREAD(parent, task_struct, nsproxy), nsproxy, mnt_ns);
}

static __always_inline void key_of_inode(void *inode, struct file_key *key)
{
	void *sb = (void *)KREAD(inode, inode, i_sb);

	key->ino = KREAD(inode, inode, i_ino);
	key->gen = KREAD(inode, inode, i_generation);
	key->dev = KREAD(sb, super_block, s_dev);
}

static __always_inline void ctime_of_inode(void *inode, __s64 *sec, __u32 *nsec)
{
#ifdef INODE_CTIME_SEC
	*sec = KREAD(inode, inode, i_ctime_sec);
	/* Bit 31 says that somebody asked for this ctime since it was set (multigrain timestamps, 6.13): no part of the time. */
	*nsec = KREAD(inode, inode, i_ctime_nsec) & 0x7fffffff;
#else
	struct timespec64 ctime = KREAD(inode, inode, INODE_CTIME);
	*sec = ctime.tv_sec;
	*nsec = ctime.tv_nsec;
#endif
}

static __always_inline void *current_exe_inode(void)
{
	void *task = (void *)bpf_get_current_task();
	void *mm = (void *)KREAD(task, task_struct, mm);
	void *file = mm ? (void *)KREAD(mm, mm_struct, exe_file) : 0;

	return file ? (void *)KREAD(file, file, f_inode) : 0;
}

static __always_inline int same_file(const struct file_key *a, const struct file_key *b)
{
	return a->ino == b->ino && a->dev == b->dev && a->gen == b->gen;
}

/*
 * The tag of the current process, or why it has none. The tag is checked against mm->exe_file: prctl(PR_SET_MM_EXE_FILE), or a tag left
 * over from another life of this pid, must not speak for this image.
 */
static __always_inline struct task *current_task_of(struct sandbox *box, __u8 *why)
{
	__u32 tgid = bpf_get_current_pid_tgid() >> 32;
	struct task *tag = tasks.lookup(&tgid);
	struct file_key exe = {};
	void *inode;

	if (!tag || tag->sandbox != box->id) {
		*why = WHY_UNTAGGED;
		return 0;
	}
	inode = current_exe_inode();
	if (!inode) {
		count_failure(FAIL_EXE);
		*why = WHY_EXE_MISMATCH;
		return 0;
	}
	key_of_inode(inode, &exe);
	if (!same_file(&exe, &tag->exe)) {
		*why = WHY_EXE_MISMATCH;
		return 0;
	}
	return tag;
}

/*
 * Whether the current process is still a runtime's own (`runc exec` moves it into the cgroup, and it executes itself once more before it goes
 * into the container). Nobody comes back into that mount namespace but by setns(2), with CAP_SYS_ADMIN. Asked of who has no tag, which is
 * nobody of the sandbox; it reaches nothing until it has one.
 */
static __always_inline int is_outside(struct sandbox *box)
{
	void *proxy, *mounts;

	if (!box->outside)
		return 0;
	proxy = (void *)KREAD(bpf_get_current_task(), task_struct, nsproxy);
	mounts = (void *)KREAD(proxy, nsproxy, mnt_ns);
	return KREAD(mounts, mnt_namespace, ns.inum) == box->outside;
}

static __always_inline void stamp(struct event *event, int type, struct sandbox *box, struct task *tag)
{
	event->type = type;
	event->time = bpf_ktime_get_ns();
	if (box) {
		event->sandbox = box->id;
		event->generation = box->generation;
	}
	if (tag) {
		event->identity = tag->identity;
		event->exec_id = tag->exec_id;
		event->parent_exec_id = tag->parent_exec_id;
		event->exe = tag->exe;
	}
}
