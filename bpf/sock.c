/* SPDX-License-Identifier: GPL-2.0 */
/* What sockets a sandbox may make and bind, and the one moment at which the whole 4-tuple of a connection is known before its SYN. */

#define IPPROTO_TCP_ 6
#define IPPROTO_UDP_ 17

int sock_create(struct bpf_sock *ctx)
{
	struct place p = {};
	int stream = ctx->type == 1 && (ctx->protocol == 0 || ctx->protocol == IPPROTO_TCP_);
	int datagram = ctx->type == 2 && (ctx->protocol == 0 || ctx->protocol == IPPROTO_UDP_);
	struct sandbox *box;

	if (stream || datagram)
		return 1;
	box = governing();
	if (box) {
		__u8 why = 0;
		p.port = ctx->type;
		send_event(EVENT_SOCKET, box, current_task_of(box, &why), &p, VERDICT_DENY, WHY_PROTOCOL, ctx->protocol, 0);
	}
	return 0;
}

/* A listener of the sandbox on the agent's address or ports would be taken for the agent, above all when no agent runs. */
static __always_inline int decide_bind(struct place *p, int wildcard, __u32 protocol)
{
	struct sandbox *box = governing();
	struct service_key service = {};
	__u8 why = 0;

	if (!box)
		return 0;
	service.sandbox = box->id;
	service.generation = box->generation;
	service.port = p->port;
	if (p->port && services.lookup(&service)) {
		bpf_set_retval(-98);	/* EADDRINUSE: the port is the host's */
		return 0;
	}
	if (!p->synthetic && !((wildcard || p->loopback) && agents_port(p->port)))
		return 1;
	send_event(EVENT_BIND, box, current_task_of(box, &why), p, VERDICT_DENY, WHY_BIND, protocol, 0);
	return 0;
}

int bind4(struct bpf_sock_addr *ctx)
{
	struct place p = {};

	place4(&p, ctx->user_ip4, bpf_ntohs(ctx->user_port));
	return decide_bind(&p, !ctx->user_ip4, ctx->protocol);
}

int bind6(struct bpf_sock_addr *ctx)
{
	struct place p = {};
	int wildcard = !ctx->user_ip6[0] && !ctx->user_ip6[1] && !ctx->user_ip6[3] &&
		       (!ctx->user_ip6[2] || ctx->user_ip6[2] == bpf_htonl(0xffff));

	place6(&p, ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2], ctx->user_ip6[3], bpf_ntohs(ctx->user_port));
	return decide_bind(&p, wildcard, ctx->protocol);
}

/* Both ends of a v4-mapped connection must give one key, so v4 addresses stand as v4 whatever the socket's family. */
static __always_inline void client_tuple(struct bpf_sock_ops *ops, struct tuple_key *key)
{
	key->netns = bpf_get_netns_cookie(ops);
	key->client_port = ops->local_port;
	key->agent_port = bpf_ntohl(ops->remote_port);
	if (ops->family == 2 || (!ops->remote_ip6[0] && !ops->remote_ip6[1] && ops->remote_ip6[2] == bpf_htonl(0xffff))) {
		key->family = 4;
		*(__u32 *)key->client = ops->local_ip4;
		*(__u32 *)key->agent = ops->remote_ip4;
	} else {
		key->family = 6;
		((__u32 *)key->client)[0] = ops->local_ip6[0];
		((__u32 *)key->client)[1] = ops->local_ip6[1];
		((__u32 *)key->client)[2] = ops->local_ip6[2];
		((__u32 *)key->client)[3] = ops->local_ip6[3];
		((__u32 *)key->agent)[0] = ops->remote_ip6[0];
		((__u32 *)key->agent)[1] = ops->remote_ip6[1];
		((__u32 *)key->agent)[2] = ops->remote_ip6[2];
		((__u32 *)key->agent)[3] = ops->remote_ip6[3];
	}
}

static __always_inline void forget_origin(struct tuple_key *key, __u32 sandbox)
{
	struct usage *usage = usages.lookup(&sandbox);

	if (!origins.delete(key) && usage)
		__sync_fetch_and_add(&usage->origins, -1);
}

/* Nobody but the image that connects it has spoken yet. 0, or there is no room. */
static __always_inline int begin_conversation(__u64 cookie, struct usage *usage)
{
	struct speaker nobody = {};
	int known = speakers.lookup(&cookie) != 0;

	if (!known && usage->conversations >= QUOTA_CONVERSATIONS)
		return -1;
	if (speakers.update(&cookie, &nobody))
		return -1;
	if (!known)
		__sync_fetch_and_add(&usage->conversations, 1);
	return 0;
}

static __always_inline void end_conversation(__u64 cookie, __u32 sandbox)
{
	struct usage *usage = usages.lookup(&sandbox);

	if (!speakers.delete(&cookie) && usage)
		__sync_fetch_and_add(&usage->conversations, -1);
}

/* Nobody will be accepted under this tuple any more. */
static __always_inline void forget_connect(struct tuple_key *key, struct origin *origin)
{
	__u64 cookie = origin->cookie;
	__u32 sandbox = origin->sandbox;

	forget_origin(key, sandbox);
	end_conversation(cookie, sandbox);
}

int sock_ops(struct bpf_sock_ops *ops)
{
	struct tuple_key key = {};
	struct socket_state *socket;
	struct origin *state, *old;
	struct usage *usage;
	struct bpf_sock *sk = ops->sk;

	if (ops->op != BPF_SOCK_OPS_TCP_CONNECT_CB && ops->op != BPF_SOCK_OPS_STATE_CB)
		return 1;
	if (!sk)
		return 1;
	client_tuple(ops, &key);
	old = origins.lookup(&key);
	socket = sockets.sk_storage_get(sk, 0, 0);
	state = socket ? &socket->origin : 0;
	if (ops->op == BPF_SOCK_OPS_STATE_CB) {
		/* A connect that came to nothing: nobody will be accepted under this tuple. */
		if (ops->args[0] == BPF_TCP_SYN_SENT && ops->args[1] == BPF_TCP_CLOSE && old && state && old->cookie == state->cookie)
			forget_connect(&key, state);
		return 1;
	}
	/* TCP_CONNECT: a tuple that is used again must not answer for its last owner */
	if (old)
		forget_connect(&key, old);
	if (!state || state->verdict == VERDICT_LOCAL || state->verdict == VERDICT_DENY)
		return 1;
	usage = usages.lookup(&state->sandbox);
	if (!usage || usage->origins >= QUOTA_ORIGINS) {
		count_failure(FAIL_QUOTA);
		return 1;
	}
	if (begin_conversation(state->cookie, usage)) {
		count_failure(FAIL_ORIGIN);
		return 1;
	}
	if (origins.update(&key, state)) {
		count_failure(FAIL_ORIGIN);
		end_conversation(state->cookie, state->sandbox);
		return 1;
	}
	__sync_fetch_and_add(&usage->origins, 1);
	if (bpf_sock_ops_cb_flags_set(ops, BPF_SOCK_OPS_STATE_CB_FLAG))
		count_failure(FAIL_CB_FLAGS);
	return 1;
}

/* The asker's entry goes with its socket: source ports are used again. */
int sock_release(struct bpf_sock *ctx)
{
	struct socket_state *socket = sockets.sk_storage_get(ctx, 0, 0);
	struct asker_key key = {};

	if (!socket || !socket->asked_from)
		return 1;
	key.sandbox = socket->origin.sandbox;
	key.port = socket->asked_from;
	key.family = socket->asked_family;
	askers.delete(&key);
	return 1;
}
