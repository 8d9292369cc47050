/* SPDX-License-Identifier: GPL-2.0 */
/*
 * May this process reach that place? Decided in the kernel, from the verdicts the agent compiled: deny, or rewrite to one of the agent's
 * listeners on lo, or leave alone what stays inside the sandbox. The address families share one ladder; each hook only fills in a place.
 */

struct place {
	__u8 family;		/* 4 or 6; a v4-mapped address is 4 */
	__u8 loopback;
	__u8 agent;
	__u8 synthetic;
	__u32 name;
	__u32 port;
	__u8 addr[16];
};

static __always_inline void place4(struct place *p, __u32 ip4, __u32 port)
{
	__u32 ip = bpf_ntohl(ip4);

	p->family = 4;
	p->port = port;
	if (!ip) {		/* 0.0.0.0 would become the socket's own source address, which may be the agent's */
		ip = 0x7f000001;
		ip4 = bpf_htonl(ip);
	}
	*(__u32 *)p->addr = ip4;
	p->loopback = (ip >> 24) == 127;
	p->agent = ip == AGENT_V4;
	p->synthetic = (ip & SYNTHETIC_V4_MASK) == SYNTHETIC_V4;
	p->name = p->synthetic && !p->agent ? ip - SYNTHETIC_V4 : 0;
}

static __always_inline void place6(struct place *p, __u32 a, __u32 b, __u32 c, __u32 d, __u32 port)
{
	if (!a && !b && c == bpf_htonl(0xffff)) {
		place4(p, d, port);
		return;
	}
	p->family = 6;
	p->port = port;
	if (!a && !b && !c && !d)
		d = bpf_htonl(1);
	((__u32 *)p->addr)[0] = a;
	((__u32 *)p->addr)[1] = b;
	((__u32 *)p->addr)[2] = c;
	((__u32 *)p->addr)[3] = d;
	p->loopback = !a && !b && !c && d == bpf_htonl(1);
	p->synthetic = bpf_ntohl(a) == SYNTHETIC_V6_0 && bpf_ntohl(b) == SYNTHETIC_V6_1 && !c;
	p->agent = p->synthetic && d == bpf_htonl(1);
	p->name = p->synthetic && !p->agent ? bpf_ntohl(d) : 0;
}

static __always_inline int agents_port(__u32 port)
{
	return port == 53 || port == INSPECT_PORT || port == RELAY_PORT;
}

/* The agent's listeners on any local spelling. They are bound to the agent's address alone; a sandbox process that took the same port on
   loopback while no agent runs must not be mistaken for them. */
static __always_inline int is_agents(struct place *p)
{
	return p->port != 53 && (p->agent || (p->loopback && agents_port(p->port)));
}

static __always_inline int send_event(int type, struct sandbox *box, struct task *tag, struct place *p, int verdict, int why,
				      __u32 protocol, __u64 cookie)
{
	struct event event = {};

	stamp(&event, type, box, tag);
	event.verdict = verdict;
	event.why = why;
	event.protocol = protocol;
	event.pid = bpf_get_current_pid_tgid() >> 32;
	event.cookie = cookie;
	if (p) {
		event.family = p->family;
		event.port = p->port;
		event.name = p->name;
		__builtin_memcpy(event.addr, p->addr, sizeof(event.addr));
	}
	if (!events.ringbuf_output(&event, sizeof(event), 0))
		return 0;
	count_failure(FAIL_EVENT);
	return -1;
}

/* The compiled policy: VERDICT_DENY when it is silent. */
static __always_inline int look_up(struct sandbox *box, struct task *tag, struct place *p)
{
	struct verdict_key key = { .sandbox = box->id, .generation = box->generation, .identity = tag->identity, .port = p->port };
	struct literal_key literal = { .prefixlen = 8 * (sizeof(literal) - sizeof(literal.prefixlen)), .sandbox = box->id,
				       .generation = box->generation, .identity = tag->identity, .port = p->port, .family = p->family };
	__u32 *verdict;

	if (p->synthetic || p->loopback) {
		key.name = p->name;
		verdict = verdicts.lookup(&key);
	} else {
		__builtin_memcpy(literal.addr, p->addr, sizeof(literal.addr));
		verdict = literals.lookup(&literal);
	}
	if (verdict && *verdict == VERDICT_INSPECT)
		return VERDICT_INSPECT;
	if (verdict && *verdict == VERDICT_RELAY)
		return VERDICT_RELAY;
	if (verdict)
		return VERDICT_DENY;
	if (box->flags & SANDBOX_OBSERVE)
		return p->port == 443 || p->port == 80 ? VERDICT_INSPECT : VERDICT_RELAY;
	return VERDICT_DENY;
}

