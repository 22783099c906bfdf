/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
 *
 * How many records a cgroup may make in a second, by their kind: a flood out of one container fills no ring for the
 * others. What is beyond is counted; verdicts are not touched by it.
 */
#ifndef NV_PROBE_LIMIT_H
#define NV_PROBE_LIMIT_H

#include "maps.h"

/* limit_key.kind: record_kind, or behind one of these a part of a kind that has a limit of its own. */
#define LIMIT_AGAINST 0x100 /* what is against the rules: what is allowed does not crowd it out */
#define LIMIT_DEED 0x200    /* each deed */

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct limit_key);
	__type(value, struct limit);
} limits SEC(".maps");

static __always_inline bool within(__u64 cgroup, __u64 kind, __u32 most)
{
	struct limit_key key = { .cgroup = cgroup, .kind = kind };
	struct limit fresh = { .second = bpf_ktime_get_boot_ns() / 1000000000, .records = 1 };
	struct limit *limit = bpf_map_lookup_elem(&limits, &key);

	if (!limit) {
		bpf_map_update_elem(&limits, &key, &fresh, 0);
		return true;
	}
	if (limit->second != fresh.second) {
		limit->second = fresh.second;
		limit->records = 0;
	}
	return ADD_AND_LOOK(&limit->records, 1) <= most;
}

/* For records of programs, processes and files; what is beyond is counted in `slot`. */
static __always_inline bool may_tell(__u64 cgroup, __u64 kind, __u32 slot)
{
	if (within(cgroup, kind, node.records_per_second))
		return true;
	count(slot);
	return false;
}

#endif
