/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
 *
 * A new cgroup has its parent's row before anything runs in it.
 */
#ifndef NV_PROBE_CGROUP_H
#define NV_PROBE_CGROUP_H

#include "behaviour.h"

static __always_inline void report_cgroup(__u32 kind, __u64 id, __u64 parent, struct cgroup_row row,
					  const char *path)
{
	struct cgroup_record *record;
	struct record_head head;

	begin_record(&head, kind, bpf_get_current_pid_tgid() >> 32, id);
	record = bpf_ringbuf_reserve(&cgroup_ring, sizeof(*record), 0);
	if (!record) {
		count(COUNT_DROPPED_CGROUP);
		return;
	}
	record->head = head;
	record->parent = parent;
	record->profile = row.profile;
	record->flags = row.flags;
	__builtin_memset(record->path, 0, CGROUP_PATH_BYTES);
	bpf_probe_read_kernel_str(record->path, CGROUP_PATH_BYTES, path);
	bpf_ringbuf_submit(record, BPF_RB_FORCE_WAKEUP);
}

/* Cgroup ids are unique in one hierarchy only, and these tracepoints speak of all; 0 is version 2. */
static __always_inline bool is_unified(struct cgroup *cgroup)
{
	return BPF_CORE_READ(cgroup, root, hierarchy_id) == 0;
}

SEC("?tp_btf/cgroup_mkdir")
int BPF_PROG(cgroup_made, struct cgroup *cgroup, const char *path)
{
	__u64 id, parent;
	struct cgroup_row row = {};

	if (!is_unified(cgroup))
		return 0;
	id = cgroup_id(cgroup);
	parent = cgroup_id(BPF_CORE_READ(cgroup, self.parent, cgroup));
	if (row_of(&parent, &row)) {
		struct cgroup_row inherited = row;

		inherited.flags |= CGROUP_WATCHED;
		/* User space may have been faster; its row stays. */
		if (bpf_map_update_elem(&cgroups, &id, &inherited, BPF_NOEXIST) &&
		    !bpf_map_lookup_elem(&cgroups, &id))
			count(COUNT_CGROUPS_FULL);
		inherit_container(&parent, &id);
	}
	report_cgroup(RECORD_CGROUP_MADE, id, parent, row, path);
	return 0;
}

SEC("?tp_btf/cgroup_rmdir")
int BPF_PROG(cgroup_gone, struct cgroup *cgroup, const char *path)
{
	struct cgroup_row none = {};
	__u64 id, parent;

	if (!is_unified(cgroup))
		return 0;
	id = cgroup_id(cgroup);
	parent = cgroup_id(BPF_CORE_READ(cgroup, self.parent, cgroup));
	bpf_map_delete_elem(&cgroups, &id);
	forget_container(&id);
	report_cgroup(RECORD_CGROUP_GONE, id, parent, none, path);
	return 0;
}

/* The host may put a process anywhere; a container's process that goes, or sends another one, is on its way out. */
SEC("?tp_btf/cgroup_attach_task")
int BPF_PROG(cgroup_joined, struct cgroup *cgroup, const char *path, struct task_struct *task)
{
	struct belonging *known;

	if (!is_unified(cgroup))
		return 0;
	known = belonging_of(task, false);
	if (known)
		moved(task, known, cgroup, path, !own(current_task()));
	return 0;
}

#endif
