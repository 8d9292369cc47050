/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What became of an exec: decided after the image was built and before its first instruction; a refusal is SIGKILL. Alone it is the
 * tracepoint backend. Beside lsm.c it still decides what only the new image shows (its environment, and what env(1) was told), tags, and
 * decides all the rest a second time. A tag is keyed by tgid, copied by fork, and freed when the whole thread group is dead.
 */

#define SIGSTOP_ 19

static __always_inline void refuse_exec(struct sandbox *box)
{
	if (box->flags & SANDBOX_OBSERVE)
		return;
	if (bpf_send_signal(9))
		count_failure(FAIL_SIGNAL);
}

/* The second string of the new image's arguments, into path: what env(1) was told to hand to the interpreter. Zeroed when there is none. */
static __always_inline void first_argument(void *mm, char *path)
{
	unsigned long start = KREAD(mm, mm_struct, arg_start), end = KREAD(mm, mm_struct, arg_end);
	int length = read_user_str(path, SCRIPT_PATH, (void *)start);

	__builtin_memset(path, 0, SCRIPT_PATH);
	if (length <= 0 || length >= SCRIPT_PATH || start + length >= end)
		return;
	length = read_user_str(path, SCRIPT_PATH, (void *)(start + length));
	if (length <= 0 || length >= SCRIPT_PATH)
		__builtin_memset(path, 0, SCRIPT_PATH);
}

static __always_inline void drop_tag(__u32 tgid, __u32 sandbox)
{
	struct usage *usage = usages.lookup(&sandbox);

	if (!tasks.delete(&tgid) && usage)
		__sync_fetch_and_add(&usage->tasks, -1);
}

/* The last steps of every exec: tag, record, and let it run or not. */
static __always_inline int finish_exec(struct sandbox *box, struct exec_scratch *s)
{
	__u32 tgid = bpf_get_current_pid_tgid() >> 32, identity = s->tag.identity;
	struct usage *usage;
	__u64 size;

	/*
	 * 4) foreign code may run in a binary without network rules, and a reload may give it some: this process will have none of them.
	 * A file nobody listed may run without any identity too, when the policy says so: not one that has no name on disk.
	 */
	if ((s->why == WHY_LOADER_VARIABLE || s->why == WHY_ENV_UNREADABLE) && !(s->flags & BINARY_NETWORK)) {
		s->runs = 1;
		s->tag.identity = 0;
	} else if (s->why == WHY_UNLISTED && (box->flags & SANDBOX_UNLISTED_RUNS)) {
		s->runs = 1;
		identity = 0;
		s->tag.identity = 0;
		s->tag.flags = 0;
	} else if (s->why != WHY_POLICY) {
		s->runs = 0;
		identity = 0;
		s->tag.identity = 0;
		s->tag.flags = 0;
		refuse_exec(box);
	}
	/* 5) tag it */
	usage = usages.lookup(&box->id);
	if (!usage || tasks.update(&tgid, &s->tag)) {
		count_failure(FAIL_TASK_TAG);
		bpf_send_signal(9);
		s->runs = 0;
		s->why = WHY_MAP_FULL;
	} else if (!s->known) {
		__sync_fetch_and_add(&usage->tasks, 1);
	}
	/* 6) record it: an exec that cannot be recorded does not happen */
	stamp(&s->event.head, EVENT_EXEC, box, &s->tag);
	s->event.head.identity = identity;	/* what it is, also when it is nobody to the network */
	s->event.head.verdict = s->runs ? VERDICT_LOCAL : VERDICT_DENY;
	s->event.head.why = s->why;
	s->event.head.pid = tgid;
	s->event.head.name = box->place;
	size = sizeof(s->event.head) + (s->event.head.size & (SCRIPT_PATH - 1));	/* the mask is for the verifier: it is shorter */
	if (events.ringbuf_output(&s->event, s->why == WHY_LOADER_VARIABLE ? sizeof(s->event) : size, 0)) {
		count_failure(FAIL_EVENT);
		bpf_send_signal(9);
	}
	return 0;
}

