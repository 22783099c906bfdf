/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
 *
 * Packets that wait for an inspector. They leave their way for an interface of the node's own, whose other end the inspector
 * reads; what may go on comes back by it, to where it has left its way:
 *
 *     pod ─► from_pod ─┐                            ┌─► from_pod ─► node
 *                      ├─► detour ═► inspector ═► from_detour
 *     node ─► to_pod ──┘                            └─► to_pod ─► pod
 *
 * A frame on the detour has a waybill in the place of its source's link address, which is kept with its flow meanwhile. With
 * it the inspector says what holds for the whole flow, and packets of one that is clean leave their way no more. A frame that
 * has come back is marked, for the few instructions until it is where it was: no packet comes out of a pod, or out of a
 * translation of addresses, with a mark that it could have made up, as a pod's marks end at its veth.
 */
#ifndef NV_NETWORK_DETOUR_H
#define NV_NETWORK_DETOUR_H

#include <linux/if_ether.h>
#include "packet.h"
#include "tap.h"

/* How long a flow is clean. Then one packet each way waits again, so that the inspector hears of flows that go on, and
 * datagrams of others that come to have the same ends do not go on for long. */
#define CLEAN_NS (60ULL * 1000000000ULL)

enum says {
	SAYS_LEAVES = 1 << 0, /* it was on its way out of the pod, or is to go that way; else into it */
	SAYS_CLEAN = 1 << 1,  /* no more packet of its flow has to wait */
	SAYS_CUT = 1 << 2,    /* no more packet of its flow passes, nor this one */
	SAYS_TURNED = 1 << 3, /* made by the inspector, as an answer to one that came from the other side */
};

/* In the place of the source's link address. */
struct waybill {
	__u8 kind; /* WAYBILL: an address that nobody's card has */
	__u8 says;
	__u8 ifindex[4]; /* in network order */
};
#define WAYBILL 0x02
#define SOURCE_AT ETH_ALEN

/* Whether it comes back from its inspector, to go on. */
static __always_inline bool has_come_back(struct __sk_buff *skb, const struct settings *set)
{
	if (!skb->mark || skb->mark != set->token)
		return false;
	skb->mark = 0;
	return true;
}

/* Some time after a flow was said to be clean it waits again. */
static __always_inline void forget_clean(struct flow *flow, __u64 now)
{
	if (flow->said == CLEAN && now - flow->clean_ns > CLEAN_NS)
		flow->said = NOTHING;
}

/* What becomes of a packet of a flow that waits. */
static __noinline int wait(struct __sk_buff *skb, struct packet *p, struct flow *flow, bool from_pod, __u64 now)
{
	struct waybill bill = { .kind = WAYBILL, .says = from_pod ? SAYS_LEAVES : 0 };
	__u32 place = place_of(p->key.ifindex);
	__be32 ifindex = bpf_htonl(p->key.ifindex);

	if (flow->said == CLEAN)
		return TC_ACT_UNSPEC;
	if (flow->said == CUT) {
		count(CUT_PACKETS);
		return p->rst ? TC_ACT_UNSPEC : TC_ACT_SHOT;
	}
	struct tap *to = bpf_map_lookup_elem(&detours, &place);
	if (!to || to->until_ns < now) {
		count(WAITED_FOR_NOBODY);
		return flow->waits == WAIT_OR_DROP ? TC_ACT_SHOT : TC_ACT_UNSPEC;
	}
	/* A tag that the kernel has taken out of the frame would be lost to who reads it there: in front of one without meaning
	 * it goes back into it. */
	if (skb->vlan_present && bpf_skb_vlan_push(skb, bpf_htons(ETH_P_8021Q), 0))
		return TC_ACT_SHOT;
	__u8 source[ETH_ALEN];
	if (bpf_skb_load_bytes(skb, SOURCE_AT, source, ETH_ALEN))
		return TC_ACT_SHOT;
	__builtin_memcpy(flow->sources[from_pod & 1], source, ETH_ALEN);
	__builtin_memcpy(bill.ifindex, &ifindex, sizeof(ifindex));
	if (bpf_skb_store_bytes(skb, SOURCE_AT, &bill, sizeof(bill), 0))
		return TC_ACT_SHOT;
	count(WAITED);
	return bpf_redirect(to->ifindex, 0);
}

#endif
