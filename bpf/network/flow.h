/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
 *
 * A flow from its first packet on: its roles, its verdict and what it is told of it.
 */
#ifndef NV_NETWORK_FLOW_H
#define NV_NETWORK_FLOW_H

#include "judge.h"
#include "packet.h"

/* Who is the client when the first packet of a flow is seen; sets *guessed when the packet does not say. */
static __always_inline bool find_local_client(const struct packet *p, bool from_pod, bool *guessed)
{
	__u16 local = bpf_ntohs(p->key.local_port), remote = bpf_ntohs(p->key.remote_port);

	*guessed = false;
	if (p->key.protocol == IPPROTO_TCP) {
		if (p->syn)
			return p->ack ? !from_pod : from_pod;
		*guessed = true;
		return local == remote ? from_pod : remote < local;
	}
	if (p->key.protocol == IPPROTO_UDP) {
		__u16 source = from_pod ? local : remote, destination = from_pod ? remote : local;
		/* A late answer of a server whose flow is forgotten. */
		*guessed = source < 1024 && destination >= 1024;
		return *guessed ? !from_pod : from_pod;
	}
	return p->echo_reply ? !from_pod : from_pod;
}

static __always_inline bool report(__u32 kind, const struct flow_key *key, const struct flow *flow, __u32 rule,
				   __u8 verdict, __u8 previous, bool urgent)
{
	struct flow_event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event) {
		count(EVENTS_LOST);
		return false;
	}
	event->kind = kind;
	event->endpoint = flow->endpoint;
	event->ns = bpf_ktime_get_ns();
	__builtin_memcpy(&event->key, key, sizeof(*key));
	event->flags = flow->flags;
	event->client = flow->client;
	event->server = flow->server;
	event->rule = rule;
	event->generation = flow->generation;
	event->verdict = verdict;
	event->previous = previous;
	__builtin_memset(event->zero, 0, sizeof(event->zero));
	bpf_ringbuf_submit(event, wake(urgent));
	return true;
}

static __always_inline int answer(__u8 verdict)
{
	if (verdict != DENY)
		return TC_ACT_UNSPEC;
	count(DENIED_PACKETS);
	return TC_ACT_SHOT;
}

/* Frames without a flow: free unless the pod is cut off, or protected and the frame cannot be judged. */
static __always_inline int answer_untracked(__u32 ifindex, enum parsed parsed)
{
	struct endpoint *endpoint = bpf_map_lookup_elem(&endpoints, &ifindex);
	__u32 zero = 0;
	struct settings *set = bpf_map_lookup_elem(&settings, &zero);

	if (!endpoint || !set)
		return TC_ACT_UNSPEC;
	if (parsed == UNKNOWN)
		count(UNPARSED);
	bool deny = endpoint->quarantined ||
		    (parsed == UNKNOWN && !set->disabled && mode_of(endpoint->identity) == PROTECT);
	return answer(deny ? DENY : OPEN);
}

static __always_inline void tally(struct flow *flow, struct __sk_buff *skb, const struct packet *p, bool from_pod,
				  __u64 now)
{
	__u32 flags = flow->flags, add = 0;
	bool from_client = !(flags & LOCAL_CLIENT) != from_pod;
	__u64 bytes = p->bytes;
	__u64 packets = skb->gso_segs ? skb->gso_segs : 1;

	if (from_client) {
		__sync_fetch_and_add(&flow->bytes_to_server, bytes);
		__sync_fetch_and_add(&flow->packets_to_server, packets);
	} else {
		__sync_fetch_and_add(&flow->bytes_to_client, bytes);
		__sync_fetch_and_add(&flow->packets_to_client, packets);
		add = REPLIED;
	}
	flow->last_ns = now;
	if (p->fin)
		add |= from_client ? FIN_CLIENT : FIN_SERVER;
	if (p->rst || (((flags | add) & FIN_CLIENT) && ((flags | add) & FIN_SERVER)))
		add |= CLOSED;
	if (add & ~flags)
		__sync_fetch_and_or(&flow->flags, add);
}

/* The first packet of a flow. Not inlined, like the others off the fast path: it runs once a flow. */
static __noinline int open_flow(struct __sk_buff *skb, struct packet *p, bool from_pod, const struct settings *set,
				__u64 now)
{
	struct endpoint *endpoint = bpf_map_lookup_elem(&endpoints, &p->key.ifindex);
	struct judgement j = {};
	bool guessed;

	if (!endpoint) {
		count(NO_ENDPOINT);
		return TC_ACT_UNSPEC;
	}
	bool local_client = find_local_client(p, from_pod, &guessed);
	judge(&p->key, local_client, endpoint, set, &j);
	if (guessed && p->key.protocol == IPPROTO_TCP && !j.matched && !j.quarantined) {
		/* The ports told nothing that a rule knows. Without a SYN nothing can be opened, so that the other
		 * way round may be taken where a rule allows it. */
		struct judgement turned = {};
		judge(&p->key, !local_client, endpoint, set, &turned);
		if (turned.matched && turned.verdict != DENY && turned.verdict != VIOLATE) {
			local_client = !local_client;
			j = turned;
		}
	}
	/* A stray reset is not a connection. */
	if (p->rst)
		return answer(j.verdict);

	struct flow fresh = {
		.first_ns = bpf_ktime_get_ns(),
		.last_ns = now,
		.generation = set->generation,
		.rule = j.rule,
		.client = j.client,
		.server = j.server,
		.flags = (local_client ? LOCAL_CLIENT : 0) | (guessed ? MID_STREAM : 0) |
			 (j.quarantined ? QUARANTINED : 0),
		.sessions = 1,
		.endpoint = endpoint->number,
		.verdict = j.verdict,
	};
	bool created = !bpf_map_update_elem(&flows, &p->key, &fresh, BPF_NOEXIST);
	struct flow *flow = bpf_map_lookup_elem(&flows, &p->key);
	if (created)
		count(FLOWS_CREATED);
	if (!flow) {
		count(FLOWS_NOT_STORED);
		return answer(j.verdict);
	}
	if (created && report(FLOW_NEW, &p->key, flow, j.rule, j.verdict, NO_VERDICT,
			      j.verdict != ALLOW && j.verdict != OPEN))
		__sync_fetch_and_or(&flow->flags, REPORTED);
	tally(flow, skb, p, from_pod, now);
	return answer(j.verdict);
}