#define FIRST_VARIABLES 32
#define MORE_VARIABLES 128
#define STRIDE 4

/*
 * 3) Does the environment bring foreign code along? Reached by tail calls, of which the kernel allows 33: one step of 32 variables, which is
 * all that most have, then 32 of 128. In one loop the verifier (6.18, clang 14) takes half a second for them, and with a branch for each it
 * gives up at 8,192 branches to come back to. So the end is looked for at every fourth, and until there what is read beyond it (0.15 us each)
 * does not count: `live` is 1 while `at` is inside the environment, 0 beyond. Never a mask of the sign: from 6.18 on the verifier forks on a
 * value in [-1, 0] (maybe_fork_scalars) and oopses when it has no room to.
 */
static __always_inline int read_environment(struct bpf_raw_tracepoint_args *ctx, const int variables_read)
{
	int zero = 0;
	struct sandbox *box = governing();
	struct exec_scratch *s = execs.lookup(&zero);
	struct env_value *value = env_values.lookup(&zero);
	__u64 at, end, bad = 0, hit = 0, hit_at = 0, isolated = 0;
	__u32 found = 0;

	if (!box || !s || !value) {
		count_failure(FAIL_SCRATCH);
		bpf_send_signal(9);
		return 0;
	}
	at = s->env_at;
	end = s->env_end;
	value->prefixlen = 8 * (sizeof(struct variable_key) - sizeof(value->prefixlen));
	value->sandbox = box->id;
	for (int i = 0; i < variables_read; i++) {
		if (i % STRIDE == 0 && at >= end)
			break;
		__u64 live = (at - end) >> 63;
		__u64 length = read_user_str(value->bytes, ENV_VALUE, (void *)at);

		asm volatile("" : "+r"(live));
		asm volatile("" : "+r"(length));
		length += ((length - 1) & ~length) >> 63;	/* 0 to 1: an empty string was 0 long until maccess.c counted its end (seen on 6.12) */
		bad |= live & (((length - 1) | (ENV_VALUE - 1 - length)) >> 63);	/* an error, or a value that was cut */
		read_kernel(&found, sizeof(found), variables.lookup((struct variable_key *)value));	/* 0 for NULL */
		hit_at += (live & found & 1 & ~hit) * at;
		hit |= live & found & 1;
		isolated |= live * (found >> 1);
		at += live * length;
	}
	s->env_at = at;
	s->isolated |= isolated;
	if (hit) {
		s->why = WHY_LOADER_VARIABLE;
		__builtin_memset(s->event.variable, 0, sizeof(s->event.variable));
		read_user_str(s->event.variable, sizeof(s->event.variable), (void *)hit_at);
	} else if (bad) {
		s->why = WHY_ENV_UNREADABLE;
	} else if (at < end) {
		exec_steps.call(ctx, 1);
		s->why = WHY_ENV_UNREADABLE;	/* the 34th tail call does not happen: too many variables */
	} else if ((s->flags & BINARY_ISOLATED) && s->isolated != 1) {	/* getenv() takes the first of two: any other value spoils it */
		s->why = WHY_LOADER_VARIABLE;	/* the missing one: nothing is named */
		__builtin_memset(s->event.variable, 0, sizeof(s->event.variable));
	}
	if (s->why == WHY_ENV_UNREADABLE && (s->flags & BINARY_NETWORK))
		count_failure(FAIL_ENV);
	return finish_exec(box, s);
}

int on_exec_environment(struct bpf_raw_tracepoint_args *ctx)
{
	return read_environment(ctx, FIRST_VARIABLES);
}

int on_exec_more(struct bpf_raw_tracepoint_args *ctx)
{
	return read_environment(ctx, MORE_VARIABLES);
}

