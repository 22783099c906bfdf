// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Layer 3 and 4 verdicts at the host end of a pod's veth, and who opened which connection.
 *
 * from_pod  ingress of the host end: what the pod sends.
 * to_pod    egress of the host end: what the pod is sent.
 * connect_* and sendmsg_* at the root of cgroup v2: the process behind a connection; they never deny.
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
 *    first, a VLAN tag, a truncated header or more than EXTENSIONS extension headers cannot be judged: it is dropped
 *    where the pod's own mode is Protect, and passes elsewhere. All are counted.
 *  - An interface without a row in `endpoints` is left alone.
 *
 * Layouts below have their twins in crates/io/capture/src/rows.rs; the loader compares the sizes.
 */
#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define EXTENSIONS 6
#define EXTERNAL 1 /* identity of an address without a row */
#define NEVER_BLOCK 0x80
#define CONNECT_AGAIN_NS (10ULL * 1000000000ULL)
#define WAKE_BYTES (64 * 1024)

enum verdict { OPEN = 0, LEARN = 1, ALLOW = 2, VIOLATE = 3, DENY = 4, NO_VERDICT = 0xff };
enum mode { NO_MODE = 0, DISCOVER = 1, MONITOR = 2, PROTECT = 3 };
enum action { ACTION_ALLOW = 1, ACTION_DENY = 2, ACTION_LEARNED = 3 };

enum flag {
	LOCAL_CLIENT = 1 << 0, /* the pod opened it */
	MID_STREAM = 1 << 1,   /* its first packet was not seen: the roles are a guess */
	CLOSED = 1 << 2,
	REPORTED = 1 << 3, /* its record is in the ring */
	FIN_CLIENT = 1 << 4,
	FIN_SERVER = 1 << 5,
	REPLIED = 1 << 6, /* the server has sent something */
	QUARANTINED = 1 << 7,
	TURNED = 1 << 8, /* an attempt to open it the other way was reported */
};

enum counter {
	DENIED_PACKETS,
	FLOWS_CREATED,
	FLOWS_REEVALUATED,
	FLOWS_NOT_STORED,
	EVENTS_LOST,
	UNPARSED,
	FRAGMENTS_ALONE,
	NO_ENDPOINT,
	CONNECTS,
	CONNECTS_FOLDED,
	COUNTERS,
};

struct endpoint {
	__u32 identity;
	__u32 number;
	__u32 quarantined;
};

struct address_key {
	__u32 prefix_bits;
	__u8 address[16];
};

struct rule_key {
	__u32 prefix_bits;
	__u32 client;
	__u32 server;
	__u8 protocol;
	__u8 zero;
	__be16 port;
};

struct rule {
	__u32 action;
	__u32 rule;
};

struct settings {
	__u32 generation;
	__u32 strict;
	__u32 disabled;
};

struct flow_key {
	__u32 ifindex;
	__u32 local[4];
	__u32 remote[4];
	__be16 local_port;
	__be16 remote_port;
	__u8 protocol;
	__u8 zero[3];
};

struct flow {
	__u64 bytes_to_server;
	__u64 bytes_to_client;
	__u64 packets_to_server;
	__u64 packets_to_client;
	__u64 first_ns; /* monotonic */
	__u64 last_ns;	/* monotonic, by the last tick */
	__u32 generation;
	__u32 rule;
	__u32 client;
	__u32 server;
	__u32 flags;
	__u32 sessions;
	__u32 endpoint;
	__u8 verdict;
	__u8 zero[3];
};

struct fragment_key {
	__u32 ifindex;
	__u32 id;
	__u32 local[4];
	__u32 remote[4];
	__u8 protocol;
	__u8 from_pod;
	__u8 zero[2];
};

struct fragment {
	__be16 local_port;
	__be16 remote_port;
};

enum event_kind { FLOW_NEW = 1, FLOW_CHANGED = 2, FLOW_TURNED = 3, CONNECT = 4 };

struct flow_event {
	__u32 kind;
	__u32 endpoint;
	__u64 ns;
	struct flow_key key;
	__u32 flags;
	__u32 client;
	__u32 server;
	__u32 rule;
	__u32 generation;
	__u8 verdict;
	__u8 previous;
	__u8 zero[6];
};