/* The tables have changed since the flow was judged. The roles stay. False when the interface is ours no more. */
static __noinline bool judge_again(struct packet *p, struct flow *flow, const struct settings *set)
{
	struct endpoint *endpoint = bpf_map_lookup_elem(&endpoints, &p->key.ifindex);
	struct judgement j = {};
	__u32 generation = flow->generation;

	if (!endpoint)
		return false;
	judge(&p->key, flow->flags & LOCAL_CLIENT, endpoint, set, &j);
	__u8 previous = flow->verdict;
	flow->client = j.client;
	flow->server = j.server;
	flow->rule = j.rule;
	flow->endpoint = endpoint->number;
	flow->verdict = j.verdict;
	if (j.quarantined)
		__sync_fetch_and_or(&flow->flags, QUARANTINED);
	else if (flow->flags & QUARANTINED)
		__sync_fetch_and_and(&flow->flags, ~QUARANTINED);
	/* Of several CPUs one reports. */
	if (__sync_val_compare_and_swap(&flow->generation, generation, set->generation) == generation) {
		count(FLOWS_REEVALUATED);
		__sync_fetch_and_and(&flow->flags, ~TURNED);
		if (previous != j.verdict)
			report(FLOW_CHANGED, &p->key, flow, j.rule, j.verdict, previous, true);
	}
	return true;
}

/* A packet at `ifindex` whose network header begins at `at`, tags apart. */
static __always_inline int handle(struct __sk_buff *skb, bool from_pod, __u32 ifindex, const __u32 at)
{
	struct packet p = { .key.ifindex = ifindex, .bytes = skb->len - at };
	enum parsed parsed = parse(skb, from_pod, at, &p);
	__u32 zero = 0;

	if (parsed == LINK)
		return TC_ACT_UNSPEC;
	if (parsed != TRACKED)
		return answer_untracked(p.key.ifindex, parsed);
	struct settings *set = bpf_map_lookup_elem(&settings, &zero);
	if (!set)
		return TC_ACT_UNSPEC;

	/* The exact time costs more than the rest of the packet; it is read once a flow. */
	__u64 now = bpf_ktime_get_coarse_ns();
	struct flow *flow = bpf_map_lookup_elem(&flows, &p.key);
	if (!flow)
		return open_flow(skb, &p, from_pod, set, now);

	if (p.syn && !p.ack) {
		__u32 flags = flow->flags;
		bool same_roles = !(flags & LOCAL_CLIENT) != from_pod;

		if (same_roles) {
			if (flags & (CLOSED | REPLIED)) {
				/* The same ports again: another session of the flow. */
				__sync_fetch_and_add(&flow->sessions, 1);
				__sync_fetch_and_and(&flow->flags,
						     ~(CLOSED | FIN_CLIENT | FIN_SERVER | REPLIED | MID_STREAM));
			}
		} else if (flags & (CLOSED | MID_STREAM)) {
			bpf_map_delete_elem(&flows, &p.key);
			return open_flow(skb, &p, from_pod, set, now);
		} else {
			/* The server opens towards the client on the very ports of a live connection. It is judged as
			 * its own attempt, and does not touch the connection unless it is allowed. */
			struct endpoint *endpoint = bpf_map_lookup_elem(&endpoints, &p.key.ifindex);
			struct judgement j = {};
			if (!endpoint)
				return TC_ACT_UNSPEC;
			judge(&p.key, from_pod, endpoint, set, &j);
			if (j.verdict != DENY && j.verdict != VIOLATE) {
				bpf_map_delete_elem(&flows, &p.key);
				return open_flow(skb, &p, from_pod, set, now);
			}
			if (!(__sync_fetch_and_or(&flow->flags, TURNED) & TURNED))
				report(FLOW_TURNED, &p.key, flow, j.rule, j.verdict, NO_VERDICT, true);
			return answer(j.verdict);
		}
	}
	if (flow->generation != set->generation && !judge_again(&p, flow, set)) {
		bpf_map_delete_elem(&flows, &p.key);
		return TC_ACT_UNSPEC;
	}
	__u8 verdict = flow->verdict;
	/* The ring was full when it began. */
	if (!(flow->flags & REPORTED) && verdict >= VIOLATE &&
	    report(FLOW_NEW, &p.key, flow, flow->rule, verdict, NO_VERDICT, true))
		__sync_fetch_and_or(&flow->flags, REPORTED);
	tally(flow, skb, &p, from_pod, now);
	return answer(verdict);
}

#endif
