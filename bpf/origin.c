/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Answers a worker that asks of an accepted connection: who, and to where? Attached to the cgroup where the listeners were made, so that
 * the workers need no bpf() themselves. ORIGIN is deleted as it is read; SO_ORIGINAL_DST lets a stock transparent proxy stand in.
 *
 * The answer is moved from the 4-tuple to the listener's new socket in the very packet that completes the handshake. Left under the tuple
 * until the worker accepts, it could be another's by then: a client that closed without its RST being believed (TCP_MD5SIG) gives its port
 * away while its connection still waits in the queue.
 *
 * SPEAKER, which may be asked any number of times, says who else has spoken on the connection (taint.c).
 */

/* clang would join two neighbouring words of the context into one load, which the verifier refuses */
#define CTX_WORD(field) (*(volatile __u32 *)&(field))

static __always_inline void accepting_tuple(struct bpf_sock_ops *ops, struct tuple_key *key)
{
	key->netns = bpf_get_netns_cookie(ops);
	key->client_port = bpf_ntohl(ops->remote_port);
	key->agent_port = ops->local_port;
	if (ops->family == 2) {
		key->family = 4;
		*(__u32 *)key->client = ops->remote_ip4;
		*(__u32 *)key->agent = ops->local_ip4;
	} else {
		key->family = 6;
		((__u32 *)key->client)[0] = CTX_WORD(ops->remote_ip6[0]);
		((__u32 *)key->client)[1] = CTX_WORD(ops->remote_ip6[1]);
		((__u32 *)key->client)[2] = CTX_WORD(ops->remote_ip6[2]);
		((__u32 *)key->client)[3] = CTX_WORD(ops->remote_ip6[3]);
		((__u32 *)key->agent)[0] = CTX_WORD(ops->local_ip6[0]);
		((__u32 *)key->agent)[1] = CTX_WORD(ops->local_ip6[1]);
		((__u32 *)key->agent)[2] = CTX_WORD(ops->local_ip6[2]);
		((__u32 *)key->agent)[3] = CTX_WORD(ops->local_ip6[3]);
	}
}

int listener_ops(struct bpf_sock_ops *ops)
{
	struct tuple_key key = {};
	struct origin *found, *own;
	struct conversation *conversation;
	struct bpf_sock *sk = ops->sk;

	if (!sk)
		return 1;
	/* Over before the worker asked who it was: it may never be accepted at all. What was asked for goes with its descriptor. */
	if (ops->op == BPF_SOCK_OPS_STATE_CB && ops->args[1] == BPF_TCP_CLOSE) {
		conversation = conversations.sk_storage_get(sk, 0, 0);
		if (conversation && accepted.sk_storage_get(sk, 0, 0))
			end_conversation(conversation->cookie, conversation->sandbox);
		return 1;
	}
	if (ops->op != BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB)
		return 1;
	accepting_tuple(ops, &key);
	found = origins.lookup(&key);
	if (!found)
		return 1;
	own = accepted.sk_storage_get(sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	conversation = conversations.sk_storage_get(sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (own && conversation) {
		*own = *found;
		conversation->cookie = found->cookie;
		conversation->sandbox = found->sandbox;
		if (bpf_sock_ops_cb_flags_set(ops, BPF_SOCK_OPS_STATE_CB_FLAG))
			count_failure(FAIL_CB_FLAGS);
	} else {
		count_failure(FAIL_SK_STORAGE);	/* no origin: the worker closes it */
		end_conversation(found->cookie, found->sandbox);
	}
	forget_origin(&key, found->sandbox);
	return 1;
}

int listener_release(struct bpf_sock *ctx)
{
	struct conversation *conversation = conversations.sk_storage_get(ctx, 0, 0);

	if (conversation)
		end_conversation(conversation->cookie, conversation->sandbox);
	return 1;
}

#define SO_ORIGINAL_DST_ 80

static __always_inline int answer_speaker(struct bpf_sockopt *ctx, struct bpf_sock *sk)
{
	struct conversation *conversation = conversations.sk_storage_get(sk, 0, 0);
	struct speaker *found = conversation ? speakers.lookup(&conversation->cookie) : 0, *out = ctx->optval;

	if (!found || (void *)(out + 1) > ctx->optval_end)
		return 1;
	*out = *found;
	*(volatile __s32 *)&ctx->optlen = sizeof(*out);
	*(volatile __s32 *)&ctx->retval = 0;
	return 1;
}

int getsockopt(struct bpf_sockopt *ctx)
{
	int wants_origin = ctx->level == 1 && ctx->optname == ORIGIN_OPTION;
	int original4 = ctx->level == 0 && ctx->optname == SO_ORIGINAL_DST_;
	int original6 = ctx->level == 41 && ctx->optname == SO_ORIGINAL_DST_;
	struct bpf_sock *sk = ctx->sk;
	struct origin *found;

	if (sk && ctx->level == 1 && ctx->optname == SPEAKER_OPTION)
		return answer_speaker(ctx, sk);
	if ((!wants_origin && !original4 && !original6) || !sk)
		return 1;
	found = accepted.sk_storage_get(sk, 0, 0);
	if (!found)
		return 1;
	if (wants_origin) {
		struct origin *out = ctx->optval;
		if ((void *)(out + 1) > ctx->optval_end)
			return 1;
		*out = *found;
		accepted.sk_storage_delete(sk);
		*(volatile __s32 *)&ctx->optlen = sizeof(*out);	/* volatile: clang would merge this store with the next, which is refused */
	} else if (original4 && found->family == 4) {
		struct sockaddr_in *out = ctx->optval;
		if ((void *)(out + 1) > ctx->optval_end)
			return 1;
		out->sin_family = 2;
		out->sin_port = bpf_htons(found->port);
		out->sin_addr.s_addr = *(__u32 *)found->addr;
		*(volatile __s32 *)&ctx->optlen = sizeof(*out);
	} else if (original6 && found->family == 6) {
		struct sockaddr_in6 *out = ctx->optval;
		if ((void *)(out + 1) > ctx->optval_end)
			return 1;
		out->sin6_family = 10;
		out->sin6_port = bpf_htons(found->port);
		__builtin_memcpy(&out->sin6_addr, found->addr, 16);
		*(volatile __s32 *)&ctx->optlen = sizeof(*out);
	} else {
		return 1;
	}
	*(volatile __s32 *)&ctx->retval = 0;
	return 1;
}
