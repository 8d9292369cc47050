/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Who speaks on a connection. A socket keeps the identity that connected it; a descriptor can be inherited through fork and exec, or handed
 * on over a unix socket. So each sender is compared with the image that connected (its exec id: the same file executed twice may have come
 * from elsewhere), and the worker asks before each request and decides for both.
 *
 * sock_send_length (6.3) fires when the data is in the other end's queue: a worker that is quick enough could read the very first write of a
 * foreign sender before this ran. It asks again when the request was written down, which is two round trips later.
 */

/* tp_btf sock_send_length(sk, length or error, flags): every send on every socket of the machine, so the storage is looked for first */
int on_send(struct bpf_raw_tracepoint_args *ctx)
{
	void *sk = (void *)ctx->args[0];
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
