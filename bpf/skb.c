/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The last net: packets. Whatever way a packet was made, it leaves only for loopback or for one of the agent's ports. This is also where a
 * DNS query is tied to its asker: the source port is known here and nowhere earlier. Drops are counted exactly and sampled.
 */

static __always_inline int drop_packet(struct __sk_buff *skb, struct origin *state, __u32 protocol, __u32 port, int family, __u8 *addr)
{
	int zero = 0;
	struct long_event *s = packets.lookup(&zero);
	struct drop_window *window = drop_windows.lookup(&zero);
	__u64 second = bpf_ktime_get_ns() / 1000000000;
	__u32 length = skb->len;

	count_failure(FAIL_DROPPED);
	if (!s || !window)
		return 0;
	if (window->second != second) {
		window->second = second;
		window->count = 0;
	}
	window->count++;
	/* a refused datagram is a decision, and recorded; beyond 64 a second it is a flood, of which one in 64 is a sample */
	if (window->count > 64 && window->count % 64)
		return 0;
	__builtin_memset(s, 0, sizeof(*s));
	stamp(&s->head, EVENT_PACKET, 0, 0);
	s->head.verdict = VERDICT_DENY;
	s->head.why = WHY_PACKET;
	s->head.protocol = protocol;
	s->head.port = port;
	s->head.family = family;
	__builtin_memcpy(s->head.addr, addr, 16);
	if (state) {
		s->head.sandbox = state->sandbox;
		s->head.generation = state->generation;
		s->head.identity = state->identity;
		s->head.name = state->name;
		s->head.pid = state->pid;
		s->head.exec_id = state->exec_id;
		s->head.cookie = state->cookie;
	}
	length = length > 128 ? 127 : length - 1;
	asm volatile("" : "+r"(length));	/* the verifier must see the bounds after clang is done with them: 1 to 128 */
	length = (length & 127) + 1;
	if (!bpf_skb_load_bytes(skb, 0, s->tail, length))
		s->head.size = length;
	if (events.ringbuf_output(s, sizeof(*s), 0))
		count_failure(FAIL_EVENT);
	return 0;
}

/* The sandbox of a socket, whoever runs at this moment: packets come when they come. */
static __always_inline struct sandbox *owner_of(struct bpf_sock *sk)
{
	int zero = 0;
	__u32 *mask = levels.lookup(&zero);

	if (!mask)
		return 0;
	for (int level = 1; level < MAX_LEVEL; level++) {
		if (!(*mask & (1u << level)))
			continue;
		__u64 id = bpf_sk_ancestor_cgroup_id(sk, level);
		struct sandbox *box = id ? sandboxes.lookup(&id) : 0;
		if (box)
			return box;
	}
	return 0;
}

#define TCP_FLAG_BYTE 13
#define TCP_SYN_ 0x02
#define TCP_ACK_ 0x10

/* May this peer speak to that port of a container, by the container's own device? In a sandbox of our own nobody may. */
static __always_inline struct sandbox *lets_in(struct bpf_sock *sk, __u32 port, int family, __u8 *peer)
{
	struct sandbox *box = owner_of(sk);
	struct literal_key key = { .prefixlen = 8 * (sizeof(key) - sizeof(key.prefixlen)), .identity = IDENTITY_INBOUND, .port = port,
				   .family = family };
	__u32 *verdict;

	if (!box)
		return 0;
	key.sandbox = box->id;
	key.generation = box->generation;
	__builtin_memcpy(key.addr, peer, sizeof(key.addr));
	verdict = literals.lookup(&key);
	return verdict && *verdict == VERDICT_LOCAL ? box : 0;
}

/*
 * A container's reply. Stateless, and no way out: a connection that it opens itself begins with a SYN of its own, which is never a reply,
 * and connect() led it elsewhere before.
 */
static __always_inline int is_reply(struct __sk_buff *skb, struct bpf_sock *sk, __u32 offset, __u32 sport, int family, __u8 *peer)
{
	__u8 flags = TCP_SYN_;

	if (sk->protocol != IPPROTO_TCP_ || bpf_skb_load_bytes(skb, offset + TCP_FLAG_BYTE, &flags, 1))
		return 0;
	if ((flags & (TCP_SYN_ | TCP_ACK_)) == TCP_SYN_)
		return 0;
	return lets_in(sk, sport, family, peer) != 0;
}

