/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
 *
 * Which container a process belongs to, wherever it moves.
 *
 * A process belongs to a container from the first program that it runs in the container's cgroup and in a mount
 * namespace of its own, and so does whatever it makes. Until then it is the runtime's: it prepares mounts, namespaces
 * and rights, and what it does is not the container's doing. Names play no part in it.
 */
#ifndef NV_PROBE_BELONGING_H
#define NV_PROBE_BELONGING_H

#include "path.h"

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct belonging);
} belongings SEC(".maps");

/* Executables that the agent knows for runtimes. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16);
	__type(key, struct executable);
	__type(value, __u32);
} runtimes SEC(".maps");

/* What is known of containers besides their rows, by cgroup: the device of the root file system, who has mounted something,
 * and what the process ran that started the first program. A row is put in once, by whoever knows first, and never changed:
 * so no writer takes back what another one found meanwhile. They go with the cgroup. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64);
	__type(value, __u32);
} roots SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64);
	__type(value, __u32);
} mounters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64);
	__type(value, struct executable);
} starters SEC(".maps");

/* Whether a process has ever left the cgroup of its container: only then is it asked at every open whose a process is. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} leavers SEC(".maps");

static __always_inline __u32 *have_left(void)
{
	__u32 slot = 0;

	return bpf_map_lookup_elem(&leavers, &slot);
}

/* As far up as a container's runtime is looked for. */
#define ANCESTORS 32

/* What is known of `task`; with `create` made when nothing is. */
static __always_inline struct belonging *belonging_of(struct task_struct *task, bool create)
{
	/* Before Linux 5.13 the verifier never comes by here, and there is no such table. */
	if (!node.keeps_by_task)
		return NULL;
	return bpf_task_storage_get(&belongings, task, NULL, create ? BPF_LOCAL_STORAGE_GET_F_CREATE : 0);
}

static __always_inline __u32 user_namespace_of(struct task_struct *task)
{
	return BPF_CORE_READ(task, cred, user_ns, ns.inum);
}

static __always_inline void executable_of(struct task_struct *task, struct executable *is)
{
	struct inode *inode = BPF_CORE_READ(task, mm, exe_file, f_inode);

	is->inode = BPF_CORE_READ(inode, i_ino);
	is->device = BPF_CORE_READ(inode, i_sb, s_dev);
}

static __always_inline void know(void *table, __u64 *cgroup, void *value)
{
	if (bpf_map_update_elem(table, cgroup, value, BPF_NOEXIST) && !bpf_map_lookup_elem(table, cgroup))
		count(COUNT_CONTAINERS_FULL);
	/* It may go meanwhile, for a process that has left it. */
	else if (!bpf_map_lookup_elem(&cgroups, cgroup))
		bpf_map_delete_elem(table, cgroup);
}

/* Device of the container's root file system. Its first program is the one that the runtime starts there; where a later
 * one is by chroot(2) or pivot_root(2) says nothing. */
static __always_inline __u32 root_of(__u64 *cgroup, struct belonging *known, struct task_struct *task)
{
	__u32 *held = bpf_map_lookup_elem(&roots, cgroup), root;

	if (held) {
		root = *held;
	} else if (known && known->root) {
		root = known->root;
	} else {
		root = BPF_CORE_READ(task, fs, root.mnt, mnt_sb, s_dev);
		know(&roots, cgroup, &root);
	}
	if (known)
		known->root = root;
	return root;
}

/* Whether the container has made mounts of its own. */
static __always_inline bool has_mounted(__u64 *cgroup, struct belonging *known)
{
	return bpf_map_lookup_elem(&mounters, cgroup) || (known && known->mounted);
}

static __always_inline void note_mount(struct belonging *known)
{
	__u64 cgroup = known->cgroup;
	__u32 mounted = 1;

	known->mounted = mounted;
	if (!bpf_map_lookup_elem(&mounters, &cgroup))
		know(&mounters, &cgroup, &mounted);
}

/* A cgroup below a container's is of that container. */
static __always_inline void inherit_container(__u64 *parent, __u64 *child)
{
	void *held;

	held = bpf_map_lookup_elem(&roots, parent);
	if (held)
		know(&roots, child, held);
	held = bpf_map_lookup_elem(&mounters, parent);
	if (held)
		know(&mounters, child, held);
	held = bpf_map_lookup_elem(&starters, parent);
	if (held)
		know(&starters, child, held);
}

