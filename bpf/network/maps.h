/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
 *
 * Keys, rows and records, and the tables that hold them. Their twins are in crates/io/capture/src/rows.rs; the loader
 * compares the sizes.
 */
#ifndef NV_NETWORK_MAPS_H
#define NV_NETWORK_MAPS_H

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "../include/since.h"

#define EXTENSIONS 6
#define EXTERNAL 1 /* identity of an address without a row */
#define NEVER_BLOCK 0x80
#define CONNECT_AGAIN_NS (10ULL * 1000000000ULL)
#define WAKE_BYTES (64 * 1024)
#define CGROUP_DEPTH 10 /* deepest cgroup of a container */

enum verdict { OPEN = 0, LEARN = 1, ALLOW = 2, VIOLATE = 3, DENY = 4, NO_VERDICT = 0xff };
enum mode { NO_MODE = 0, DISCOVER = 1, MONITOR = 2, PROTECT = 3 };
enum action { ACTION_ALLOW = 1, ACTION_DENY = 2, ACTION_LEARNED = 3 };

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
	CONNECTS_DENIED,
	TAPPED,
	TAP_FAILED,
	WAITED,		/* led to an inspector */
	WAITED_FOR_NOBODY, /* of flows that wait, and there is no inspector: as its pod fails */
	CUT_PACKETS,	/* of flows that an inspector has ended */
	NOT_COME_BACK,	/* from the inspector, of a flow that is known no more, or denied by now */
	COUNTERS,
};

/* Whether the packets of a pod wait for an inspector, and what becomes of them where there is none. */
enum waits { GO_ON = 0, WAIT_OR_PASS = 1, WAIT_OR_DROP = 2 };

struct endpoint {
	__u32 identity;
	__u32 number;
	__u32 quarantined;
	__u32 waits;
	__u32 judging; /* what flows were clean by another number of waits again */
};

enum place_flag {
	PLACE_QUARANTINED = 1 << 0,
	AT_INTERFACE = 1 << 1,	 /* its packets are judged at its interface */
	HOST_NETWORK = 1 << 2, /* its loopback is the host's */
};

/* What a container's cgroup, and all below it, is on the network. */
struct place {
	__u32 identity;
	__u32 flags;
	__u32 endpoint;	  /* row of `endpoints` for its sockets; 0 where they are not looked at */
	__u32 veths[2]; /* its own ends of veths, whose packets are judged at the other end */
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
	__u32 token; /* mark of a packet that has come back from its inspector, and of no other; never 0 */
};

struct flow_key {
	__u32 ifindex; /* of a veth's host end, or a place's endpoint */
	__u32 local[4];
	__u32 remote[4];
	__be16 local_port;
	__be16 remote_port;
	__u8 protocol;
	__u8 vlan[3]; /* 12 bits of the outer tag, 12 of the inner one */
};

/* One way of a flow. */
struct way {
	__u64 bytes;
	__u64 packets;
	__u64 last_ns; /* monotonic, by the last tick; 0 before its first packet */
};

/* What an inspector has said of a flow that waits. */
enum said { NOTHING = 0, CLEAN = 1, CUT = 2 };

/* Both ways of a flow are seen by different processors, which wait for one another where they write to the same 64 bytes. So
 * what every packet reads stands apart from what it writes, and each way by itself: a row begins 32 bytes before the end of
 * such a line, behind its key, and is as long that the next one does so too. */
