/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
 *
 * Who came from whom, and who ended.
 */
#ifndef NV_PROBE_LINEAGE_H
#define NV_PROBE_LINEAGE_H

#include "behaviour.h"
#include "condition.h"

SEC("?tp_btf/sched_process_fork")
int BPF_PROG(fork_tracepoint, struct task_struct *parent, struct task_struct *child)
{
	__u32 pid = BPF_CORE_READ(child, pid);
	struct belonging *known = belonging_of(parent, false), *inherited;
	struct cgroup_row row;
	__u64 cgroup;
	struct fork_record *record;
	struct record_head head;

	/* Threads too, as each may ask the kernel for something. */
	if (known) {
		if (!known->user_namespace)
			known->user_namespace = user_namespace_of(parent);
		inherited = belonging_of(child, true);
		if (inherited) {
			inherited->cgroup = known->cgroup;
			inherited->user_namespace = known->user_namespace;
			inherited->row = known->row;
			inherited->root = known->root;
			inherited->mounted = known->mounted;
			inherited->stranger = known->stranger;
			notice(child, inherited);
		}
	}
	if (pid != BPF_CORE_READ(child, tgid))
		return 0; /* a thread */
	cgroup = cgroup_of(child);
	/* By clone3(2) into another cgroup. */
	if (known && cgroup != cgroup_of(parent))
		moved(child, known, BPF_CORE_READ(child, cgroups, dfl_cgrp), NULL, false);
	if (!judged_by(known, &cgroup, &row))
		return 0;
	inherit_caller(BPF_CORE_READ(parent, tgid), pid);
	if (!may_tell(cgroup, RECORD_FORK, COUNT_LIMITED_FORK))
		return 0;
	begin_record(&head, RECORD_FORK, pid, cgroup);
	record = bpf_ringbuf_reserve(&ring, sizeof(*record), 0);
	if (!record) {
		count(COUNT_DROPPED_FORK);
		return 0;
	}
	record->head = head;
	record->parent_pid = BPF_CORE_READ(parent, tgid);
	record->reserved = 0;
	bpf_ringbuf_submit(record, wakeup(false));
	return 0;
}

SEC("?tp_btf/sched_process_exit")
int BPF_PROG(exit_tracepoint, struct task_struct *task)
{
	__u32 pid = BPF_CORE_READ(task, pid);
	__u64 cgroup = bpf_get_current_cgroup_id();
	struct cgroup_row row;
	struct exit_record *record;
	struct record_head head;

	if (pid != BPF_CORE_READ(task, tgid) ||
	    !judged_by(belonging_of(task, false), &cgroup, &row))
		return 0;
	forget_caller(pid);
	if (!may_tell(cgroup, RECORD_EXIT, COUNT_LIMITED_EXIT))
		return 0;
	begin_record(&head, RECORD_EXIT, pid, cgroup);
	record = bpf_ringbuf_reserve(&ring, sizeof(*record), 0);
	if (!record) {
		count(COUNT_DROPPED_EXIT);
		return 0;
	}
	record->head = head;
	record->code = BPF_CORE_READ(task, exit_code);
	record->reserved = 0;
	bpf_ringbuf_submit(record, wakeup(false));
	return 0;
}

#endif