struct connect_event {
	__u32 kind;
	__u32 pid;
	__u64 ns;
	__u64 cgroup;
	__u32 address[4];
	__be16 port;
	__u8 protocol;
	__u8 zero;
	__u32 uid;
	char command[16];
};

struct connect_key {
	__u64 cgroup;
	__u32 address[4];
	__u32 pid;
	__be16 port;
	__u8 protocol;
	__u8 zero;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, struct endpoint);
} endpoints SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct address_key);
	__type(value, __u32);
} addresses SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, __u32);
} modes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 262144);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct rule_key);
	__type(value, struct rule);
} rules SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct settings);
} settings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct flow_key);
	__type(value, struct flow);
} flows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct fragment_key);
	__type(value, struct fragment);
} fragments SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct connect_key);
	__type(value, __u64);
} connects SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNTERS);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} events SEC(".maps");

static __always_inline void count(__u32 which)
{
	__u64 *value = bpf_map_lookup_elem(&counters, &which);
	if (value)
		*value += 1;
}

/* Reports that somebody waits for wake the reader; the rest wait for its next look or for a full batch. */
static __always_inline __u64 wake(bool urgent)
{
	if (urgent)
		return 0;
	return bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA) >= WAKE_BYTES ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP;
}

/* === A frame becomes a flow key === */

enum parsed {
	TRACKED,  /* the key is complete */
	UNTRACKED, /* open, except in quarantine */
	LINK,	  /* finds link addresses: always open */
	UNKNOWN,  /* cannot be judged */
};

struct packet {
	struct flow_key key;
	__u32 fragment_id;
	bool fragment;	     /* not the first of its datagram */
	bool more_fragments; /* the first of its datagram */
	bool syn, ack, fin, rst;
	bool echo_reply;
};

/* Headers lie in the linear part nearly always; reading them there saves the call. False when the frame is too short. */
static __always_inline bool load(struct __sk_buff *skb, __u32 at, void *into, const __u32 length)
{
	void *from = (void *)(long)skb->data + at;

	if (from + length <= (void *)(long)skb->data_end) {
		__builtin_memcpy(into, from, length);
		return true;
	}
	return !bpf_skb_load_bytes(skb, at, into, length);
}

static __always_inline void set_ends(struct packet *p, bool from_pod, const __u32 source[4], const __u32 destination[4])
{
#pragma unroll
	for (int i = 0; i < 4; i++) {
		p->key.local[i] = from_pod ? source[i] : destination[i];
		p->key.remote[i] = from_pod ? destination[i] : source[i];
	}
}

static __always_inline enum parsed parse_transport(struct __sk_buff *skb, bool from_pod, __u32 at, struct packet *p)
{
	struct fragment_key fragment_key = {
		.ifindex = p->key.ifindex,
		.id = p->fragment_id,
		.protocol = p->key.protocol,
		.from_pod = from_pod,
	};
	struct fragment ports = {};
	__u8 header[14];

	if (p->fragment || p->more_fragments) {
		__builtin_memcpy(fragment_key.local, p->key.local, 16);
		__builtin_memcpy(fragment_key.remote, p->key.remote, 16);
	}
	if (p->fragment) {
		struct fragment *first = bpf_map_lookup_elem(&fragments, &fragment_key);
		if (!first) {
			count(FRAGMENTS_ALONE);
			return UNKNOWN;
		}
		p->key.local_port = first->local_port;
		p->key.remote_port = first->remote_port;
		return TRACKED;
	}
	switch (p->key.protocol) {
	case IPPROTO_TCP:
		if (!load(skb, at, header, 14))
			return UNKNOWN;
		p->fin = header[13] & 0x01;
		p->syn = header[13] & 0x02;
		p->rst = header[13] & 0x04;
		p->ack = header[13] & 0x10;
		break;
	case IPPROTO_UDP:
		if (!load(skb, at, header, 4))
			return UNKNOWN;
		break;
	case IPPROTO_ICMP:
		if (!load(skb, at, header, 1))
			return UNKNOWN;
		if (header[0] != 8 && header[0] != 0)
			return UNTRACKED;
		p->echo_reply = header[0] == 0;
		goto without_ports;
	case IPPROTO_ICMPV6:
		if (!load(skb, at, header, 1))
			return UNKNOWN;
		if (header[0] >= 133 && header[0] <= 137)
			return LINK;
		if (header[0] != 128 && header[0] != 129)
			return UNTRACKED;
		p->echo_reply = header[0] == 129;
		goto without_ports;
	default:
		goto without_ports;
	}
	{
		__be16 source, destination;
		__builtin_memcpy(&source, header, 2);
		__builtin_memcpy(&destination, header + 2, 2);
		p->key.local_port = from_pod ? source : destination;
		p->key.remote_port = from_pod ? destination : source;
	}
without_ports:
	if (p->more_fragments) {
		ports.local_port = p->key.local_port;
		ports.remote_port = p->key.remote_port;
		bpf_map_update_elem(&fragments, &fragment_key, &ports, BPF_ANY);
	}
	return TRACKED;
}

