/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
 *
 * What the sockets of a container send and are sent, where its packets pass no veth: on the host's network, and on
 * interfaces of other kinds. The programs are attached to the cgroups of such containers alone, so that no other packet
 * comes here. A socket is a "pod" of its container: the same flows, verdicts and records as at an interface.
 */
#ifndef NV_NETWORK_SOCKET_H
#define NV_NETWORK_SOCKET_H

#include "flow.h"

#define PASS 1
#define DROP 0

/* Where a socket belongs: its cgroup's row or that of the nearest one above. */
static __always_inline struct place *place_of_socket(struct __sk_buff *skb)
{
	__u64 id = bpf_skb_cgroup_id(skb);
	struct place *place = bpf_map_lookup_elem(&places, &id);

	for (int level = CGROUP_DEPTH; !place && level > 0; level--) {
		id = bpf_skb_ancestor_cgroup_id(skb, level);
		if (id)
			place = bpf_map_lookup_elem(&places, &id);
	}
	return place;
}

static __always_inline int at_socket(struct __sk_buff *skb, bool from_pod)
{
	struct place *place = place_of_socket(skb);

	if (!place || !place->endpoint || skb->ifindex == place->veths[0] || skb->ifindex == place->veths[1])
		return PASS;
	int answer = handle(skb, from_pod, place->endpoint, 0, false, !is_cut_off(place));
	return answer == TC_ACT_SHOT ? DROP : PASS;
}

SEC("cgroup_skb/egress")
int from_socket(struct __sk_buff *skb)
{
	return at_socket(skb, true);
}

SEC("cgroup_skb/ingress")
int to_socket(struct __sk_buff *skb)
{
	return at_socket(skb, false);
}

#endif
