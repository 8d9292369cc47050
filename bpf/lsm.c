/* SPDX-License-Identifier: GPL-2.0 */
/*
 * LSM backend: what is known before an image is built of a file is refused with EPERM, which its caller sees; and no code is mapped from
 * where the sandbox can write.
 *
 * What stays with exec.c, as a kill: the environment, and the script that env(1) hands on. At bprm_check_security both lie in bprm->mm,
 * which is nobody's current address space, and no helper reads another. All else is decided there a second time: this kind of program is
 * skipped when it would nest on one CPU (before 6.2, with preempt=full), and a hook that is skipped allows.
 *
 * These programs may be preempted, so nothing per CPU holds their state. A sandbox that is observed is left to exec.c, which records it.
 */
#define ELF_MAGIC 0x464c457f
#define MAY_MAP_CODE 4		/* PROT_EXEC */
#define MOUNT_READ_ONLY 0x40	/* MNT_READONLY */
#define MOUNT_NOEXEC 4		/* MNT_NOEXEC */
#define SUPER_READ_ONLY 1	/* SB_RDONLY */
#define REFUSED_EXEC (1ull << 48)
#define EPERM 1

/* Numbers no image has: two of these could be counted as one when a refusal is preempted, and then no living process is meant. */
static __always_inline __u64 refused_exec_id(void)
{
	int refused = 1;
	__u64 *number = exec_numbers.lookup(&refused);

	if (!number)
		return REFUSED_EXEC;
	__sync_fetch_and_add(number, 1);
	return REFUSED_EXEC + *number * NR_CPUS + bpf_get_smp_processor_id();
}

/* bprm_check_security(bprm): once for each file on the way from a script to what runs it */
int check_exec(struct bpf_raw_tracepoint_args *ctx)
{
	void *bprm = (void *)ctx->args[0], *inode;
	__u32 tgid = bpf_get_current_pid_tgid() >> 32, magic = 0;
	struct sandbox *box = governing();
	struct task *old = tasks.lookup(&tgid);
	struct binary_key key = {};
	struct script_key script = {};
	struct script *pair = 0;
	struct image image = {};
	struct long_event *event;
	char *filename, *interp;
	int length;

	if (!box || box->flags & SANDBOX_OBSERVE)
		return 0;
	/* What is no ELF file is built into nothing: the kernel asks again about its interpreter, or answers ENOEXEC as ever. */
	read_kernel(&magic, sizeof(magic), bprm + __builtin_offsetof(struct linux_binprm, buf));
	if (magic != ELF_MAGIC)
		return 0;
	if (old && old->sandbox != box->id)
		old = 0;
	if (!old && is_outside(box))
		return 0;
	filename = (char *)KREAD(bprm, linux_binprm, filename);
	interp = (char *)KREAD(bprm, linux_binprm, interp);
	inode = (void *)KREAD(KREAD(bprm, linux_binprm, file), file, f_inode);
	judge_file(box, inode, &key, &image);
	if (image.identity) {
		if (interp != filename)
			pair = script_of(box, &script, image.identity, filename);
		else if (old && old->flags & TASK_CARRIES)
			return 0;
		if (pair)
			become(&image, pair);
		if (!image.runs)
			image.why = WHY_UNLISTED;
	}
	if (image.why == WHY_POLICY || (image.why == WHY_UNLISTED && box->flags & SANDBOX_UNLISTED_RUNS))
		return 0;
	event = events.ringbuf_reserve(sizeof(*event));
	if (!event) {
		count_failure(FAIL_EVENT);
		return -EPERM;
	}
	__builtin_memset(event, 0, sizeof(*event));
	stamp(&event->head, EVENT_EXEC, box, 0);
	event->head.exec_id = refused_exec_id();
	event->head.parent_exec_id = old ? old->exec_id : 0;
	event->head.exe = key.file;
	event->head.verdict = VERDICT_DENY;
	event->head.why = image.why;
	event->head.pid = tgid;
	event->head.name = box->place;
	length = read_kernel_str(event->tail, SCRIPT_PATH, filename);
	event->head.size = length > 0 ? length - 1 : 0;
	events.ringbuf_submit(event, 0);
	return -EPERM;
}

/* vfsmount flags of an open file: what the mount namespace lets the sandbox do to it, and the truth about it. memfd, SysV shared memory and
   descriptors from outside stand on mounts of their own, which are not read-only. */
static __always_inline int mount_flags(void *file)
{
	void *mount = 0, *super;
	int flags;

	read_kernel(&mount, sizeof(mount), file + __builtin_offsetof(struct file, f_path) + __builtin_offsetof(struct path, mnt));
	flags = KREAD(mount, vfsmount, mnt_flags);
	super = (void *)KREAD(mount, vfsmount, mnt_sb);
	return KREAD(super, super_block, s_flags) & SUPER_READ_ONLY ? flags | MOUNT_READ_ONLY : flags;
}

