/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
 *
 * Who is behind an address that the kernel translates: the pod that serves a connection to a service, the client of one
 * whose source was replaced. The kernel's connection tracking is asked, once a flow (net/netfilter/nf_conntrack_bpf.c,
 * Linux 5.18).
 */
#ifndef NV_NETWORK_TRANSLATION_H
#define NV_NETWORK_TRANSLATION_H

#include "packet.h"

#define CO_RE __attribute__((preserve_access_index))

union nf_inet_addr {
	__u32 all[4];
} CO_RE;

union nf_conntrack_man_proto {
	__be16 all;
} CO_RE;

struct nf_conntrack_man {
	union nf_inet_addr u3;
	union nf_conntrack_man_proto u;
} CO_RE;

struct nf_conntrack_tuple {
	struct nf_conntrack_man src;
} CO_RE;

struct nf_conntrack_tuple_hash {
	struct nf_conntrack_tuple tuple;
} CO_RE;

struct nf_conn {
	struct nf_conntrack_tuple_hash tuplehash[2];
} CO_RE;

/* The first 12 bytes of the kernel's, which it takes alone. */
struct bpf_ct_opts {
	__s32 netns_id;
	__s32 error;
	__u8 l4proto;
	__u8 dir;
	__u8 reserved[2];
};

extern struct nf_conn *bpf_skb_ct_lookup(struct __sk_buff *, struct bpf_sock_tuple *, __u32, struct bpf_ct_opts *,
					 __u32) __ksym __weak;
extern void bpf_ct_release(struct nf_conn *) __ksym __weak;

/* Set by the loader where the kernel has both functions. A variable of a section of its own, so that it is its only
 * content. */
const volatile bool translations SEC(".rodata.nat") = true;

static __always_inline bool is_service(const __u32 address[4])
{
	struct address_key key = { .prefix_bits = 128 };
	__builtin_memcpy(key.address, address, 16);
	return bpf_map_lookup_elem(&service_ranges, &key);
}

static __always_inline bool is_mapped(const __u32 a[4])
{
	return !a[0] && !a[1] && a[2] == bpf_htonl(0xffff);
}

/* Finds the other end of a packet behind a translation; false where there is none. The pod's own end and the one that it
 * sees are a tuple that the kernel knows the connection by, and the other end is the source of the other tuple. */
static __noinline bool find_peer(struct __sk_buff *skb, struct packet *p)
{
	struct bpf_ct_opts options = { .netns_id = -1, .l4proto = p->key.protocol };
	struct bpf_sock_tuple tuple = {};
	__u32 peer[4] = {};
	__be16 port;

	if (!translations || (p->key.protocol != IPPROTO_TCP && p->key.protocol != IPPROTO_UDP))
		return false;
	bool four = is_mapped(p->key.remote);
	if (four) {
		tuple.ipv4.saddr = p->key.local[3];
		tuple.ipv4.daddr = p->key.remote[3];
		tuple.ipv4.sport = p->key.local_port;
		tuple.ipv4.dport = p->key.remote_port;
	} else {
		__builtin_memcpy(tuple.ipv6.saddr, p->key.local, sizeof(tuple.ipv6.saddr));
		__builtin_memcpy(tuple.ipv6.daddr, p->key.remote, sizeof(tuple.ipv6.daddr));
		tuple.ipv6.sport = p->key.local_port;
		tuple.ipv6.dport = p->key.remote_port;
	}
	struct nf_conn *connection;
	if (four)
		connection = bpf_skb_ct_lookup(skb, &tuple, sizeof(tuple.ipv4), &options, sizeof(options));
	else
		connection = bpf_skb_ct_lookup(skb, &tuple, sizeof(tuple.ipv6), &options, sizeof(options));
	if (!connection)
		return false;
	if (options.dir) {
		port = connection->tuplehash[0].tuple.src.u.all;
		for (int i = 0; i < 4; i++)
			peer[i] = connection->tuplehash[0].tuple.src.u3.all[i];
	} else {
		port = connection->tuplehash[1].tuple.src.u.all;
		for (int i = 0; i < 4; i++)
			peer[i] = connection->tuplehash[1].tuple.src.u3.all[i];
	}
	bpf_ct_release(connection);
	if (four) {
		peer[3] = peer[0];
		peer[0] = 0;
		peer[2] = bpf_htonl(0xffff);
	}
	if (port == p->key.remote_port && peer[0] == p->key.remote[0] && peer[1] == p->key.remote[1] &&
	    peer[2] == p->key.remote[2] && peer[3] == p->key.remote[3])
		return false;
	for (int i = 0; i < 4; i++)
		p->peer[i] = peer[i];
	p->peer_port = port;
	return true;
}

#endif
