/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Who speaks on a connection. A socket keeps the identity that connected it; a descriptor can be inherited through fork and exec, or handed
 * on over a unix socket. So each sender is compared with the image that connected (its exec id: the same file executed twice may have come
 * from elsewhere), and the worker asks before each request and decides for both.
 *
 * sock_send_length (6.3) fires when the data is in the other end's queue: a worker that is quick enough could read the very first write of a
 * foreign sender before this ran. It asks again when the request was written down, which is two round trips later.
 *
 * Below 6.3 the hooks of the LSM stand in, where the kernel runs them: they come before the data is sent. send(2) and its like ask one of
 * them, sendfile(2) and splice(2) the other alone, write(2) both.
 */
#define MAY_WRITE 2

/* Every send on every socket of the machine comes here, so the storage is looked for first. */
static __always_inline int speaks(void *sk)
{
	struct socket_state *socket = sockets.sk_storage_get(sk, 0, 0);
	struct speaker *speaker;
	struct origin *state;
	struct sandbox *box;
	struct task *tag = 0;
	__u8 why = 0;

	if (!socket)
		return 0;
	state = &socket->origin;
	if (state->verdict != VERDICT_INSPECT && state->verdict != VERDICT_RELAY)
		return 0;
	box = governing();
	if (box && box->id == state->sandbox)
		tag = current_task_of(box, &why);
	if (tag && tag->exec_id == state->exec_id)
		return 0;
	speaker = speakers.lookup(&state->cookie);
	if (!speaker)
		return 0;	/* the connection is over, and whoever asks about it hears that */
	if (*(volatile __u32 *)&speaker->claims > 1)
		return 0;	/* several, or nobody who can be told, for good: counted on, 2^31 sends would come round to nobody */
	if (!tag) {
		__sync_fetch_and_add(&speaker->claims, 2);
		return 0;
	}
	if (speaker->ready && speaker->exec_id == tag->exec_id)
		return 0;
	/* Two that claim at once: the later one reads at least 2, and nobody is named. */
	__sync_fetch_and_add(&speaker->claims, 1);
	if (*(volatile __u32 *)&speaker->claims != 1)
		return 0;
	speaker->identity = tag->identity;
	speaker->pid = bpf_get_current_pid_tgid() >> 32;
	speaker->exec_id = tag->exec_id;
	*(volatile __u32 *)&speaker->ready = 1;
	return 0;
}

/* tp_btf sock_send_length(sk, length or error, flags) */
int on_send(struct bpf_raw_tracepoint_args *ctx)
{
	return speaks((void *)ctx->args[0]);
}

/* socket_sendmsg(socket, msg, size) */
int check_send(struct bpf_raw_tracepoint_args *ctx)
{
	void *sk = *(void **)((void *)ctx->args[0] + __builtin_offsetof(struct socket, sk));

	return sk ? speaks(sk) : 0;
}

/* file_permission(file, mask) */
int check_write(struct bpf_raw_tracepoint_args *ctx)
{
	void *socket, *sk;

	if (!(ctx->args[1] & MAY_WRITE))
		return 0;
	socket = bpf_sock_from_file((void *)ctx->args[0]);
	if (!socket)
		return 0;
	sk = *(void **)(socket + __builtin_offsetof(struct socket, sk));
	return sk ? speaks(sk) : 0;
}