/* Remember on the socket who asked for what. Without that there is no origin, so a failure denies. */
static __always_inline int remember(struct bpf_sock *sk, struct sandbox *box, struct task *tag, struct place *p, int verdict, __u64 cookie)
{
	struct socket_state *socket = sockets.sk_storage_get(sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	struct origin *state;

	if (!socket) {
		count_failure(FAIL_SK_STORAGE);
		return -1;
	}
	state = &socket->origin;
	state->sandbox = box->id;
	state->generation = box->generation;
	state->identity = tag ? tag->identity : 0;
	state->exec_id = tag ? tag->exec_id : 0;
	state->pid = bpf_get_current_pid_tgid() >> 32;
	state->name = p->name;
	state->port = p->port;
	state->family = p->family;
	state->verdict = verdict;
	__builtin_memcpy(state->addr, p->addr, sizeof(state->addr));
	state->cookie = cookie;
	return 0;
}

/*
 * The ladder, for TCP connect. Returns the verdict; VERDICT_DENY has been recorded.
 */
static __always_inline int decide_connect(struct bpf_sock *sk, struct place *p, __u64 cookie, __u32 protocol)
{
	struct sandbox *box = governing();
	struct task *tag = 0;
	struct service_key service = {};
	__u8 why = WHY_POLICY;
	int verdict = VERDICT_DENY;

	if (!box) {
		count_failure(FAIL_EXE);
		return VERDICT_DENY;
	}
	/* 1) never straight to the agent, whoever asks; but any resolver is the agent's */
	tag = current_task_of(box, &why);
	if (is_agents(p)) {
		send_event(EVENT_CONNECT, box, tag, p, VERDICT_DENY, WHY_AGENT_ADDRESS, protocol, cookie);
		return VERDICT_DENY;
	}
	/* 2) who is it? */
	if (!tag) {
		send_event(EVENT_CONNECT, box, 0, p, VERDICT_DENY, why, protocol, cookie);
		return VERDICT_DENY;
	}
	/* 3) names: the query is the decision, so the connection to the resolver is none */
	if (p->port == 53 && (!p->loopback || box->flags & SANDBOX_CONTAINED)) {
		return remember(sk, box, tag, p, VERDICT_RESOLVE, cookie) ? VERDICT_DENY : VERDICT_RESOLVE;
	}
	/* 4) inside the sandbox, unless the port is lent to a service of the host */
	service.sandbox = box->id;
	service.generation = box->generation;
	service.port = p->port;
	if (p->loopback && !(box->flags & SANDBOX_SHARED) && !services.lookup(&service)) {
		verdict = VERDICT_LOCAL;
	} else {
		if (p->loopback)
			p->name = NAME_LOCALHOST;
		verdict = look_up(box, tag, p);
	}
	/* 5) remember it, record it, and only then let it go */
	if (verdict != VERDICT_DENY && remember(sk, box, tag, p, verdict, cookie)) {
		send_event(EVENT_CONNECT, box, tag, p, VERDICT_DENY, WHY_MAP_FULL, protocol, cookie);
		return VERDICT_DENY;
	}
	if (send_event(EVENT_CONNECT, box, tag, p, verdict, WHY_POLICY, protocol, cookie))
		return VERDICT_DENY;
	return verdict;
}

/*
 * A connected v6 socket sends to a v4-mapped peer as if it had named it each time (udpv6_sendmsg), by then with the address that connect()
 * put in its place: what is meant is what was dialled.
 */
static __always_inline void as_dialled(struct bpf_sock *sk, struct place *p)
{
	struct socket_state *socket;

	if (!p->agent || !sk || sk->state != BPF_TCP_ESTABLISHED)
		return;
	socket = sockets.sk_storage_get(sk, 0, 0);
	if (!socket || socket->origin.family != 4)
		return;
	place4(p, *(__u32 *)socket->origin.addr, socket->origin.port);
}

/*
 * UDP. connect() to a synthetic or loopback address succeeds in silence: libc probes every answer that way to sort it. The datagram is what
 * is decided. Returns 0 deny, 1 leave alone, 2 to the agent's resolver, 3 to the agent's address, where the last net drops what is sent.
 */
static __always_inline int decide_datagram(struct bpf_sock *sk, struct place *p, __u64 cookie, __u32 protocol, int connecting)
{
	struct sandbox *box = governing();
	struct task *tag;
	__u8 why = WHY_POLICY;

	if (!box) {
		count_failure(FAIL_EXE);
		return 0;
	}
	tag = current_task_of(box, &why);
	if (p->port == 53 && tag && (!p->loopback || box->flags & SANDBOX_CONTAINED))
		return remember(sk, box, tag, p, VERDICT_RESOLVE, cookie) ? 0 : 2;
	if (p->loopback && tag && !is_agents(p) && !(box->flags & SANDBOX_SHARED))
		return remember(sk, box, tag, p, VERDICT_LOCAL, cookie) ? 0 : 1;
	if (connecting && p->synthetic && !p->agent && tag)
		return remember(sk, box, tag, p, VERDICT_DENY, cookie) ? 0 : 3;
	if (p->agent || is_agents(p))
		why = WHY_AGENT_ADDRESS;
	else if (tag)
		why = WHY_PROTOCOL;
	send_event(EVENT_DATAGRAM, box, tag, p, VERDICT_DENY, why, protocol, cookie);
	return 0;
}

static __always_inline __u32 listener_port(int verdict)
{
	return verdict == VERDICT_RESOLVE ? 53 : verdict == VERDICT_RELAY ? RELAY_PORT : INSPECT_PORT;
}

static __always_inline int is_stream(struct bpf_sock_addr *ctx)
{
	return ctx->type == 1;
}

/* A nought of its own: clang returns a verdict itself where it knows it to be 0, and the verifier (6.12, clang of Debian 13) does not. */
static __always_inline int refused(void)
{
	int no = 0;

	asm volatile("" : "+r"(no));
	return no;
}

int connect4(struct bpf_sock_addr *ctx)
{
	struct place p = {};
	__u64 cookie = bpf_get_socket_cookie(ctx);
	int verdict;

	place4(&p, ctx->user_ip4, bpf_ntohs(ctx->user_port));
	if (is_stream(ctx)) {
		verdict = decide_connect(ctx->sk, &p, cookie, ctx->protocol);
		asm volatile("" : "+r"(verdict));	/* see connect6 */
		if (verdict == VERDICT_DENY)
			return refused();
		if (verdict != VERDICT_LOCAL) {
			ctx->user_ip4 = bpf_htonl(AGENT_V4);
			ctx->user_port = bpf_htons(listener_port(verdict));
		} else {
			ctx->user_ip4 = *(__u32 *)p.addr;
		}
		return 1;
	}
	verdict = decide_datagram(ctx->sk, &p, cookie, ctx->protocol, 1);
	if (!verdict)
		return refused();
	if (verdict >= 2)
		ctx->user_ip4 = bpf_htonl(AGENT_V4);
	return 1;
}

int connect6(struct bpf_sock_addr *ctx)
{
	struct place p = {};
	__u64 cookie = bpf_get_socket_cookie(ctx);
	int verdict, stream = is_stream(ctx);

	place6(&p, ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2], ctx->user_ip6[3], bpf_ntohs(ctx->user_port));
	if (stream)
		verdict = decide_connect(ctx->sk, &p, cookie, ctx->protocol);
	else
		verdict = decide_datagram(ctx->sk, &p, cookie, ctx->protocol, 1);
	asm volatile("" : "+r"(verdict));	/* or clang returns verdict itself where it knows it to be 0, and 6.18's verifier does not */
	if (!verdict)
		return refused();
	if (stream ? verdict == VERDICT_LOCAL : verdict == 1) {
		if (p.family == 6) {
			ctx->user_ip6[3] = ((__u32 *)p.addr)[3];
		} else {
			ctx->user_ip6[3] = *(__u32 *)p.addr;
		}
		return 1;
	}
	if (p.family == 6) {
		ctx->user_ip6[0] = bpf_htonl(SYNTHETIC_V6_0);
		ctx->user_ip6[1] = bpf_htonl(SYNTHETIC_V6_1);
		ctx->user_ip6[2] = 0;
		ctx->user_ip6[3] = bpf_htonl(1);
	} else {		/* the socket stays v4-mapped: a V6ONLY socket never gets here with such an address */
		ctx->user_ip6[3] = bpf_htonl(AGENT_V4);
	}
	if (stream)
		ctx->user_port = bpf_htons(listener_port(verdict));
	return 1;
}

