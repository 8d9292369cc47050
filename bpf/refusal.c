/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the kernel itself refused: a system call that the filter does not let through, a file that Landlock, a mount or its mode keeps shut,
 * an exec from a noexec mount. None of these asks us; all of them answer with an error, and that passes here. Counted, never told one by
 * one: a sandbox that is refused a hundred thousand times must neither fill the ring nor wait. Decides nothing.
 *
 * The kernel's audit would also say which right of Landlock was missing. It is off unless somebody switches it on for the whole machine,
 * writes into the kernel's log where no daemon reads, lets callers wait when 64 records do, and drops what is more.
 *
 * The path is read from the caller's memory when the call is over: a thread of its own may have put another one there meanwhile.
 */

#define UNIX_FAMILY 1

static __always_inline int refusing(__s64 answer)
{
	switch (answer) {
	case -1:
		return REFUSED_EPERM;
	case -13:
		return REFUSED_EACCES;
	case -30:
		return REFUSED_EROFS;
	case -93:
		return REFUSED_EPROTONOSUPPORT;
	case -97:
		return REFUSED_EAFNOSUPPORT;
	}
	return 0;
}

/* Where this refusal is counted. NULL: nowhere, which is counted too. key: in the room that the stack lacks. */
static __always_inline struct refusal *counted_at(struct refusal_key *key, struct sandbox *box)
{
	struct refusal_key room = {};
	struct refusal *found = refusals.lookup(key), *used, fresh = {};

	if (found)
		return found;
	room.sandbox = key->sandbox;
	room.epoch = key->epoch;
	room.call = REFUSAL_ROOM;
	fresh.generation = box->generation;
	fresh.time = bpf_ktime_get_ns();
	refusals.insert(&room, &fresh);
	used = refusals.lookup(&room);
	if (!used)
		return 0;
	if (used->count >= REFUSALS_APART) {	/* about as many: two CPUs may come at once */
		key->exec_id = 0;
		key->identity = 0;
		__builtin_memset(key->path, 0, SCRIPT_PATH);
	} else {
		__sync_fetch_and_add(&used->count, 1);
	}
	refusals.insert(key, &fresh);		/* fails when it is there by now */
	return refusals.lookup(key);
}

/* raw tracepoint sys_exit(registers, answer): every system call of the machine, so what most of them answer is let go first. x86-64. */
int on_refusal(struct bpf_raw_tracepoint_args *ctx)
{
	int zero = 0, error = refusing(ctx->args[1]);
	void *registers = (void *)ctx->args[0];
	__u32 tgid, call, *told, *epoch;
	struct refusal_key *key;
	struct refusal *refusal;
	struct sandbox *box;
	struct task *tag;
	void *path = 0;

	if (!error)
		return 0;
	call = KREAD(registers, pt_regs, orig_ax);	/* -1 after rt_sigreturn, whose answer is another call's */
	told = refused_calls.lookup(&call);
	if (!told || !(*told & error))
		return 0;
	box = governing();
	if (!box)
		return 0;
	if (*told & REFUSED_FIRST_PATH)
		path = (void *)KREAD(registers, pt_regs, di);
	else if (*told & (REFUSED_SECOND_PATH | REFUSED_UNIX))
		path = (void *)KREAD(registers, pt_regs, si);
	if (*told & REFUSED_UNIX) {
		__u16 family = 0;

		read_user(&family, sizeof(family), path);
		if (family != UNIX_FAMILY)
			return 0;	/* connect.c has told it */
		path = 0;
	}
	key = refusal_keys.lookup(&zero);
	epoch = refusal_epoch.lookup(&zero);
	if (!key || !epoch)
		return 0;
	__builtin_memset(key, 0, sizeof(*key));
	tgid = bpf_get_current_pid_tgid() >> 32;
	tag = tasks.lookup(&tgid);
	if (tag && tag->sandbox == box->id) {
		key->exec_id = tag->exec_id;
		key->identity = tag->identity;
	}
	key->sandbox = box->id;
	key->epoch = *epoch;
	key->call = call;
	key->error = -ctx->args[1];
	if (path) {
		int length = read_user_str(key->path, SCRIPT_PATH, path);

		if (length < 0)
			__builtin_memset(key->path, 0, SCRIPT_PATH);	/* paged out again, or taken away */
	}
	refusal = counted_at(key, box);
	if (!refusal) {
		count_failure(FAIL_REFUSAL);
		return 0;
	}
	refusal->pid = tgid;
	__sync_fetch_and_add(&refusal->count, 1);
	return 0;
}