/* raw tracepoint sched_process_exec(task, old_pid, bprm) */
int on_exec(struct bpf_raw_tracepoint_args *ctx)
{
	int zero = 0;
	__u32 tgid = bpf_get_current_pid_tgid() >> 32;
	struct sandbox *box = governing();
	struct task *old = tasks.lookup(&tgid);
	struct exec_scratch *s;
	struct script *pair = 0;
	struct binary_key key = {};
	struct image image = {};
	void *bprm = (void *)ctx->args[2], *mm, *inode;
	char *filename, *interp;
	__u32 old_flags = 0, old_script = 0;
	__u64 parent = 0, *number;
	int length;

	if (old && (!box || old->sandbox != box->id)) {	/* root moved it to another cgroup: it is no longer what it was there */
		drop_tag(tgid, old->sandbox);
		old = 0;
	}
	if (!box) {
		if (begins_at_gate() && bpf_send_signal(SIGSTOP_))	/* before its first instruction; the agent lets it go on */
			count_failure(FAIL_SIGNAL);
		return 0;
	}
	if (!old && is_outside(box))
		return 0;
	s = execs.lookup(&zero);
	number = exec_numbers.lookup(&zero);
	mm = (void *)KREAD(bpf_get_current_task(), task_struct, mm);
	inode = current_exe_inode();
	if (!s || !number || !mm || !inode) {
		count_failure(FAIL_SCRATCH);
		bpf_send_signal(9);
		return 0;
	}
	if (old) {
		parent = old->exec_id;
		old_flags = old->flags;
		old_script = old->script;
	}
	__builtin_memset(&s->event.head, 0, sizeof(s->event.head));	/* what is behind it is told as far as it was written */
	__builtin_memset(&s->tag, 0, sizeof(s->tag));
	filename = (char *)KREAD(bprm, linux_binprm, filename);
	interp = (char *)KREAD(bprm, linux_binprm, interp);
	length = read_kernel_str(s->event.tail, SCRIPT_PATH, filename);
	s->event.head.size = length > 0 ? length - 1 : 0;

	judge_file(box, inode, &key, &image);
	/* 2) started by the kernel through a shebang (interp then differs from filename), or by env(1) that was? */
	if (image.identity) {
		if (interp != filename) {
			__builtin_memset(&s->script, 0, sizeof(s->script));
			pair = script_of(box, &s->script, image.identity, filename);
		} else if (old_flags & TASK_CARRIES) {
			__builtin_memset(&s->script, 0, sizeof(s->script));
			s->script.sandbox = box->id;
			s->script.interpreter = image.identity;
			first_argument(mm, s->script.path);
			pair = scripts.lookup(&s->script);
			if (pair && pair->script != old_script)
				pair = 0;
		}
		if (pair)
			become(&image, pair);
		if (!image.runs)
			image.why = WHY_UNLISTED;
	}

	*number += 1;
	s->tag.sandbox = box->id;
	s->tag.identity = image.identity;
	s->tag.exec_id = *number * NR_CPUS + bpf_get_smp_processor_id();
	s->tag.parent_exec_id = parent;
	s->tag.exe = key.file;
	s->tag.flags = (image.flags & BINARY_CARRIES ? TASK_CARRIES : 0) | (image.flags & BINARY_WEAK ? TASK_WEAK : 0);
	s->tag.script = image.script;
	s->flags = image.flags;
	s->why = image.why;
	s->runs = image.runs;
	s->known = old != 0;
	s->isolated = 0;

	/* 3) is the next program, also for a binary that may reach nothing: a reload may change that while this process runs */
	if (image.why == WHY_POLICY) {
		s->env_at = KREAD(mm, mm_struct, env_start);
		s->env_end = KREAD(mm, mm_struct, env_end);
		exec_steps.call(ctx, 0);
		count_failure(FAIL_ENV);
		s->why = WHY_ENV_UNREADABLE;
	}
	return finish_exec(box, s);
}

