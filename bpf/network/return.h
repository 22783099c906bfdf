/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
 *
 * A frame that comes back from its inspector (detour.h).
 */
#ifndef NV_NETWORK_RETURN_H
#define NV_NETWORK_RETURN_H

#include "flow.h"

/* A frame from an inspector. */
static __always_inline int come_back(struct __sk_buff *skb)
{
	struct waybill bill;
	__be32 ifindex;
	__u32 zero = 0;
	struct settings *set = bpf_map_lookup_elem(&settings, &zero);

	if (!set || !set->token || bpf_skb_load_bytes(skb, SOURCE_AT, &bill, sizeof(bill)) || bill.kind != WAYBILL)
		return TC_ACT_SHOT;
	__builtin_memcpy(&ifindex, bill.ifindex, sizeof(ifindex));
	struct packet p = { .key.ifindex = bpf_ntohl(ifindex) };
	bool leaves = bill.says & SAYS_LEAVES;

	if (parse(skb, leaves, ETH_HLEN, &p) != TRACKED)
		return TC_ACT_SHOT;
	forget(&p);
	struct flow *flow = bpf_map_lookup_elem(&flows, &p.key);
	/* By the tables of now: they may have changed while it waited, and whoever has taken an inspector over says nothing in a
	 * connection that is denied. */
	if (!flow || (flow->generation != set->generation && !judge_again(&p, flow, set)) || flow->verdict == DENY) {
		count(NOT_COME_BACK);
		return TC_ACT_SHOT;
	}
	if (bill.says & SAYS_CUT) {
		flow->said = CUT;
		count(CUT_PACKETS);
		return TC_ACT_SHOT;
	}
	if (bill.says & SAYS_CLEAN) {
		struct endpoint *endpoint = bpf_map_lookup_elem(&endpoints, &p.key.ifindex);

		if (endpoint && flow->said == NOTHING) {
			flow->judging = endpoint->judging;
			flow->clean_ns = coarse_nanos();
			flow->said = CLEAN;
			flow->inspected = true;
		}
	}
	__u8 source[ETH_ALEN], destination[ETH_ALEN];
	if (bill.says & SAYS_TURNED) {
		/* Its destination is whom the other one was for. */
		__builtin_memcpy(destination, flow->sources[!leaves], ETH_ALEN);
		if (bpf_skb_load_bytes(skb, 0, source, ETH_ALEN) || bpf_skb_store_bytes(skb, 0, destination, ETH_ALEN, 0))
			return TC_ACT_SHOT;
	} else {
		__builtin_memcpy(source, flow->sources[leaves], ETH_ALEN);
	}
	if (bpf_skb_store_bytes(skb, SOURCE_AT, source, ETH_ALEN, 0))
		return TC_ACT_SHOT;
	skb->mark = set->token;
	return bpf_redirect(p.key.ifindex, leaves ? BPF_F_INGRESS : 0);
}

#endif
