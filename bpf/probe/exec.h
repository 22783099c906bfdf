/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
 *
 * The hooks of an exec: two that refuse, and the tracepoint that reports and kills.
 */
#ifndef NV_PROBE_EXEC_H
#define NV_PROBE_EXEC_H

#include "arguments.h"
#include "behaviour.h"
#include "judge.h"
#include "stdio.h"

/* Fills what the verdict does not need, and hands the record over. */
static __always_inline void report(struct scratch *s, struct task_struct *task, struct linux_binprm *bprm,
				   const struct cred *cred, __u64 cgroup, __u8 mechanism, bool running)
{
	struct exec_record *record = &s->record;
	struct task_struct *parent = BPF_CORE_READ(task, real_parent);
	bool denied = record->verdict == VERDICT_DENY;

	record->parent_cgroup = cgroup_of(parent);
	record->parent_pid = BPF_CORE_READ(parent, tgid);
	record->uid = BPF_CORE_READ(cred, uid.val);
	record->euid = BPF_CORE_READ(cred, euid.val);
	record->mechanism = denied ? mechanism : MECHANISM_NONE;
	stdio_of(task, record->stdio);
	stdio_of(parent, record->parent_stdio);
	bpf_core_read(record->comm, COMM_BYTES, &task->comm);
	bpf_core_read(record->parent_comm, COMM_BYTES, &parent->comm);
	__builtin_memcpy(record->path, s->exact.path, PATH_BYTES);
	__builtin_memset(record->filename, 0, FILENAME_BYTES);
	bpf_probe_read_kernel_str(record->filename, FILENAME_BYTES, BPF_CORE_READ(bprm, filename));
	__builtin_memset(record->arguments, 0, ARGUMENT_BYTES);
	record->argument_bytes = 0;
	if (!running) {
		record->argument_bytes = asked_arguments(record->arguments);
	} else {
		struct mm_struct *mm = BPF_CORE_READ(task, mm);
		unsigned long start = BPF_CORE_READ(mm, arg_start);
		unsigned long bytes = BPF_CORE_READ(mm, arg_end) - start;

		if (bytes > ARGUMENT_BYTES)
			bytes = ARGUMENT_BYTES;
		if (!bpf_probe_read_user(record->arguments, bytes, (void *)start))
			record->argument_bytes = bytes;
	}
	if (may_tell(cgroup, record->verdict >= VERDICT_VIOLATE ? LIMIT_AGAINST | RECORD_EXEC : RECORD_EXEC,
		     COUNT_LIMITED_EXEC)) {
		begin_record(&record->head, RECORD_EXEC, BPF_CORE_READ(task, tgid), cgroup);
		if (bpf_ringbuf_output(&ring, record, sizeof(*record), wakeup(denied)))
			count(COUNT_DROPPED_EXEC);
	}
	if (record->flags & EXEC_RUNTIME)
		return;
	count(COUNT_OPEN + (record->verdict & 7));
}

/* Whether a process that belongs to no container yet is the container's with this program. */
static __always_inline bool enters(struct cgroup_row *row, __u64 *cgroup, struct task_struct *task)
{
	if (mounts_of(task) == node.host_mount_namespace)
		return false;
	note_starter(row, cgroup, task);
	return row->flags & CGROUP_CONTAINER;
}

/* For the hooks that refuse before the exec: reports what they refuse, and scripts; the tracepoint reports the rest. */
static __always_inline int refuse(struct linux_binprm *bprm, __u8 mechanism)
{
	__u64 begin = bpf_ktime_get_ns(), cgroup = bpf_get_current_cgroup_id();
	struct task_struct *task = current_task();
	struct belonging *known = belonging_of(task, false);
	struct cgroup_row row;
	struct scratch *s;
	char magic[2] = {};
	__u8 verdict;
	bool script, stranger;

	if (!judged_by(known, &cgroup, &row))
		return 0;
	if (known)
		stranger = known->stranger;
	else
		stranger = enters(&row, &cgroup, task) && is_stranger(&cgroup, task);
	/* A script is asked for again as its interpreter, which is the program that runs. */
	bpf_core_read(magic, sizeof(magic), &bprm->buf);
	script = magic[0] == '#' && magic[1] == '!';
	s = take_scratch();
	if (!s)
		return refuse_unjudged(&row) ? -EPERM : 0;
	s->early = script ? EARLY_SCRIPT : EARLY_PROGRAM;
	verdict = judge(s, &row, &cgroup, known, task, BPF_CORE_READ(bprm, file), script, stranger);
	if (verdict == VERDICT_DENY || (script && verdict == VERDICT_VIOLATE)) {
		s->record.verdict = verdict;
		s->record.decision_nanos = bpf_ktime_get_ns() - begin;
		report(s, task, bprm, BPF_CORE_READ(bprm, cred), cgroup, mechanism, false);
	}
	give_back(s);
	return verdict == VERDICT_DENY ? -EPERM : 0;
}

/* `long`, as the verifier looks at all 64 bits of what is returned and wants an error or 0 (Linux 6.12). */
SEC("?lsm/bprm_check_security")
long BPF_PROG(exec_lsm, struct linux_binprm *bprm, int earlier)
{
	return earlier || refuse(bprm, MECHANISM_BPF_LSM) ? -EPERM : 0;
}

SEC("?fmod_ret/security_bprm_check")
long BPF_PROG(exec_fmod_ret, struct linux_binprm *bprm, int earlier)
{
	return earlier || refuse(bprm, MECHANISM_FMOD_RET) ? -EPERM : 0;
}

SEC("?tp_btf/sched_process_exec")
int BPF_PROG(exec_tracepoint, struct task_struct *task, int old_pid, struct linux_binprm *bprm)
{
	__u64 begin = bpf_ktime_get_ns(), cgroup = bpf_get_current_cgroup_id();
	struct belonging *known = belonging_of(task, false);
	struct cgroup_row row;
	struct scratch *s;
	bool stranger = false;

	if (!judged_by(known, &cgroup, &row))
		return 0;
	if (known) {
		stranger = known->stranger;
	} else if (enters(&row, &cgroup, task)) {
		stranger = is_stranger(&cgroup, task);
		known = belong(task, cgroup, stranger);
	}
	if (known)
		notice(task, known);
	s = take_scratch();
	if (!s) {
		if (refuse_unjudged(&row) && bpf_send_signal(SIGKILL))
			count(COUNT_KILL_FAILED);
		return 0;
	}
	s->early = 0;
	s->record.verdict = judge(s, &row, &cgroup, known, task, BPF_CORE_READ(bprm, file), false, stranger);
	/* In the caller's own context: the signal is pending before the first user instruction. */
	if (s->record.verdict == VERDICT_DENY && bpf_send_signal(SIGKILL))
		count(COUNT_KILL_FAILED);
	s->record.decision_nanos = bpf_ktime_get_ns() - begin;
	report(s, task, bprm, BPF_CORE_READ(task, cred), cgroup, MECHANISM_TRACEPOINT_KILL, true);
	keep_caller(s, task);
	give_back(s);
	return 0;
}

#endif
