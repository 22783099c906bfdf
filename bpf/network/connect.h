/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
 *
 * Who opened which connection: what connects and sends, at the root of cgroup v2.
 */
#ifndef NV_NETWORK_CONNECT_H
#define NV_NETWORK_CONNECT_H

#include "maps.h"

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

	count(CONNECTS);
	if (last && now - *last < CONNECT_AGAIN_NS) {
		count(CONNECTS_FOLDED);
		return 1;
	}
	struct connect_event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event) {
		count(EVENTS_LOST);
		return 1;
	}
	event->kind = CONNECT;
	event->pid = key.pid;
	event->ns = now;
	event->cgroup = key.cgroup;
	__builtin_memcpy(event->address, key.address, 16);
	event->port = key.port;
	event->protocol = key.protocol;
	event->zero = 0;
	event->uid = (__u32)bpf_get_current_uid_gid();
	if (bpf_get_current_comm(event->command, sizeof(event->command)))
		event->command[0] = 0;
	bpf_ringbuf_submit(event, wake(false));
	bpf_map_update_elem(&connects, &key, &now, BPF_ANY);
	return 1;
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
