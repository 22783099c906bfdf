/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
 *
 * A flow key becomes a verdict.
 */
#ifndef NV_NETWORK_JUDGE_H
#define NV_NETWORK_JUDGE_H

#include "maps.h"

struct judgement {
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

static __noinline void judge(const struct flow_key *key, bool local_client, const struct endpoint *endpoint,
			     const struct settings *set, struct judgement *j)
{
	__u32 remote = identity_of(key->remote);
	j->client = local_client ? endpoint->identity : remote;
	j->server = local_client ? remote : endpoint->identity;
	j->rule = 0;
	j->matched = false;
	j->quarantined = endpoint->quarantined;
	if (endpoint->quarantined) {
		j->verdict = DENY;
		return;
	}
	j->verdict = OPEN;
	if (set->disabled || key->protocol == IPPROTO_ICMP || key->protocol == IPPROTO_ICMPV6)
		return;

	__u32 client_mode = mode_of(j->client), server_mode = mode_of(j->server);
	__u32 mode = between(client_mode, server_mode, set->strict);
	bool ported = key->protocol == IPPROTO_TCP || key->protocol == IPPROTO_UDP;
	struct rule_key rule_key = {
		.prefix_bits = 96,
		.client = j->client,
		.server = j->server,
		.protocol = ported ? key->protocol : 0,
		.port = ported ? (local_client ? key->remote_port : key->local_port) : 0,
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

#endif
