/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
 *
 * A flow from its first packet on: its roles, its verdict and what it is told of it.
 */
#ifndef NV_NETWORK_FLOW_H
#define NV_NETWORK_FLOW_H

#include "detour.h"
#include "judge.h"
#include "packet.h"
#include "quick.h"
#include "tap.h"
#include "translation.h"

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

static __always_inline bool report(__u32 kind, const struct flow_key *key, const struct flow *flow,
				   const struct judgement *j, __u8 previous, __u32 decision_ns, bool urgent)
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
	event->local_client = flow->local_client;
	event->mid_stream = flow->mid_stream;
	event->quarantined = flow->quarantined;
	event->zero = 0;
	event->client = flow->client;
	event->server = flow->server;
	event->rule = j->rule;
	event->generation = flow->generation;
	event->verdict = j->verdict;
	event->previous = previous;
	event->peer_port = flow->peer_port;
	event->decision_ns = decision_ns;
	__builtin_memcpy(event->peer, flow->peer, sizeof(event->peer));
	bpf_ringbuf_submit(event, wake(urgent));
	return true;
}

/* Judges a flow by its ends as they are behind a translation of addresses. */
static __always_inline void judge_ends(const struct flow_key *key, const __u32 peer[4], __be16 peer_port,
				       bool local_client, const struct endpoint *endpoint,
				       const struct settings *set, struct judgement *j)
{
	bool translated = is_set(peer);

	j->remote = identity_of(translated ? peer : key->remote);
	j->port = !local_client ? key->local_port : translated ? peer_port : key->remote_port;
	j->protocol = key->protocol;
	judge(local_client, endpoint, set, j);
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

/* The kernel has chosen who serves the flow by now: it is judged by that from here on. */
static __noinline void settle_peer(struct __sk_buff *skb, struct packet *p, struct flow *flow,
				   const struct settings *set)
{
	struct service_key key = { .port = p->key.remote_port, .protocol = p->key.protocol };
	bool assumed = flow->assumed, same = true;
	bool translated = find_peer(skb, p);

	flow->asked = translations;
	if (!translated && !assumed)
		return;
	__builtin_memcpy(key.address, p->key.remote, sizeof(key.address));
	if (translated) {
		struct service service = { .identity = identity_of(p->peer), .peer_port = p->peer_port };
		__builtin_memcpy(service.peer, p->peer, sizeof(service.peer));
		bpf_map_update_elem(&services, &key, &service, BPF_ANY);
	} else {
		bpf_map_delete_elem(&services, &key);
	}
	for (int i = 0; i < 4; i++) {
		same = same && flow->peer[i] == p->peer[i];
		flow->peer[i] = p->peer[i];
	}
	same = same && flow->peer_port == p->peer_port;
	flow->peer_port = p->peer_port;
	flow->assumed = false;
	/* Judged by the identity that the last one had, or by another end: again, as after a change of the tables. */
	if (!same || assumed)
		flow->generation = set->generation - 1;
}

static __always_inline void tally(struct flow *flow, struct __sk_buff *skb, const struct packet *p, bool from_pod,
				  __u64 now)
{
	bool from_client = !flow->local_client != from_pod;

	add(flow, skb, p->bytes, from_client, now);
	if (p->fin && from_client)
		flow->fin_client = true;
	else if (p->fin)
		flow->fin_server = true;
	if (p->rst || (flow->fin_client && flow->fin_server))
		flow->closed = true;
}

/* Judges the first packet of a flow, and says who opened it and how that is known. False when the interface is not ours.
 * Not inlined, like the others off the fast path: it runs once a flow. */
static __noinline int judge_first(struct packet *p, bool from_pod, const struct settings *set)
{
	__u64 begin = bpf_ktime_get_ns();
	bool guessed;
	struct endpoint *endpoint = bpf_map_lookup_elem(&endpoints, &p->key.ifindex);
	struct judgement *j = &p->first;

	if (!endpoint) {
		count(NO_ENDPOINT);
		return false;
	}
	bool local_client = find_local_client(p, from_pod, &guessed);
	/* At a socket an answer carries the service's address as well, and who is behind it cannot be asked. */
	bool assumed = local_client && (from_pod || p->key.ifindex >> 31) &&
		       judge_service(p->key.remote, p->key.remote_port, p->key.protocol, endpoint, set, j, p->peer,
				     &p->peer_port);
	if (!assumed)
		judge_ends(&p->key, p->peer, p->peer_port, local_client, endpoint, set, j);
	if (guessed && p->key.protocol == IPPROTO_TCP && !j->matched && !j->quarantined) {
		/* The ports told nothing that a rule knows. Without a SYN nothing can be opened, so that the other
		 * way round may be taken where a rule allows it. */
		struct judgement turned = {};
		judge_ends(&p->key, p->peer, p->peer_port, !local_client, endpoint, set, &turned);
		if (turned.matched && passes(&turned)) {
			local_client = !local_client;
			*j = turned;
		}
	}
	/* Nobody here has used this service yet, so that who serves it is not known before the kernel has chosen, which
	 * it does behind this program: one packet goes out, and the next one or the answer is judged. */
	if (!assumed && local_client && from_pod && translations && !(p->key.ifindex >> 31) && !j->matched &&
	    !j->quarantined && !passes(j) && is_service(p->key.remote)) {
		j->verdict = OPEN;
		assumed = true;
	}
	p->local_client = local_client;
	p->guessed = guessed;
	p->assumed = assumed;
	p->endpoint = endpoint->number;
	p->waits = endpoint->waits;
	p->decision_ns = bpf_ktime_get_ns() - begin;
	return true;
}

/* Keeps a flow whose first packet is judged. */
static __noinline int open_flow(struct __sk_buff *skb, struct packet *p, bool from_pod, __u32 generation, __u64 now)
{
	const struct judgement *j = &p->first;
	struct flow fresh = {
		.first_ns = bpf_ktime_get_ns(),
		.generation = generation,
		.rule = j->rule,
		.client = j->client,
		.server = j->server,
		.sessions = 1,
		.endpoint = p->endpoint,
		.waits = p->waits,
		.verdict = j->verdict,
		.local_client = p->local_client,
		.mid_stream = p->guessed,
		.assumed = p->assumed,
		.quarantined = j->quarantined,
		.peer_port = p->peer_port,
		.peer = { p->peer[0], p->peer[1], p->peer[2], p->peer[3] },
	};
	bool created = !bpf_map_update_elem(&flows, &p->key, &fresh, BPF_NOEXIST);
	struct flow *flow = bpf_map_lookup_elem(&flows, &p->key);
	if (created)
		count(FLOWS_CREATED);
	if (!flow) {
		count(FLOWS_NOT_STORED);
		return answer(j->verdict);
	}
	if (created && report(FLOW_NEW, &p->key, flow, j, NO_VERDICT, p->decision_ns,
			      j->verdict != ALLOW && j->verdict != OPEN))
		flow->reported = true;
	tally(flow, skb, p, from_pod, now);
	return answer(j->verdict);
}

/* The tables have changed since the flow was judged. The roles stay. False when the interface is ours no more. */
static __noinline bool judge_again(struct packet *p, struct flow *flow, const struct settings *set)
{
	struct endpoint *endpoint = bpf_map_lookup_elem(&endpoints, &p->key.ifindex);
	struct judgement j = {};

	if (!endpoint)
		return false;
	judge_ends(&p->key, flow->peer, flow->peer_port, flow->local_client, endpoint, set, &j);
	__u8 previous = flow->verdict;
	flow->client = j.client;
	flow->server = j.server;
	flow->rule = j.rule;
	flow->endpoint = endpoint->number;
	flow->verdict = j.verdict;
	flow->quarantined = j.quarantined;
	flow->turned = false;
	flow->waits = endpoint->waits;
	if (flow->said == CLEAN && flow->judging != endpoint->judging)
		flow->said = NOTHING;
	flow->generation = set->generation;
	count(FLOWS_REEVALUATED);
	/* Of two CPUs that come here at once the one behind finds the new verdict; side by side both tell. */
	if (previous != j.verdict)
		report(FLOW_CHANGED, &p->key, flow, &j, previous, 0, true);
	return true;
}

/* The server opens towards the client on the very ports of a live connection. It is judged as its own attempt, and does
 * not touch the connection unless it is allowed: true. */
static __noinline bool judge_attempt(struct packet *p, struct flow *flow, const struct settings *set, bool from_pod,
				     __u8 *verdict)
{
	struct endpoint *endpoint = bpf_map_lookup_elem(&endpoints, &p->key.ifindex);
	struct judgement j = {};

	*verdict = OPEN;
	if (!endpoint)
		return false;
	judge_ends(&p->key, flow->peer, flow->peer_port, from_pod, endpoint, set, &j);
	*verdict = j.verdict;
	if (passes(&j))
		return true;
	if (!flow->turned)
		report(FLOW_TURNED, &p->key, flow, &j, NO_VERDICT, 0, true);
	flow->turned = true;
	return false;
}

/* The ring was full when it began. */
static __noinline void report_late(struct packet *p, struct flow *flow)
{
	struct judgement j = { .rule = flow->rule, .verdict = flow->verdict };

	if (report(FLOW_NEW, &p->key, flow, &j, NO_VERDICT, 0, true))
		flow->reported = true;
}

/* A packet that may pass is led to an inspector, or copied, where it is to be. */
static __always_inline int inspect(struct __sk_buff *skb, struct packet *p, struct flow *flow, bool from_pod, __u64 now)
{
	if (flow->waits)
		return wait(skb, p, flow, from_pod, now);
	tap(skb, p, flow, now);
	return TC_ACT_UNSPEC;
}

/* A packet at `ifindex` whose network header begins at `at`, tags apart. With `tracked` the kernel is asked whether it
 * translates the flow's addresses, which programs at interfaces can; without, the loopback is not judged. */
static __always_inline int handle(struct __sk_buff *skb, bool from_pod, __u32 ifindex, const __u32 at,
				  const bool tracked, bool loopback_open)
{
	__u32 zero = 0;
	struct settings *set = bpf_map_lookup_elem(&settings, &zero);
	if (!set)
		return TC_ACT_UNSPEC;
	/* The exact time costs more than the rest of the packet; it is read once a flow. */
	__u64 now = coarse_nanos();
	if (at && has_come_back(skb, set))
		return TC_ACT_UNSPEC;
	struct packet p; /* one for both ways: a program has 512 bytes of stack */
	int quick = handle_quickly(skb, from_pod, ifindex, at, set, now, &p.key);
	if (quick != LONG_WAY)
		return quick;

	__builtin_memset(&p, 0, sizeof(p));
	p.key.ifindex = ifindex;
	p.bytes = skb->len - at;
	enum parsed parsed = parse(skb, from_pod, at, &p);
	__u8 verdict;

	if (parsed == LINK)
		return TC_ACT_UNSPEC;
	if (!tracked && parsed != UNKNOWN && (is_loopback(p.key.local) || is_loopback(p.key.remote)))
		return answer(loopback_open ? OPEN : DENY);
	if (parsed != TRACKED)
		return answer_untracked(p.key.ifindex, parsed);
	forget(&p);
	struct flow *flow = bpf_map_lookup_elem(&flows, &p.key);
	if (!flow) {
		if (tracked && !from_pod)
			find_peer(skb, &p);
		goto first;
	}
	/* The server's first answer, or the second packet to a service that was not known. */
	if (tracked && flow->local_client && !flow->replied &&
	    (!from_pod || (flow->assumed && !is_set(flow->peer))))
		settle_peer(skb, &p, flow, set);

	if (p.syn && !p.ack) {
		bool same_roles = !flow->local_client != from_pod;

		if (same_roles) {
			if (flow->closed || flow->replied) {
				/* The same ports again: another session of the flow. */
				__sync_fetch_and_add(&flow->sessions, 1);
				flow->closed = flow->fin_client = flow->fin_server = false;
				flow->replied = flow->mid_stream = flow->inspected = false;
				flow->said = NOTHING;
			}
		} else if (flow->closed || flow->mid_stream) {
			bpf_map_delete_elem(&flows, &p.key);
			goto first;
		} else {
			if (!judge_attempt(&p, flow, set, from_pod, &verdict))
				return answer(verdict);
			bpf_map_delete_elem(&flows, &p.key);
			goto first;
		}
	}
	if (flow->generation != set->generation && !judge_again(&p, flow, set)) {
		bpf_map_delete_elem(&flows, &p.key);
		return TC_ACT_UNSPEC;
	}
	verdict = flow->verdict;
	if (!flow->reported && verdict >= VIOLATE)
		report_late(&p, flow);
	tally(flow, skb, &p, from_pod, now);
	if (at && verdict != DENY)
		return inspect(skb, &p, flow, from_pod, now);
	return answer(verdict);
first:
	if (!judge_first(&p, from_pod, set))
		return TC_ACT_UNSPEC;
	/* A stray reset is not a connection. */
	if (p.rst)
		return answer(p.first.verdict);
	int opened = open_flow(skb, &p, from_pod, set->generation, now);
	/* A copy can be made at interfaces alone. */
	if (at && opened != TC_ACT_SHOT) {
		flow = bpf_map_lookup_elem(&flows, &p.key);
		if (flow && !from_pod)
			find_other_end(skb, &p, flow);
		if (flow)
			return inspect(skb, &p, flow, from_pod, now);
	}
	return opened;
}

#endif
