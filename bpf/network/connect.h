/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
 *
 * What connects and sends, at the root of cgroup v2: who opened which connection, and the verdict where no interface
 * is ours (yet): a container's first moments, before its veth is attached, and containers on the host's network or on
 * interfaces that are no veths. The hooks hold from a process' first instruction, its cgroup being there before it.
 */
#ifndef NV_NETWORK_CONNECT_H
#define NV_NETWORK_CONNECT_H

#include "judge.h"

/* Where the caller belongs: its cgroup's row or that of the nearest one above; NULL for the host's programs. */
static __always_inline struct place *place_of_caller(void)
{
	__u64 id = bpf_get_current_cgroup_id();
	struct place *place = bpf_map_lookup_elem(&places, &id);

	for (int level = CGROUP_DEPTH; !place && level > 0; level--) {
		id = bpf_get_current_ancestor_cgroup_id(level);
		if (id)
			place = bpf_map_lookup_elem(&places, &id);
	}
	return place;
}

/* What is not at an interface of ours is judged when it is asked for, before there is any packet. */
static __always_inline __u8 judge_connect(const struct connect_key *to)
{
	struct place *place = place_of_caller();
	__u32 zero = 0;
	struct settings *set = bpf_map_lookup_elem(&settings, &zero);
	struct judgement j = {};
	__u32 peer[4];
	__be16 peer_port;

	if (!place || !set || (place->flags & AT_INTERFACE))
		return OPEN;
	if (is_loopback(to->address))
		return is_cut_off(place) ? DENY : OPEN;
	if (is_to_many(to->address))
		return OPEN;
	struct endpoint endpoint = {
		.identity = place->identity,
		.quarantined = place->flags & PLACE_QUARANTINED,
	};
	if (!judge_service(to->address, to->port, to->protocol, &endpoint, set, &j, peer, &peer_port)) {
		j.remote = identity_of(to->address);
		j.port = to->port;
		j.protocol = to->protocol;
		judge(true, &endpoint, set, &j);
	}
	/* Its own address, which no packet leaves for; a sibling's is judged at the sibling's end. What passes here and is
	 * seen at its socket is told there. */
	if (!j.quarantined && (j.client == j.server || (place->endpoint && j.verdict != DENY)))
		return OPEN;
	return j.verdict;
}

static __always_inline int attribute(struct bpf_sock_addr *ctx, const __u32 address[4])
{
	__u64 now = bpf_ktime_get_ns();
	struct connect_key key = {
		.cgroup = bpf_get_current_cgroup_id(),
		.address = { address[0], address[1], address[2], address[3] },
		.pid = bpf_get_current_pid_tgid() >> 32,
		.port = ctx->user_port,
		.protocol = ctx->protocol,
	};
	__u64 *last = bpf_map_lookup_elem(&connects, &key);
	__u8 verdict = judge_connect(&key);
	__u32 decision_ns = bpf_ktime_get_ns() - now;
	int pass = verdict != DENY;

	count(CONNECTS);
	if (!pass)
		count(CONNECTS_DENIED);
	if (last && now - *last < CONNECT_AGAIN_NS) {
		count(CONNECTS_FOLDED);
		return pass;
	}
	struct connect_event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event) {
		count(EVENTS_LOST);
		return pass;
	}
	event->kind = CONNECT;
	event->pid = key.pid;
	event->ns = now;
	event->cgroup = key.cgroup;
	__builtin_memcpy(event->address, key.address, 16);
	event->port = key.port;
	event->protocol = key.protocol;
	event->verdict = verdict;
	event->decision_ns = decision_ns;
	event->zero = 0;
	event->uid = (__u32)bpf_get_current_uid_gid();
	if (bpf_get_current_comm(event->command, sizeof(event->command)))
		event->command[0] = 0;
	bpf_ringbuf_submit(event, wake(verdict >= VIOLATE));
	bpf_map_update_elem(&connects, &key, &now, BPF_ANY);
	return pass;
}

static __always_inline int attribute4(struct bpf_sock_addr *ctx)
{
	__u32 address[4] = { 0, 0, bpf_htonl(0xffff), ctx->user_ip4 };
	return attribute(ctx, address);
}

static __always_inline int attribute6(struct bpf_sock_addr *ctx)
{
	__u32 address[4] = { ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2], ctx->user_ip6[3] };
	return attribute(ctx, address);
}

SEC("cgroup/connect4")
int connect_4(struct bpf_sock_addr *ctx)
{
	return attribute4(ctx);
}

SEC("cgroup/connect6")
int connect_6(struct bpf_sock_addr *ctx)
{
	return attribute6(ctx);
}

SEC("cgroup/sendmsg4")
int sendmsg_4(struct bpf_sock_addr *ctx)
{
	return attribute4(ctx);
}

SEC("cgroup/sendmsg6")
int sendmsg_6(struct bpf_sock_addr *ctx)
{
	return attribute6(ctx);
}

#endif