int sendmsg4(struct bpf_sock_addr *ctx)
{
	struct place p = {};
	int verdict;

	place4(&p, ctx->user_ip4, bpf_ntohs(ctx->user_port));
	as_dialled(ctx->sk, &p);
	verdict = decide_datagram(ctx->sk, &p, bpf_get_socket_cookie(ctx), ctx->protocol, 0);
	if (verdict == 2)
		ctx->user_ip4 = bpf_htonl(AGENT_V4);
	else if (verdict == 1)
		ctx->user_ip4 = *(__u32 *)p.addr;
	return verdict == 1 || verdict == 2;
}

int sendmsg6(struct bpf_sock_addr *ctx)
{
	struct place p = {};
	int verdict;

	place6(&p, ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2], ctx->user_ip6[3], bpf_ntohs(ctx->user_port));
	verdict = decide_datagram(ctx->sk, &p, bpf_get_socket_cookie(ctx), ctx->protocol, 0);
	if (verdict == 2) {
		if (p.family == 6) {
			ctx->user_ip6[0] = bpf_htonl(SYNTHETIC_V6_0);
			ctx->user_ip6[1] = bpf_htonl(SYNTHETIC_V6_1);
			ctx->user_ip6[2] = 0;
			ctx->user_ip6[3] = bpf_htonl(1);
		} else {
			ctx->user_ip6[3] = bpf_htonl(AGENT_V4);
		}
	}
	return verdict == 1 || verdict == 2;
}