struct flow {
	__u32 generation;
	__u32 rule;
	__u32 client;
	__u32 server;
	__u8 verdict;
	/* Yes or no, each in a byte of its own: processors that have packets of one flow at once set different ones, and bits
	 * are changed by no atomic operation before Linux 5.12. */
	__u8 asked;	   /* the kernel was asked who the other end is, after the server's first answer */
	__u8 local_client; /* the pod opened it */
	__u8 mid_stream;   /* its first packet was not seen: the roles are a guess */
	__u8 closed;
	__u8 reported; /* its record is in the ring */
	__u8 fin_client;
	__u8 fin_server;
	__u8 replied; /* the server has sent something */
	__u8 quarantined;
	__u8 turned;	/* an attempt to open it the other way was reported */
	__u8 assumed;	/* its peer is that of the service's last connection, and not yet its own */
	__u8 inspected; /* its bytes tell inspection nothing more */
	__u8 elsewhere; /* the other end's interface, on this node, hands its packets to inspection */
	__u8 waits;	/* enum waits, as its pod's */
	__u8 said;	/* enum said */

	struct way to_server;
	__u64 first_ns; /* monotonic */
	__u32 peer[4]; /* the other end behind a translation of addresses; zero where there is none */
	__u32 sessions;
	__u32 endpoint;
	__be16 peer_port;
	__u8 zero[6];

	struct way to_client;
	__u64 clean_ns; /* when it was said to be clean (monotonic) */
	__u32 judging;	/* and by which number of its pod's */
	__u8 sources[2][6]; /* link addresses that its packets came with: to the pod, and from it */
	__u8 more_zero[16];
};
_Static_assert(sizeof(struct flow) == 160 && sizeof(struct flow_key) == 44,
	       "with 48 bytes of the kernel's own and the key, filled up to 48, a row takes four lines of 64 bytes");

/* A service as its clients ask for it. */
struct service_key {
	__u32 address[4];
	__be16 port;
	__u8 protocol;
	__u8 zero;
};

/* Who was behind it last. */
struct service {
	__u32 peer[4];
	__u32 identity;
	__be16 peer_port;
	__u8 zero[2];
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
	__u8 local_client;
	__u8 mid_stream;
	__u8 quarantined;
	__u8 zero;
	__u32 client;
	__u32 server;
	__u32 rule;
	__u32 generation;
	__u8 verdict;
	__u8 previous;
	__be16 peer_port;
	__u32 decision_ns; /* from the packet's arrival at the program to the verdict; 0 for a change */
	__u32 peer[4];
};

struct connect_event {
	__u32 kind;
	__u32 pid;
	__u64 ns;
	__u64 cgroup;
	__u32 address[4];
	__be16 port;
	__u8 protocol;
	__u8 verdict; /* OPEN where it is not judged here */
	__u32 uid;
	char command[16];
	__u32 decision_ns;
	__u32 zero;
};

struct connect_key {
	__u64 cgroup;
	__u32 address[4];
	__u32 pid;
	__be16 port;
	__u8 protocol;
	__u8 zero;
};

/* Where copies of packets go to be inspected, and until when (monotonic): whoever inspects has to say again and again
 * that he lives. */
struct tap {
	__u64 until_ns;
	__u32 ifindex;
	__u32 zero;
};

/* A flow whoever's interface it is at. */
struct inspected_key {
	__u32 local[4];
	__u32 remote[4];
	__be16 local_port;
	__be16 remote_port;
	__u8 protocol;
	__u8 zero[3];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, struct endpoint);
} endpoints SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64);
	__type(value, struct place);
} places SEC(".maps");

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
	__uint(max_entries, 16384);
	__type(key, struct service_key);
	__type(value, struct service);
} services SEC(".maps");

/* Networks that only services have addresses of: the kernel translates every one of them, and no host has any. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 16);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct address_key);
	__type(value, __u32);
} service_ranges SEC(".maps");

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

/* Where copies of the packets of each place go; crates/io/capture/src/share.rs counts the places too. */
#define PLACES 16
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, PLACES);
	__type(key, __u32);
	__type(value, struct tap);
} taps SEC(".maps");

/* Where packets go that wait. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, PLACES);
	__type(key, __u32);
	__type(value, struct tap);
} detours SEC(".maps");

/* Flows of which inspection has seen enough, and when it said so (monotonic). */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct inspected_key);
	__type(value, __u64);
} inspected SEC(".maps");

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

#endif
