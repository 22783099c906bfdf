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

/* Whether `task`, which belongs to no container yet and runs a program in a container's cgroup, was sent there by somebody
 * else than the container's runtime: by a process that neither runs what ran the container's first program nor descends
 * from one that does. Of a container from before these programs that has to be told. */
static __always_inline bool is_stranger(struct cgroup_row *row, struct task_struct *task)
{
	struct task_struct *ancestor = BPF_CORE_READ(task, real_parent);
	struct executable is = {};

	if (!node.keeps_by_task)
		return false;
	if (!row->starter.inode) {
		/* Process 1 says nothing: whoever has lost his parent is its child. */
		if ((row->flags & CGROUP_WATCHED) && BPF_CORE_READ(ancestor, tgid) > 1)
			executable_of(ancestor, &row->starter);
		return false;
	}
	for (int step = 0; step < ANCESTORS; step++) {
		if (BPF_CORE_READ(ancestor, tgid) <= 1)
			break;
		executable_of(ancestor, &is);
		if (is.inode == row->starter.inode && is.device == row->starter.device)
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
 * was moved; for any other process those of the cgroup that it is in. */
static __always_inline struct cgroup_row *judged_by(struct belonging *known, __u64 *cgroup)
{
	struct cgroup_row *row;

	if (!known)
		return bpf_map_lookup_elem(&cgroups, cgroup);
	*cgroup = known->cgroup;
	row = bpf_map_lookup_elem(&cgroups, cgroup);
	if (!row)
		return known->row.profile ? &known->row : NULL;
	known->row = *row;
	return row;
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
	struct cgroup_row *row;
	__u64 cgroup;

	if (known)
		return known;
	cgroup = cgroup_of(task);
	row = bpf_map_lookup_elem(&cgroups, &cgroup);
	if (!row || !(row->flags & CGROUP_CONTAINER) || !runs_own_program(task))
		return NULL;
	return belong(task, cgroup, false);
}

#endif