/* Clients see whom they called: the address they dialled comes back from getpeername, and as the sender of a resolver's answer. */
static __always_inline int put_back(struct bpf_sock_addr *ctx, int six)
{
	struct socket_state *socket = sockets.sk_storage_get(ctx->sk, 0, 0);
	struct origin *state = socket ? &socket->origin : 0;

	if (!state || state->verdict == VERDICT_LOCAL)
		return 1;
	if (six && state->family == 6) {
		ctx->user_ip6[0] = ((__u32 *)state->addr)[0];
		ctx->user_ip6[1] = ((__u32 *)state->addr)[1];
		ctx->user_ip6[2] = ((__u32 *)state->addr)[2];
		ctx->user_ip6[3] = ((__u32 *)state->addr)[3];
	} else if (six) {
		ctx->user_ip6[3] = *(__u32 *)state->addr;
	} else {
		ctx->user_ip4 = *(__u32 *)state->addr;
	}
	ctx->user_port = bpf_htons(state->port);
	return 1;
}

int getpeername4(struct bpf_sock_addr *ctx)
{
	return put_back(ctx, 0);
}

int getpeername6(struct bpf_sock_addr *ctx)
{
	return put_back(ctx, 1);
}

/* A datagram may also come from a peer inside the sandbox: only the resolver's sender is rewritten. */
int recvmsg4(struct bpf_sock_addr *ctx)
{
	if (ctx->user_ip4 != bpf_htonl(AGENT_V4))
		return 1;
	return put_back(ctx, 0);
}

int recvmsg6(struct bpf_sock_addr *ctx)
{
	int mapped = ctx->user_ip6[2] == bpf_htonl(0xffff);
	__u32 last = ctx->user_ip6[3];

	if (mapped ? last != bpf_htonl(AGENT_V4) : ctx->user_ip6[0] != bpf_htonl(SYNTHETIC_V6_0))
		return 1;
	return put_back(ctx, 1);
}
