// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Layer 3 and 4 verdicts at the host end of a pod's veth, at the sockets of containers whose packets pass none, and who
 * opened which connection.
 *
 * from_pod    ingress of the host end: what the pod sends.
 * to_pod      egress of the host end: what the pod is sent.
 * from_detour ingress of the interface by which packets come back that have waited for an inspector.
 * from_socket egress of a container's cgroup: what its sockets send.
 * to_socket   ingress of a container's cgroup: what its sockets are sent.
 * connect_* and sendmsg_* at the root of cgroup v2: the process behind a connection. They deny where a container's
 *             packets do not pass an interface of ours.
 *
 * A frame is reduced to a flow key as its own interface sees it (local = the pod, remote = the other one), so both
 * directions share one entry and one lookup. Who is the client is a flag of the entry, set by the first packet.
 * An entry holds the verdict of one generation of the tables; a packet that finds an older one evaluates anew and
 * keeps the roles, so that a change of policy never turns an established connection around.
 *
 * What is not tracked:
 *  - ARP and IPv6 neighbour discovery pass, always.
 *  - Multicast and limited broadcast destinations and ICMP other than echo pass, except in quarantine. ICMP is
 *    always open; echo is tracked for the record.
 *  - Fragments follow the first fragment of their datagram, which is remembered by its id. One that comes without its
 *    first, a third VLAN tag, a truncated header or more than EXTENSIONS extension headers cannot be judged: it is
 *    dropped where the pod's own mode is Protect, and passes elsewhere. All are counted.
 *  - An interface without a row in `endpoints` is left alone.
 */
#include "network/connect.h"
#include "network/flow.h"
#include "network/return.h"
#include "network/socket.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

SEC("tc")
int from_pod(struct __sk_buff *skb)
{
	return handle(skb, true, skb->ifindex, ETH_HLEN, true, true);
}

SEC("tc")
int to_pod(struct __sk_buff *skb)
{
	return handle(skb, false, skb->ifindex, ETH_HLEN, true, true);
}

SEC("tc")
int from_detour(struct __sk_buff *skb)
{
	return come_back(skb);
}
