/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
 *
 * Copies of packets for inspection, of those flows whose bytes still tell something, while somebody inspects.
 *
 * A copy goes out as it is, without a word on where it was taken: whoever reads it knows the flow by its addresses and
 * ports, and this node's flows by the same. So no packet of a pod is ever written to or marked, and each is copied at
 * one place only: a flow between two pods of the node is left to the end that saw it first.
 */
#ifndef NV_NETWORK_TAP_H
#define NV_NETWORK_TAP_H

#include "packet.h"

/* The first packet of a flow comes to a pod: was it copied at the interface that it came in by? Under other addresses,
 * translated on the way, it is another flow, and copied here as well. */
static __noinline void find_other_end(struct __sk_buff *skb, const struct packet *p, struct flow *here)
{
	struct flow_key key = {
		.ifindex = skb->ingress_ifindex,
		.local_port = p->key.remote_port,
		.remote_port = p->key.local_port,
		.protocol = p->key.protocol,
	};
	__builtin_memcpy(key.local, p->key.remote, 16);
	__builtin_memcpy(key.remote, p->key.local, 16);
	__builtin_memcpy(key.vlan, p->key.vlan, 3);
	struct flow *there = bpf_map_lookup_elem(&flows, &key);
	if (there && !there->elsewhere)
		here->elsewhere = true;
}

/* Whether inspection has said that it knows enough of the flow, since it began. */
static __always_inline bool is_inspected(const struct packet *p, struct flow *flow)
{
	struct inspected_key key = {
		.local_port = p->key.local_port,
		.remote_port = p->key.remote_port,
		.protocol = p->key.protocol,
	};
	__builtin_memcpy(key.local, p->key.local, 16);
	__builtin_memcpy(key.remote, p->key.remote, 16);
	__u64 *said = bpf_map_lookup_elem(&inspected, &key);
	if (!said)
		return false;
	bool is_ours = *said > flow->first_ns;
	bpf_map_delete_elem(&inspected, &key);
	if (is_ours)
		flow->inspected = true;
	return is_ours;
}

static __always_inline bool is_edge(const struct packet *p)
{
	return p->syn || p->fin || p->rst;
}

/* Several readers share the pods, so that both ways of a connection go to one. Numbers of veths are often all even: they are
 * spread by the golden ratio. As Share::has. */
static __always_inline __u32 place_of(__u32 ifindex)
{
	return (__u32)(ifindex * 2654435769u) >> 28 & (PLACES - 1);
}

/* Who copies the packets of a flow, if anybody does, as far as the flow itself tells. Beginnings and ends are always copied, so
 * that inspection does not keep flows that are over. */
static __always_inline struct tap *find_tap(__u32 ifindex, const struct flow *flow, bool is_end, __u64 now)
{
	__u32 place = place_of(ifindex);

	if (flow->elsewhere || (flow->inspected && !is_end))
		return NULL;
	struct tap *to = bpf_map_lookup_elem(&taps, &place);
	return to && to->until_ns >= now ? to : NULL;
}

static __noinline void copy(struct __sk_buff *skb, const struct packet *p, struct flow *flow, const struct tap *to)
{
	if (!flow->inspected && is_inspected(p, flow) && !is_edge(p))
		return;
	count(bpf_clone_redirect(skb, to->ifindex, 0) ? TAP_FAILED : TAPPED);
}

/* Copies a packet where it is to be. No call where it is not, as with most packets. */
static __always_inline void tap(struct __sk_buff *skb, const struct packet *p, struct flow *flow, __u64 now)
{
	struct tap *to = find_tap(p->key.ifindex, flow, is_edge(p), now);

	if (to)
		copy(skb, p, flow, to);
}

#endif
