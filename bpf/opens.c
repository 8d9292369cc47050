/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Opens that were let through, counted for each directory that a policy asks about. Loaded and attached when one does, so that nobody else
 * pays for it. Decides nothing.
 *
 * Where a file lies is read off the file that the call's answer stands for, upwards to the first directory that is counted: through
 * directories by their parents, over mounts by what they are mounted on. What cannot be read is counted as unknown and never left out: a
 * descriptor that another thread closed before the call was over, or a file below more directories than are walked.
 */

#define CALL_OPEN 2		/* x86-64 */
#define CALL_CREAT 85
#define CALL_OPENAT 257
#define CALL_OPEN_BY_HANDLE_AT 304
#define CALL_OPENAT2 437

static __always_inline int opens(__u32 call)
{
	return call == CALL_OPENAT || call == CALL_OPEN || call == CALL_OPENAT2 || call == CALL_CREAT || call == CALL_OPEN_BY_HANDLE_AT;
}

/* The file of a descriptor of the current task. 0: there is none any more. */
static __always_inline void *file_of(__u64 fd)
{
	void *files = (void *)KREAD(bpf_get_current_task(), task_struct, files);
	void *table = (void *)KREAD(files, files_struct, fdt);
	void **array = (void *)KREAD(table, fdtable, fd);
	void *file = 0;

	if (fd >= KREAD(table, fdtable, max_fds))
		return 0;
	read_kernel(&file, sizeof(file), array + fd);
	return file;
}

/*
 * The number of the innermost directory that is counted, OPEN_ELSEWHERE when the file lies in none. Neither a directory that something is
 * mounted on is looked up, which nobody sees, nor is a root passed twice: a step goes to the parent, or off a mount.
 */
static __always_inline __u32 counted_directory(struct sandbox *box, void *file)
{
	struct path path = KREAD(file, file, f_path);
	void *dentry = path.dentry, *mount = (void *)path.mnt - __builtin_offsetof(struct mount, mnt), *root, *above;
	struct binary_key key = {};
	__u32 covered = 0, *number;

	key.sandbox = box->id;
	root = (void *)KREAD(path.mnt, vfsmount, mnt_root);
	for (int step = 0; step < OPEN_STEPS; step++) {
		if (!covered) {
			key_of_inode((void *)KREAD(dentry, dentry, d_inode), &key.file);
			number = counted_directories.lookup(&key);
			if (number)
				return *number;
		}
		if (dentry == root) {
			above = (void *)KREAD(mount, mount, mnt_parent);
			if (above == mount)
				return OPEN_ELSEWHERE;
			dentry = (void *)KREAD(mount, mount, mnt_mountpoint);
			mount = above;
			root = (void *)KREAD(mount, mount, mnt.mnt_root);
			covered = 1;
			continue;
		}
		above = (void *)KREAD(dentry, dentry, d_parent);
		if (above == dentry)
			return OPEN_ELSEWHERE;	/* a pipe or the like, through /proc/self/fd */
		dentry = above;
		covered = 0;
	}
	return OPEN_UNKNOWN;
}

/* raw tracepoint sys_exit(registers, answer): every system call of the machine, so what most of them answer is let go first. x86-64. */
int on_open(struct bpf_raw_tracepoint_args *ctx)
{
	__s64 answer = ctx->args[1];
	struct open_key key = {}, room = {};
	struct sandbox *box;
	struct usage *usage;
	struct task *tag;
	void *file;
	__u32 tgid;
	__u64 *count, none = 0;

	if (answer < 0 || answer > 0x7fffffff || !opens(KREAD((void *)ctx->args[0], pt_regs, orig_ax)))
		return 0;
	box = governing();
	if (!box)
		return 0;
	key.sandbox = box->id;
	if (!opened.lookup(&key))	/* who asks has an entry for what is unknown: nobody's, of no directory */
		return 0;
	tgid = bpf_get_current_pid_tgid() >> 32;
	tag = tasks.lookup(&tgid);
	if (tag && tag->sandbox == box->id) {
		key.identity = tag->identity;
	} else {
		usage = usages.lookup(&box->id);
		if (!usage || !usage->tasks)
			return 0;	/* before its first exec nothing runs in a sandbox but what makes it ready */
	}
	file = file_of(answer);
	key.directory = file ? counted_directory(box, file) : OPEN_UNKNOWN;
	if (key.directory == OPEN_ELSEWHERE)
		return 0;
	count = opened.lookup(&key);
	if (!count) {
		room.sandbox = box->id;
		room.directory = OPEN_ROOM;
		count = opened.lookup(&room);
		if (!count || *count >= OPENS_APART) {	/* about as many: two CPUs may come at once */
			key.identity = 0;
		} else {
			__sync_fetch_and_add(count, 1);
			opened.insert(&key, &none);	/* fails when it is there by now */
		}
		count = opened.lookup(&key);
		if (!count) {		/* the map is full: nobody's entries were made by who asked */
			key.identity = 0;
			count = opened.lookup(&key);
		}
	}
	if (!count) {
		count_failure(FAIL_OPEN);
		return 0;
	}
	__sync_fetch_and_add(count, 1);
	return 0;
}
