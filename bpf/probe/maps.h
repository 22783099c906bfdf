/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
 *
 * Tables, ring, counters and working memory: everything that the programs share.
 */
#ifndef NV_PROBE_MAPS_H
#define NV_PROBE_MAPS_H

#include "process.h"
#include "since.h"

/* Deepest path, in components, that is followed. 255 bytes of shorter names than three letters are no real path. */
#define PARTS 64
/* Working memories a CPU: as many judgements can preempt one another on it. */
#define SCRATCHES 4
/* Records wait for a timer of the reader until this many bytes lie in the ring. */
#define WAKE_BYTES (64 * 1024)

/* A hook before the exec: the new program's memory is not in place. A script is not asked for again when it is. */
#define EARLY_PROGRAM 1
#define EARLY_SCRIPT 2

/* What the loader tells: inode of the host's mount namespace, whether this kernel keeps something by task, and how many
 * records of a kind a cgroup may make in a second. */
const volatile struct {
	__u32 host_mount_namespace;
	__u32 keeps_by_task;
	__u32 records_per_second;
} node = {};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, __u64);
	__type(value, struct cgroup_row);
} cgroups SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, __u32);
	__type(value, struct profile_row);
} profiles SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct exact_key);
	__type(value, struct rule_row);
} exact SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct pattern_key);
	__type(value, struct rule_row);
} patterns SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4 * 1024 * 1024);
} ring SEC(".maps");

/* Of cgroups alone: who a new container is must be known before its first program, whatever fills the other ring. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 512 * 1024);
} cgroup_ring SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNT_SLOTS);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

struct part {
	const unsigned char *name;
	__u64 length;
};

/* Too big for the 512 bytes of a BPF stack. */
struct scratch {
	__u32 takers; /* judgements that have it, or want it */
	__u32 parts;
	__u32 offset;
	__u32 name_length;
	__u32 headless; /* the walk ended before the root: how the path begins is not known */
	__u32 slot;     /* where this memory is in its table */
	__u32 early;    /* EARLY_, 0 at the exec */
	struct {
		__u32 order;
		__u32 rule;
		__u8 flags;
		__u8 action;
		__u16 reserved;
	} found; /* the rule that counts, of those looked at so far */
	struct {
		__u32 found;
		__u32 uid;
		__u32 caller;
		__u32 arguments;
		__u32 argument_bytes;
	} facts;
	__u64 asked; /* number of a condition_row */
	struct {
		struct dentry *dentry;
		struct vfsmount *mnt;
		struct mount *root;
	} from; /* where a walk begins, and ends */
	__u64 hash; /* of the file name */
	struct part part[PARTS];
	/* The others are here only for the object's BTF to tell their layout, which a test compares. */
	union {
		struct exec_record record;
		struct fork_record fork;
		struct exit_record exit;
		struct cgroup_record cgroup;
		struct file_record file;
		struct condition_row condition;
		struct deed_record deed;
		enum deed deed_kind;
		enum counter counter;
	};
	struct exact_key exact;
	char beyond[PATH_BYTES]; /* never written, but the verifier sees offset and length apart */
	struct pattern_key pattern;
	char name[PATH_BYTES];
	char caller[PATH_BYTES] __attribute__((aligned(8)));
	char text[ARGUMENT_HEAD_BYTES] __attribute__((aligned(8)));
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SCRATCHES);
	__type(key, __u32);
	__type(value, struct scratch);
} scratches SEC(".maps");

static __always_inline void count(__u32 slot)
{
	__u64 *value = bpf_map_lookup_elem(&counters, &slot);

	if (value)
		__sync_fetch_and_add(value, 1);
}

/* Begins a record, before it is known whether there is room for it. */
static __always_inline void begin_record(struct record_head *head, __u32 kind, __u32 pid, __u64 cgroup)
{
	__u32 slot = kind == RECORD_CGROUP_MADE || kind == RECORD_CGROUP_GONE ? COUNT_CGROUP_RECORDS : COUNT_RECORDS;
	__u64 *records = bpf_map_lookup_elem(&counters, &slot);

	head->kind = kind;
	head->pid = pid;
	head->at = bpf_ktime_get_boot_ns();
	head->cgroup = cgroup;
	head->cpu = bpf_get_smp_processor_id();
	head->sequence = records ? ADD_AND_LOOK(records, 1) : 0;
}

/* The row of a cgroup, read as one word; false when it has none. */
static __always_inline bool row_of(__u64 *cgroup, struct cgroup_row *row)
{
	union {
		__u64 word;
		struct cgroup_row row;
	} read;
	volatile __u64 *held = bpf_map_lookup_elem(&cgroups, cgroup);

	if (!held)
		return false;
	read.word = *held;
	*row = read.row;
	return true;
}

static __always_inline __u64 cgroup_id(struct cgroup *cgroup)
{
	return BPF_CORE_READ(cgroup, kn, id);
}

static __always_inline __u64 cgroup_of(struct task_struct *task)
{
	return cgroup_id(BPF_CORE_READ(task, cgroups, dfl_cgrp));
}

/* Inode of the task's mount namespace. */
static __always_inline __u32 mounts_of(struct task_struct *task)
{
	return BPF_CORE_READ(task, nsproxy, mnt_ns, ns.inum);
}

static __always_inline __u64 wakeup(bool urgent)
{
	if (urgent || bpf_ringbuf_query(&ring, BPF_RB_AVAIL_DATA) >= WAKE_BYTES)
		return BPF_RB_FORCE_WAKEUP;
	return BPF_RB_NO_WAKEUP;
}

static __always_inline void give_back(struct scratch *s)
{
	__sync_fetch_and_add(&s->takers, -1);
}

/* A judgement may be preempted by another one on the same CPU, so its memory is taken, not just used: it is of who finds
 * himself the only taker. */
static __always_inline struct scratch *take_scratch(void)
{
	/* Unrolled: before 6.14 the verifier forgets the value of a counter whose address is taken. */
#pragma unroll
	for (int i = 0; i < SCRATCHES; i++) {
		__u32 slot = i;
		struct scratch *s = bpf_map_lookup_elem(&scratches, &slot);

		if (!s)
			continue;
		if (ADD_AND_LOOK(&s->takers, 1) == 1) {
			s->slot = i;
			return s;
		}
		give_back(s);
	}
	count(COUNT_SCRATCH_BUSY);
	return NULL;
}

#endif
