/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Answers a worker that asks of an accepted connection: who, and to where? Attached to the cgroup where the listeners were made, so that
 * the workers need no bpf() themselves. ORIGIN is deleted as it is read; SO_ORIGINAL_DST lets a stock transparent proxy stand in.
 */

#define SO_ORIGINAL_DST_ 80

int getsockopt(struct bpf_sockopt *ctx)
{
	int wants_origin = ctx->level == 1 && ctx->optname == ORIGIN_OPTION;
	int original4 = ctx->level == 0 && ctx->optname == SO_ORIGINAL_DST_;
	int original6 = ctx->level == 41 && ctx->optname == SO_ORIGINAL_DST_;
	struct bpf_sock *sk = ctx->sk;
	struct tuple_key key = {};
	struct origin *found;
	struct usage *usage;

	if ((!wants_origin && !original4 && !original6) || !sk)
		return 1;
	key.netns = bpf_get_netns_cookie(ctx);
	key.client_port = bpf_ntohs((__u16)sk->dst_port);
	key.agent_port = sk->src_port;
	if (sk->family == 2) {
		key.family = 4;
		*(__u32 *)key.client = sk->dst_ip4;
		*(__u32 *)key.agent = sk->src_ip4;
	} else {
		key.family = 6;
		((__u32 *)key.client)[0] = sk->dst_ip6[0];
		((__u32 *)key.client)[1] = sk->dst_ip6[1];
		((__u32 *)key.client)[2] = sk->dst_ip6[2];
		((__u32 *)key.client)[3] = sk->dst_ip6[3];
		((__u32 *)key.agent)[0] = sk->src_ip6[0];
		((__u32 *)key.agent)[1] = sk->src_ip6[1];
		((__u32 *)key.agent)[2] = sk->src_ip6[2];
		((__u32 *)key.agent)[3] = sk->src_ip6[3];
	}
	found = origins.lookup(&key);
	if (!found)
		return 1;
	if (wants_origin) {
		struct origin *out = ctx->optval;
		if ((void *)(out + 1) > ctx->optval_end)
			return 1;
		*out = *found;
		usage = usages.lookup(&found->sandbox);
		if (!origins.delete(&key) && usage)
			__sync_fetch_and_add(&usage->origins, -1);
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