/* The sandbox and its tag, when the current process has one: one that never had an exec admitted is the launcher. */
static __always_inline struct sandbox *mapping_box(struct task **tag)
{
	__u32 tgid = bpf_get_current_pid_tgid() >> 32;
	struct sandbox *box = governing();

	if (!box)
		return 0;
	*tag = tasks.lookup(&tgid);
	return *tag && (*tag)->sandbox == box->id ? box : 0;
}

/* A noexec mount refuses by itself, and silently, in a moment: that is told in every sandbox. */
static __always_inline int may_map(struct sandbox *box, int flags)
{
	return !(flags & MOUNT_NOEXEC) && (flags & MOUNT_READ_ONLY || !(box->flags & SANDBOX_SEALED));
}

/* The record of a mapping, but for the path; null when the ring is full. Observing lets pass what the mount does not refuse anyway. */
static __always_inline struct long_event *mapping(struct sandbox *box, struct task *tag, int flags)
{
	struct long_event *event = events.ringbuf_reserve(sizeof(*event));

	if (!event) {
		count_failure(FAIL_EVENT);
		return 0;
	}
	__builtin_memset(event, 0, sizeof(*event));
	stamp(&event->head, EVENT_MAPPING, box, tag);
	event->head.verdict = box->flags & SANDBOX_OBSERVE && !(flags & MOUNT_NOEXEC) ? VERDICT_LOCAL : VERDICT_DENY;
	event->head.why = WHY_WRITABLE;
	event->head.pid = bpf_get_current_pid_tgid() >> 32;
	return event;
}

static __always_inline void name_of(void *file, struct long_event *event)
{
	void *dentry = 0;
	char *name = 0;
	int length;

	read_kernel(&dentry, sizeof(dentry), file + __builtin_offsetof(struct file, f_path) + __builtin_offsetof(struct path, dentry));
	read_kernel(&name, sizeof(name), dentry + __builtin_offsetof(struct dentry, d_name) + __builtin_offsetof(struct qstr, name));
	length = read_kernel_str(event->tail, SCRIPT_PATH, name);
	event->head.size = length > 0 ? length - 1 : 0;
}

/* mmap_file(file, reqprot, prot, flags) */
int check_mmap(struct bpf_raw_tracepoint_args *ctx)
{
	struct sandbox *box;
	struct task *tag = 0;
	struct long_event *event;
	void *file = 0, *typed;
	int flags, length, verdict;

	if (!(ctx->args[2] & MAY_MAP_CODE))
		return 0;
	/* Read, not taken: before 6.14 the verifier believes that it is never null, and leaves out what follows from it. */
	read_kernel(&file, sizeof(file), &ctx->args[0]);
	if (!file)
		return 0;
	box = mapping_box(&tag);
	if (!box)
		return 0;
	flags = mount_flags(file);
	if (may_map(box, flags))
		return 0;
	event = mapping(box, tag, flags);
	if (!event)
		return -EPERM;
	typed = (void *)ctx->args[0];
	length = typed ? bpf_d_path(typed + __builtin_offsetof(struct file, f_path), event->tail, SCRIPT_PATH) : 0;
	if (length > 0)
		event->head.size = length - 1;
	else
		name_of(file, event);	/* a path that does not fit */
	verdict = event->head.verdict;
	events.ringbuf_submit(event, 0);
	return verdict == VERDICT_DENY ? -EPERM : 0;
}

/*
 * file_mprotect(vma, reqprot, prot): a mapping that becomes code. bpf_d_path is not to be had here: the record has the last component. On an
 * overlay the file is its layer's (6.8 and later), so one in an upper layer is refused behind a read-only mount too; text relocations are all
 * that would need it.
 */
int check_mprotect(struct bpf_raw_tracepoint_args *ctx)
{
	struct sandbox *box;
	struct task *tag = 0;
	struct long_event *event;
	void *file;
	int flags, verdict;

	if (!(ctx->args[2] & MAY_MAP_CODE))
		return 0;
	file = (void *)KREAD(ctx->args[0], vm_area_struct, vm_file);
	if (!file)
		return 0;
	box = mapping_box(&tag);
	if (!box)
		return 0;
	flags = mount_flags(file);
	if (may_map(box, flags))
		return 0;
	event = mapping(box, tag, flags);
	if (!event)
		return -EPERM;
	name_of(file, event);
	verdict = event->head.verdict;
	events.ringbuf_submit(event, 0);
	return verdict == VERDICT_DENY ? -EPERM : 0;
}
