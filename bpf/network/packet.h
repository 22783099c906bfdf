/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
 *
 * A frame becomes a flow key.
 */
#ifndef NV_NETWORK_PACKET_H
#define NV_NETWORK_PACKET_H

#include "judge.h"

enum parsed {
	TRACKED,  /* the key is complete */
	UNTRACKED, /* open, except in quarantine */
	LINK,	  /* finds link addresses: always open */
	UNKNOWN,  /* cannot be judged */
};

struct __attribute__((aligned(8))) packet {
	struct flow_key key;
	__u32 peer[4];	  /* the other end behind a translation of addresses; zero where there is none */
	__be16 peer_port;
	__u16 unused;
	__u32 bytes; /* from the network header on, tags included */
	__u32 fragment_id;
	bool fragment;	     /* not the first of its datagram */
	bool more_fragments; /* the first of its datagram */
	bool syn, ack, fin, rst;
	bool echo_reply, unused_too;
	/* Of a flow's first packet. */
	struct judgement first;
	bool local_client, guessed, assumed;
	__u32 endpoint;
	__u32 decision_ns;
	__u8 waits;
};

/* A zero that the verifier takes for any number: a function that is not static is verified by itself. */
__noinline __u64 any_number(__u64 zero)
{
	asm volatile("" : "+r"(zero));
	return zero;
}

/* The verifier goes each way through the headers by itself, and through all that comes after it once for each, as each has
 * left other constants in the packet. Behind this it knows of none any more, and goes on but once. */
static __always_inline void forget(struct packet *p)
{
	__u64 nothing = any_number(0), *words = (__u64 *)p;

	_Static_assert(__builtin_offsetof(struct packet, first) == 80, "whole words, and no gaps that nobody has written to");
#pragma unroll
	for (unsigned int i = 0; i < offsetof(struct packet, first) / 8; i++)
		words[i] |= nothing;
}

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

static __noinline enum parsed parse_transport(struct __sk_buff *skb, bool from_pod, __u32 at, struct packet *p)
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

static __always_inline enum parsed parse_ipv4(struct __sk_buff *skb, bool from_pod, __u32 at, struct packet *p)
{
	struct iphdr ip;
	if (!load(skb, at, &ip, sizeof(ip)) || ip.version != 4 || ip.ihl < 5)
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
	return parse_transport(skb, from_pod, at + ip.ihl * 4, p);
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

/* Reads over extension headers; 0 when it came to their end. */
static __noinline int walk_extensions(struct __sk_buff *skb, struct walk *walk)
{
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

static __always_inline enum parsed parse_ipv6(struct __sk_buff *skb, bool from_pod, __u32 at, struct packet *p)
{
	struct ipv6hdr ip;
	if (!load(skb, at, &ip, sizeof(ip)) || ip.version != 6)
		return UNKNOWN;

	set_ends(p, from_pod, ip.saddr.in6_u.u6_addr32, ip.daddr.in6_u.u6_addr32);
	p->key.protocol = ip.nexthdr;
	bool multicast = ip.daddr.in6_u.u6_addr8[0] == 0xff;
	at += sizeof(ip);

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

static __always_inline bool is_tag(__be16 protocol)
{
	return protocol == bpf_htons(ETH_P_8021Q) || protocol == bpf_htons(ETH_P_8021AD);
}

/* Reads over VLAN tags: the kernel has taken the outer one out of the frame as a rule, the others stand in it. What is
 * behind them and where, or 0 with more tags than two. */
static __always_inline __be16 untag(struct __sk_buff *skb, __u32 *at, struct packet *p)
{
	__be16 protocol = skb->protocol;
	__u32 vlan = 0, tags = 0;

	if (skb->vlan_present) {
		vlan = skb->vlan_tci & 0xfff;
		tags = 1;
	}
#pragma unroll
	for (int i = 0; i < 2; i++) {
		__be16 tag[2];

		if (!is_tag(protocol))
			break;
		if (!load(skb, *at, tag, sizeof(tag)))
			return 0;
		vlan = (vlan << 12) | (bpf_ntohs(tag[0]) & 0xfff);
		tags++;
		protocol = tag[1];
		*at += 4;
	}
	p->key.vlan[0] = vlan >> 16;
	p->key.vlan[1] = vlan >> 8;
	p->key.vlan[2] = vlan;
	return tags > 2 ? 0 : protocol;
}

/* `at` is where the network header begins in an untagged frame. */
static __always_inline enum parsed parse(struct __sk_buff *skb, bool from_pod, __u32 at, struct packet *p)
{
	__be16 protocol = skb->protocol;

	if (skb->vlan_present || is_tag(protocol))
		protocol = untag(skb, &at, p);
	switch (protocol) {
	case bpf_htons(ETH_P_IP):
		return parse_ipv4(skb, from_pod, at, p);
	case bpf_htons(ETH_P_IPV6):
		return parse_ipv6(skb, from_pod, at, p);
	case bpf_htons(ETH_P_ARP):
		return LINK;
	default:
		return UNKNOWN;
	}
}

#endif
