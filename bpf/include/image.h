/* SPDX-License-Identifier: GPL-2.0 */
/*
 * May this file run, and as whom? One answer for both who ask: lsm.c before an image is built of it, exec.c when the image stands and its
 * arguments and environment can be read.
 */

struct image {
	__u32 identity;
	__u32 flags;		/* binary_flag */
	__u32 script;
	__u32 runs;
	__u32 why;		/* WHY_POLICY while nothing speaks against it */
};

/* 1) which file? key: filled in, zeroed by the caller. */
static __always_inline void judge_file(struct sandbox *box, void *inode, struct binary_key *key, struct image *image)
{
	struct binary *binary;
	__s64 ctime_sec;
	__u32 ctime_nsec;

	key->sandbox = box->id;
	key_of_inode(inode, &key->file);
	binary = binaries.lookup(key);
	if (!binary) {
		image->why = KREAD(inode, inode, i_nlink) ? WHY_UNLISTED : WHY_ANONYMOUS;
		return;
	}
	ctime_of_inode(inode, &ctime_sec, &ctime_nsec);
	if (KREAD(inode, inode, i_size) != binary->size || ctime_sec != binary->ctime_sec || ctime_nsec != binary->ctime_nsec) {
		image->why = WHY_CHANGED;
	} else if (binary->flags & BINARY_LOADER) {
		image->why = WHY_ANONYMOUS;
	} else {
		image->identity = binary->identity;
		image->flags = binary->flags;
		image->runs = binary->flags & BINARY_RUNS;
	}
}

/* 2) the script that the kernel started it for, through a shebang: filename, where interp is another. key: zeroed by the caller. */
static __always_inline struct script *script_of(struct sandbox *box, struct script_key *key, __u32 interpreter, char *filename)
{
	struct script *pair = 0;
	int length;

	key->sandbox = box->id;
	key->interpreter = interpreter;
	length = read_kernel_str(key->path, SCRIPT_PATH, filename);
	if (length > 0 && length < SCRIPT_PATH)
		pair = scripts.lookup(key);
	return pair && !pair->carried ? pair : 0;
}

static __always_inline void become(struct image *image, struct script *pair)
{
	image->identity = pair->identity;
	image->flags = pair->flags;
	image->script = pair->script;
	image->runs = 1;
}
