/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
 *
 * Most packets are of a flow that is known, whose verdict stands, and of which nothing is to be told or copied. These are
 * seen to here, with one look into the table of flows and no call of ours; everything else takes the long way (flow.h).
 */
#ifndef NV_NETWORK_QUICK_H
#define NV_NETWORK_QUICK_H

#include "detour.h"
#include "packet.h"
#include "tap.h"

#define LONG_WAY (-2) /* no answer of any hook */

/* Flags of TCP that begin or end something. */
#define FIN_SYN_RST 0x07

/* The key of a packet as nearly all are: TCP or UDP right behind an Ethernet and an IP header, in the linear part of the
 * frame, without tags, options, extension headers and fragments, to one receiver, and no beginning or end. The headers are
 * read where they lie, in words: `load` has to go by bytes. */
static __always_inline bool read_quickly(struct __sk_buff *skb, bool from_pod, const __u32 at, struct flow_key *key)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	__u8 *transport;

	if (skb->vlan_present)
		return false;
	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		struct iphdr *ip = data + at;

		transport = (__u8 *)(ip + 1);
		if ((void *)(transport + 8) > end)
			return false;
		/* Version 4, a header of five words; neither a fragment nor the first of several. */
		if (*(__u8 *)ip != 0x45 || (ip->frag_off & bpf_htons(0x3fff)))
			return false;
		__u32 source = ip->saddr, destination = ip->daddr;
		if ((destination & bpf_htonl(0xe0000000)) == bpf_htonl(0xe0000000))
			return false;
		key->local[2] = key->remote[2] = bpf_htonl(0xffff);
		key->local[3] = from_pod ? source : destination;
		key->remote[3] = from_pod ? destination : source;
		key->protocol = ip->protocol;
	} else if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr *ip = data + at;

		transport = (__u8 *)(ip + 1);
		if ((void *)(transport + 8) > end)
			return false;
		if ((*(__u8 *)ip & 0xf0) != 0x60 || ip->daddr.in6_u.u6_addr8[0] == 0xff)
			return false;
		struct in6_addr *local = from_pod ? &ip->saddr : &ip->daddr;
		struct in6_addr *remote = from_pod ? &ip->daddr : &ip->saddr;
#pragma unroll
		for (int i = 0; i < 4; i++) {
			key->local[i] = local->in6_u.u6_addr32[i];
			key->remote[i] = remote->in6_u.u6_addr32[i];
		}
		key->protocol = ip->nexthdr;
	} else {
		return false;
	}
	if (key->protocol == IPPROTO_TCP) {
		if ((void *)(transport + 14) > end || (transport[13] & FIN_SYN_RST))
			return false;
	} else if (key->protocol != IPPROTO_UDP) {
		return false;
	}
	__be16 source_port = ((__be16 *)transport)[0], destination_port = ((__be16 *)transport)[1];
	key->local_port = from_pod ? source_port : destination_port;
	key->remote_port = from_pod ? destination_port : source_port;
	return true;
}

/* Counts a packet of a flow. Whether it is the first of a tick on its way. */
static __always_inline bool add(struct flow *flow, struct __sk_buff *skb, __u64 bytes, bool from_client, __u64 now)
{
	__u64 packets = skb->gso_segs ? skb->gso_segs : 1;
	struct way *way = from_client ? &flow->to_server : &flow->to_client;

	__sync_fetch_and_add(&way->bytes, bytes);
	__sync_fetch_and_add(&way->packets, packets);
	if (!from_client && !flow->replied)
		flow->replied = true;
	if (way->last_ns == now)
		return false;
	way->last_ns = now;
	return true;
}

/* What became of a packet, or LONG_WAY; `key` is written over. Arguments as those of `handle`. */
static __always_inline int handle_quickly(struct __sk_buff *skb, bool from_pod, __u32 ifindex, const __u32 at,
					  const struct settings *set, __u64 now, struct flow_key *key)
{
	__builtin_memset(key, 0, sizeof(*key));
	key->ifindex = ifindex;
	if (!read_quickly(skb, from_pod, at, key))
		return LONG_WAY;
	struct flow *flow = bpf_map_lookup_elem(&flows, key);
	if (!flow || flow->generation != set->generation)
		return LONG_WAY;
	/* Until the server has answered it may turn out who that is. */
	if (flow->local_client && !flow->replied)
		return LONG_WAY;
	if (flow->verdict == DENY || (flow->verdict == VIOLATE && !flow->reported))
		return LONG_WAY;
	/* Packets wait, and copies are made, at interfaces alone. */
	if (at && ((flow->waits && flow->said != CLEAN) || find_tap(ifindex, flow, false, now)))
		return LONG_WAY;
	if (add(flow, skb, skb->len - at, !flow->local_client != from_pod, now) && flow->waits)
		forget_clean(flow, now);
	return TC_ACT_UNSPEC;
}

#endif