/* raw tracepoint sched_process_fork(parent, child) */
int on_fork(struct bpf_raw_tracepoint_args *ctx)
{
	void *parent = (void *)ctx->args[0], *child = (void *)ctx->args[1];
	__u32 from = KREAD(parent, task_struct, tgid), to = KREAD(child, task_struct, tgid);
	struct task *tag, copy;
	struct usage *usage;

	if (from == to)
		return 0;	/* a thread */
	tag = tasks.lookup(&from);
	if (!tag) {
		tasks.delete(&to);
		return 0;
	}
	copy = *tag;
	copy.flags &= ~TASK_CARRIES;	/* the script passes through exec, not to children */
	usage = usages.lookup(&copy.sandbox);
	if (!usage || usage->tasks >= QUOTA_TASKS) {
		count_failure(FAIL_QUOTA);
		tasks.delete(&to);
		return 0;
	}
	if (tasks.update(&to, &copy)) {
		count_failure(FAIL_TASK_TAG);	/* untagged: it may run on, and reach nothing */
		return 0;
	}
	__sync_fetch_and_add(&usage->tasks, 1);
	return 0;
}

/* raw tracepoint sched_process_exit(task): fires for each thread; the tag goes with the last, whichever that is */
int on_exit(struct bpf_raw_tracepoint_args *ctx)
{
	void *task = (void *)ctx->args[0];
	__u32 tgid = KREAD(task, task_struct, tgid);
	struct task *tag = tasks.lookup(&tgid);
	void *signal;

	if (!tag)
		return 0;
	signal = (void *)KREAD(task, task_struct, signal);
	if (KREAD(signal, signal_struct, live.counter) > 0)
		return 0;
	drop_tag(tgid, tag->sandbox);
	return 0;
}

/*
 * Learn a file's key as the kernel sees it: BPF_PROG_TEST_RUN runs this in the agent's own context with an open descriptor. stat() numbers
 * differ from the kernel's on overlay and 9p.
 */
int enrol(struct bpf_raw_tracepoint_args *ctx)
{
	int zero = 0;
	__u64 fd = ctx->args[0];
	struct file_facts facts = {};
	void *files = (void *)KREAD(bpf_get_current_task(), task_struct, files);
	void *table = (void *)KREAD(files, files_struct, fdt);
	void **array = (void *)KREAD(table, fdtable, fd);
	void *file = 0, *inode;

	read_kernel(&file, sizeof(file), array + fd);
	inode = (void *)KREAD(file, file, f_inode);
	key_of_inode(inode, &facts.key);
	facts.size = KREAD(inode, inode, i_size);
	ctime_of_inode(inode, &facts.ctime_sec, &facts.ctime_nsec);
	facts.nlink = KREAD(inode, inode, i_nlink);
	enrolled.update(&zero, &facts);
	return 0;
}

/*
 * Tag a process that ran before its sandbox was governed: by BPF_PROG_TEST_RUN, with (tgid, sandbox, identity, exec id, the three words of
 * the file's key, flags). Never over a tag: what exec or fork has said since is newer than what the agent read in /proc.
 */
int identify(struct bpf_raw_tracepoint_args *ctx)
{
	__u32 tgid = ctx->args[0], sandbox = ctx->args[1];
	struct usage *usage = usages.lookup(&sandbox);
	struct task tag = {};

	tag.sandbox = sandbox;
	tag.identity = ctx->args[2];
	tag.exec_id = ctx->args[3];
	tag.exe.ino = ctx->args[4];
	tag.exe.dev = ctx->args[5];
	tag.exe.gen = ctx->args[6];
	tag.flags = ctx->args[7];
	if (!usage || usage->tasks >= QUOTA_TASKS) {
		count_failure(FAIL_QUOTA);
		return 0;
	}
	if (!tasks.insert(&tgid, &tag))
		__sync_fetch_and_add(&usage->tasks, 1);
	return 0;
}