static __always_inline void forget_container(__u64 *cgroup)
{
	bpf_map_delete_elem(&roots, cgroup);
	bpf_map_delete_elem(&mounters, cgroup);
	bpf_map_delete_elem(&starters, cgroup);
}

/* Of a cgroup made under these programs' eyes, whoever runs the first program of other mounts than the host's in it has started
 * the container. That may be before it is told to be one: then a later one would be taken for its starter. */
static __always_inline void note_starter(struct cgroup_row *row, __u64 *cgroup, struct task_struct *task)
{
	struct task_struct *parent = BPF_CORE_READ(task, real_parent);
	struct executable is = {};

	if (!node.keeps_by_task || !(row->flags & CGROUP_WATCHED) || bpf_map_lookup_elem(&starters, cgroup))
		return;
	/* Process 1 says nothing: whoever has lost his parent is its child. */
	if (BPF_CORE_READ(parent, tgid) <= 1)
		return;
	executable_of(parent, &is);
	/* One that is ending runs nothing any more, and what nobody runs would make strangers of all. */
	if (is.inode)
		know(&starters, cgroup, &is);
}

/* Whether `task`, which belongs to no container yet and runs a program in a container's cgroup, was sent there by somebody
 * else than the container's runtime: by a process that neither runs what ran the container's first program nor descends
 * from one that does. Of a container from before these programs that has to be told; until it is, nobody is a stranger. */
static __always_inline bool is_stranger(__u64 *cgroup, struct task_struct *task)
{
	struct task_struct *ancestor = BPF_CORE_READ(task, real_parent);
	struct executable is = {}, *starter;

	if (!node.keeps_by_task)
		return false;
	starter = bpf_map_lookup_elem(&starters, cgroup);
	if (!starter)
		return false;
	for (int step = 0; step < ANCESTORS; step++) {
		if (BPF_CORE_READ(ancestor, tgid) <= 1)
			break;
		executable_of(ancestor, &is);
		if (is.inode == starter->inode && is.device == starter->device)
			return false;
		if (bpf_map_lookup_elem(&runtimes, &is))
			return false;
		ancestor = BPF_CORE_READ(ancestor, real_parent);
	}
	return true;
}

/* `task` is the container's from now on; NULL when there is no memory for it. */
static __always_inline struct belonging *belong(struct task_struct *task, __u64 cgroup, bool stranger)
{
	struct belonging *known = belonging_of(task, true);

	if (known && !known->cgroup) {
		known->user_namespace = user_namespace_of(task);
		known->stranger = stranger;
		known->cgroup = cgroup;
	}
	return known;
}

/* Whose rules count for a process, and in which cgroup's name: those of the container that it belongs to, wherever it
 * was moved; for any other process those of the cgroup that it is in. False when there are none. */
static __always_inline bool judged_by(struct belonging *known, __u64 *cgroup, struct cgroup_row *row)
{
	if (!known)
		return row_of(cgroup, row);
	*cgroup = known->cgroup;
	if (row_of(cgroup, row)) {
		known->row = *row;
		return true;
	}
	*row = known->row;
	return row->profile;
}

/* Whether a process that ran before these programs is the container's own: its program is of its own mounts. A runtime
 * that prepares a container was started from the host's. */
static __always_inline bool runs_own_program(struct task_struct *task)
{
	struct vfsmount *mnt = BPF_CORE_READ(task, mm, exe_file, f_path.mnt);

	return mnt && BPF_CORE_READ(mount_of(mnt), mnt_ns) == BPF_CORE_READ(task, nsproxy, mnt_ns) &&
	       mounts_of(task) != node.host_mount_namespace;
}

/* What the current process belongs to; NULL for the host's processes and the runtime's. */
static __always_inline struct belonging *own(struct task_struct *task)
{
	struct belonging *known = belonging_of(task, false);
	struct cgroup_row row;
	__u64 cgroup;

	if (known)
		return known;
	cgroup = cgroup_of(task);
	if (!row_of(&cgroup, &row) || !(row.flags & CGROUP_CONTAINER) || !runs_own_program(task))
		return NULL;
	return belong(task, cgroup, false);
}

#endif
