/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
 *
 * Two ends, a protocol and a port become a verdict.
 */
#ifndef NV_NETWORK_JUDGE_H
#define NV_NETWORK_JUDGE_H

#include "maps.h"

struct judgement {
	/* Given: the other end's identity, the server's port, the protocol. */
	__u32 remote;
	__be16 port;
	__u8 protocol;
	/* Found. */
	__u32 client;
	__u32 server;
	__u32 rule;
	__u8 verdict;
	bool matched; /* a row said so */
	bool quarantined;
};

static __always_inline __u32 mode_of(__u32 identity)
{
	__u32 *mode = bpf_map_lookup_elem(&modes, &identity);
	return mode ? *mode : NO_MODE;
}

static __always_inline __u32 identity_of(const __u32 address[4])
{
	struct address_key key = { .prefix_bits = 128 };
	__builtin_memcpy(key.address, address, 16);
	__u32 *identity = bpf_map_lookup_elem(&addresses, &key);
	return identity ? *identity : EXTERNAL;
}

/* The machine's own address in whichever namespace: 127.0.0.0/8, ::1, and none at all. */
static __always_inline bool is_loopback(const __u32 a[4])
{
	if (!a[0] && !a[1] && a[2] == bpf_htonl(0xffff))
		return !a[3] || bpf_ntohl(a[3]) >> 24 == 127;
	return !a[0] && !a[1] && !a[2] && (!a[3] || a[3] == bpf_htonl(1));
}

/* Multicast and limited broadcast. */
static __always_inline bool is_to_many(const __u32 a[4])
{
	if (!a[0] && !a[1] && a[2] == bpf_htonl(0xffff))
		return bpf_ntohl(a[3]) >> 28 == 0xe || a[3] == 0xffffffff;
	return bpf_ntohl(a[0]) >> 24 == 0xff;
}

/* Whether even the loopback is closed: a container on the host's network would reach the host by it. */
static __always_inline bool is_cut_off(const struct place *place)
{
	const __u32 both = PLACE_QUARANTINED | HOST_NETWORK;
	return (place->flags & both) == both;
}

/* Of two ends the less strict mode holds, the stricter one if so set; an end without a mode leaves the other's. */
static __always_inline __u32 between(__u32 one, __u32 other, bool strict)
{
	one &= ~NEVER_BLOCK;
	other &= ~NEVER_BLOCK;
	if (!one || !other)
		return one | other;
	return (one < other) == strict ? other : one;
}

static __noinline void judge(bool local_client, const struct endpoint *endpoint, const struct settings *set,
		     struct judgement *j)
{
	j->client = local_client ? endpoint->identity : j->remote;
	j->server = local_client ? j->remote : endpoint->identity;
	j->rule = 0;
	j->matched = false;
	j->quarantined = endpoint->quarantined;
	if (endpoint->quarantined) {
		j->verdict = DENY;
		return;
	}
	j->verdict = OPEN;
	if (set->disabled || j->protocol == IPPROTO_ICMP || j->protocol == IPPROTO_ICMPV6)
		return;

	__u32 client_mode = mode_of(j->client), server_mode = mode_of(j->server);
	__u32 mode = between(client_mode, server_mode, set->strict);
	bool ported = j->protocol == IPPROTO_TCP || j->protocol == IPPROTO_UDP;
	struct rule_key rule_key = {
		.prefix_bits = 96,
		.client = j->client,
		.server = j->server,
		.protocol = ported ? j->protocol : 0,
		.port = ported ? j->port : 0,
	};
	struct rule *rule = bpf_map_lookup_elem(&rules, &rule_key);
	__u32 action = rule ? rule->action : 0;
	if (rule) {
		j->rule = rule->rule;
		j->matched = true;
	}
	if (action == ACTION_ALLOW)
		j->verdict = ALLOW;
	else if (action == ACTION_LEARNED)
		j->verdict = mode == DISCOVER ? LEARN : ALLOW;
	else if (action == ACTION_DENY)
		j->verdict = mode == PROTECT ? DENY : VIOLATE;
	else if (mode == DISCOVER)
		j->verdict = LEARN;
	else if (mode == MONITOR)
		j->verdict = VIOLATE;
	else if (mode == PROTECT)
		j->verdict = DENY;
	if (j->verdict == DENY && ((client_mode | server_mode) & NEVER_BLOCK))
		j->verdict = VIOLATE;
}

static __always_inline bool is_set(const __u32 address[4])
{
	return address[0] | address[1] | address[2] | address[3];
}

static __always_inline bool passes(const struct judgement *j)
{
	return j->verdict != DENY && j->verdict != VIOLATE;
}

/*
 * The first packet to a service goes out before the kernel has chosen who serves it. It is judged by whoever served its
 * last connection: by the address that this one had or by its identity then, whichever is allowed, as a pod's address may
 * be another's by now. The answer tells who it is, and the flow is judged by that. False where it is no service that is
 * known here.
 */
static __always_inline bool judge_service(const __u32 address[4], __be16 port, __u8 protocol,
					  const struct endpoint *endpoint, const struct settings *set,
					  struct judgement *j, __u32 peer[4], __be16 *peer_port)
{
	struct service_key key = { .port = port, .protocol = protocol };

	__builtin_memcpy(key.address, address, sizeof(key.address));
	struct service *service = bpf_map_lookup_elem(&services, &key);
	if (!service)
		return false;
	__builtin_memcpy(peer, service->peer, sizeof(service->peer));
	*peer_port = service->peer_port;
	j->remote = identity_of(peer);
	j->port = service->peer_port;
	j->protocol = protocol;
	judge(true, endpoint, set, j);
	if (!passes(j) && !j->quarantined && service->identity != j->remote) {
		struct judgement then = { .remote = service->identity, .port = j->port, .protocol = protocol };
		judge(true, endpoint, set, &then);
		if (passes(&then))
			*j = then;
	}
	return true;
}

#endif