static __always_inline enum parsed parse_ipv4(struct __sk_buff *skb, bool from_pod, struct packet *p)
{
	struct iphdr ip;
	if (!load(skb, ETH_HLEN, &ip, sizeof(ip)) || ip.version != 4 || ip.ihl < 5)
		return UNKNOWN;

	__u32 source[4] = { 0, 0, bpf_htonl(0xffff), ip.saddr };
	__u32 destination[4] = { 0, 0, bpf_htonl(0xffff), ip.daddr };
	set_ends(p, from_pod, source, destination);
	p->key.protocol = ip.protocol;
	if ((ip.daddr & bpf_htonl(0xf0000000)) == bpf_htonl(0xe0000000) || ip.daddr == bpf_htonl(0xffffffff))
		return UNTRACKED;

	__u16 place = bpf_ntohs(ip.frag_off);
	p->fragment = place & 0x1fff;
	p->more_fragments = !p->fragment && (place & 0x2000);
	p->fragment_id = ip.id;
	return parse_transport(skb, from_pod, ETH_HLEN + ip.ihl * 4, p);
}

/* Where the headers of an IPv6 packet have been read up to. */
struct walk {
	__u32 at;
	__u32 fragment_id;
	__u8 next;
	bool fragment;
	bool more_fragments;
};

static __always_inline bool is_extension(__u8 header)
{
	return header == IPPROTO_HOPOPTS || header == IPPROTO_ROUTING || header == IPPROTO_DSTOPTS ||
	       header == IPPROTO_FRAGMENT || header == IPPROTO_AH;
}

/* Reads over extension headers; 0 when it came to their end. A global function: the verifier looks at it once. */
__noinline int walk_extensions(struct __sk_buff *skb, struct walk *walk)
{
	if (!walk)
		return -1;
	for (int i = 0; i < EXTENSIONS; i++) {
		__u8 extension[8];

		if (!is_extension(walk->next))
			return 0;
		if (bpf_skb_load_bytes(skb, walk->at, extension, 8))
			return -1;
		if (walk->next == IPPROTO_FRAGMENT) {
			__u16 place = (extension[2] << 8) | extension[3];
			walk->fragment = place & 0xfff8;
			walk->more_fragments = !walk->fragment && (place & 1);
			__builtin_memcpy(&walk->fragment_id, extension + 4, 4);
			walk->at += 8;
		} else if (walk->next == IPPROTO_AH) {
			walk->at += (extension[1] + 2) * 4;
		} else {
			walk->at += (extension[1] + 1) * 8;
		}
		walk->next = extension[0];
		/* Behind a later fragment's header is payload, whatever it looks like. */
		if (walk->fragment)
			return 0;
	}
	return is_extension(walk->next) ? -1 : 0;
}