int skb_egress(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;
	struct socket_state *socket = 0;
	struct origin *state = 0;
	struct asker_key key = {};
	struct asker asker = {};
	__u8 version, protocol = 0, addr[16] = {};
	__u16 ports[2] = {};
	__u32 offset, dport;
	int family, agent = 0;

	if (sk)
		sk = bpf_sk_fullsock(sk);
	if (sk)
		socket = sockets.sk_storage_get(sk, 0, 0);
	if (socket)
		state = &socket->origin;
	if (bpf_skb_load_bytes(skb, 0, &version, 1))
		return drop_packet(skb, state, 0, 0, 0, addr);
	if (version >> 4 == 4) {
		family = 4;
		offset = (version & 15) * 4;
		if (bpf_skb_load_bytes(skb, 9, &protocol, 1) || bpf_skb_load_bytes(skb, 16, addr, 4))
			return drop_packet(skb, state, 0, 0, 4, addr);
		if (addr[0] == 127)
			return 1;
		agent = *(__u32 *)addr == bpf_htonl(AGENT_V4);
	} else {
		family = 6;
		offset = 40;
		if (bpf_skb_load_bytes(skb, 6, &protocol, 1) || bpf_skb_load_bytes(skb, 24, addr, 16))
			return drop_packet(skb, state, 0, 0, 6, addr);
		__u32 *w = (__u32 *)addr;
		if (!w[0] && !w[1] && !w[2] && w[3] == bpf_htonl(1))
			return 1;
		if (!protocol) {	/* hop-by-hop: BIG TCP's jumbo option on packets above 64 KiB, the only one the kernel itself adds */
			__u8 next[2] = {};
			if (bpf_skb_load_bytes(skb, 40, next, 2))
				return drop_packet(skb, state, 0, 0, 6, addr);
			protocol = next[0];
			offset += (next[1] + 1) * 8;
		}
		agent = w[0] == bpf_htonl(SYNTHETIC_V6_0) && w[1] == bpf_htonl(SYNTHETIC_V6_1) && !w[2] && w[3] == bpf_htonl(1);
	}
	if (protocol == IPPROTO_TCP_ || protocol == IPPROTO_UDP_)
		bpf_skb_load_bytes(skb, offset, ports, 4);
	dport = bpf_ntohs(ports[1]);
	if (state && state->verdict == VERDICT_KEPT)
		return 1;
	if (!agent && sk && protocol == IPPROTO_TCP_ && is_reply(skb, sk, offset, bpf_ntohs(ports[0]), family, addr))
		return 1;
	if (!agent || !state || !socket)
		return drop_packet(skb, state, protocol, dport, family, addr);
	if (protocol == IPPROTO_TCP_)
		return agents_port(dport) ? 1 : drop_packet(skb, state, protocol, dport, family, addr);
	if (protocol != IPPROTO_UDP_ || dport != 53 || state->verdict != VERDICT_RESOLVE)
		return drop_packet(skb, state, protocol, state->port ? state->port : dport, state->family ? state->family : family,
				   state->port ? state->addr : addr);
	key.sandbox = state->sandbox;
	key.port = bpf_ntohs(ports[0]);
	key.family = family;
	asker.identity = state->identity;
	asker.pid = state->pid;
	asker.exec_id = state->exec_id;
	if (askers.update(&key, &asker)) {
		count_failure(FAIL_ASKER);
		return 0;
	}
	socket->asked_from = key.port;
	socket->asked_family = family;
	return 1;
}

/* Told once for each connection: the listener's own socket meets the ACK that completes a handshake. */
static __always_inline void tell_inbound(struct sandbox *box, struct bpf_sock *sk, __u32 port, int family, __u8 *peer)
{
	struct event event = {};

	stamp(&event, EVENT_INBOUND, box, 0);
	event.verdict = VERDICT_LOCAL;
	event.protocol = IPPROTO_TCP_;
	event.family = family;
	event.port = port;
	__builtin_memcpy(event.addr, peer, sizeof(event.addr));
	if (events.ringbuf_output(&event, sizeof(event), 0))
		count_failure(FAIL_EVENT);
}

/* What comes by a container's own device: to a port that its policy opens to that peer, or on a connection that was kept. */
static __always_inline int admits(struct __sk_buff *skb, int family, __u8 *peer)
{
	struct bpf_sock *sk = skb->sk;
	struct socket_state *socket;
	struct sandbox *box;
	__u8 version = 0, protocol = 0, flags = 0;
	__u16 dport = 0;
	__u32 offset = 40;

	if (sk)
		sk = bpf_sk_fullsock(sk);
	if (!sk)
		return 0;
	socket = sockets.sk_storage_get(sk, 0, 0);
	if (socket && socket->origin.verdict == VERDICT_KEPT)
		return 1;
	if (sk->protocol != IPPROTO_TCP_)
		return 0;
	if (bpf_skb_load_bytes(skb, 0, &version, 1) || bpf_skb_load_bytes(skb, family == 4 ? 9 : 6, &protocol, 1))
		return 0;
	if (family == 4)
		offset = (version & 15) * 4;
	if (protocol != IPPROTO_TCP_ || bpf_skb_load_bytes(skb, offset + 2, &dport, 2) ||
	    bpf_skb_load_bytes(skb, offset + TCP_FLAG_BYTE, &flags, 1))
		return 0;
	box = lets_in(sk, bpf_ntohs(dport), family, peer);
	if (!box)
		return 0;
	if (sk->state == BPF_TCP_LISTEN && (flags & (TCP_SYN_ | TCP_ACK_)) == TCP_ACK_)
		tell_inbound(box, sk, bpf_ntohs(dport), family, peer);
	return 1;
}

/* Only loopback and the agent speak to a sandbox, and to a container also who may come in. */
int skb_ingress(struct __sk_buff *skb)
{
	__u8 version, addr[16] = {};
	__u32 *w = (__u32 *)addr;
	int family = 4;

	if (bpf_skb_load_bytes(skb, 0, &version, 1))
		return 0;
	if (version >> 4 == 4) {
		if (bpf_skb_load_bytes(skb, 12, addr, 4))
			return 0;
		if (addr[0] == 127 || *(__u32 *)addr == bpf_htonl(AGENT_V4))
			return 1;
	} else {
		family = 6;
		if (bpf_skb_load_bytes(skb, 8, addr, 16))
			return 0;
		if (!w[0] && !w[1] && !w[2] && w[3] == bpf_htonl(1))
			return 1;
		if (w[0] == bpf_htonl(SYNTHETIC_V6_0) && w[1] == bpf_htonl(SYNTHETIC_V6_1) && !w[2] && w[3] == bpf_htonl(1))
			return 1;
	}
	if (admits(skb, family, addr))
		return 1;
	count_failure(FAIL_DROPPED);
	return 0;
}