static __always_inline enum parsed parse_ipv6(struct __sk_buff *skb, bool from_pod, struct packet *p)
{
	struct ipv6hdr ip;
	if (!load(skb, ETH_HLEN, &ip, sizeof(ip)) || ip.version != 6)
		return UNKNOWN;

	set_ends(p, from_pod, ip.saddr.in6_u.u6_addr32, ip.daddr.in6_u.u6_addr32);
	p->key.protocol = ip.nexthdr;
	bool multicast = ip.daddr.in6_u.u6_addr8[0] == 0xff;
	__u32 at = ETH_HLEN + sizeof(ip);

	if (is_extension(ip.nexthdr)) {
		struct walk walk = { .at = at, .next = ip.nexthdr };

		if (walk_extensions(skb, &walk))
			return UNKNOWN;
		p->key.protocol = walk.next;
		p->fragment = walk.fragment;
		p->more_fragments = walk.more_fragments;
		p->fragment_id = walk.fragment_id;
		at = walk.at & 0x3fff;
	}
	if (multicast && p->key.protocol != IPPROTO_ICMPV6)
		return UNTRACKED;
	enum parsed parsed = parse_transport(skb, from_pod, at, p);
	return parsed == TRACKED && multicast ? UNTRACKED : parsed;
}

static __always_inline enum parsed parse(struct __sk_buff *skb, bool from_pod, struct packet *p)
{
	p->key.ifindex = skb->ifindex;
	if (skb->vlan_present)
		return UNKNOWN;
	switch (skb->protocol) {
	case bpf_htons(ETH_P_IP):
		return parse_ipv4(skb, from_pod, p);
	case bpf_htons(ETH_P_IPV6):
		return parse_ipv6(skb, from_pod, p);
	case bpf_htons(ETH_P_ARP):
		return LINK;
	default:
		return UNKNOWN;
	}
}

/* === A flow key becomes a verdict === */

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
	__u64 bytes = skb->len - ETH_HLEN;
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

static __always_inline int handle(struct __sk_buff *skb, bool from_pod)
{
	struct packet p = {};
	enum parsed parsed = parse(skb, from_pod, &p);
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

SEC("tc")
int from_pod(struct __sk_buff *skb)
{
	return handle(skb, true);
}

SEC("tc")
int to_pod(struct __sk_buff *skb)
{
	return handle(skb, false);
}

/* === Who opened it === */

static __always_inline int attribute(struct bpf_sock_addr *ctx, const __u32 address[4])
{
	__u64 now = bpf_ktime_get_ns();
	struct connect_key key = {
		.cgroup = bpf_get_current_cgroup_id(),
		.address = { address[0], address[1], address[2], address[3] },
		.pid = bpf_get_current_pid_tgid() >> 32,
		.port = ctx->user_port,
		.protocol = ctx->protocol,
	};
	__u64 *last = bpf_map_lookup_elem(&connects, &key);

	count(CONNECTS);
	if (last && now - *last < CONNECT_AGAIN_NS) {
		count(CONNECTS_FOLDED);
		return 1;
	}
	struct connect_event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event) {
		count(EVENTS_LOST);
		return 1;
	}
	event->kind = CONNECT;
	event->pid = key.pid;
	event->ns = now;
	event->cgroup = key.cgroup;
	__builtin_memcpy(event->address, key.address, 16);
	event->port = key.port;
	event->protocol = key.protocol;
	event->zero = 0;
	event->uid = (__u32)bpf_get_current_uid_gid();
	if (bpf_get_current_comm(event->command, sizeof(event->command)))
		event->command[0] = 0;
	bpf_ringbuf_submit(event, wake(false));
	bpf_map_update_elem(&connects, &key, &now, BPF_ANY);
	return 1;
}

static __always_inline int attribute4(struct bpf_sock_addr *ctx)
{
	__u32 address[4] = { 0, 0, bpf_htonl(0xffff), ctx->user_ip4 };
	return attribute(ctx, address);
}

static __always_inline int attribute6(struct bpf_sock_addr *ctx)
{
	__u32 address[4] = { ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2], ctx->user_ip6[3] };
	return attribute(ctx, address);
}

SEC("cgroup/connect4")
int connect_4(struct bpf_sock_addr *ctx)
{
	return attribute4(ctx);
}

SEC("cgroup/connect6")
int connect_6(struct bpf_sock_addr *ctx)
{
	return attribute6(ctx);
}

SEC("cgroup/sendmsg4")
int sendmsg_4(struct bpf_sock_addr *ctx)
{
	return attribute4(ctx);
}

SEC("cgroup/sendmsg6")
int sendmsg_6(struct bpf_sock_addr *ctx)
{
	return attribute6(ctx);
}
