/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
 *
 * What processes of containers ask the kernel for that attacks are made of: mounts, namespaces, modules, BPF programs,
 * the rights of root, another process's memory. Told, never stopped.
 *
 * All but the last need a capability, so what is looked at are the kernel's checks of capabilities, and the system call
 * that they are made for. Tracepoints of system calls, one by one or all, would slow down every call of every process
 * of the machine (by a third for the shortest); checks of these capabilities are rare.
 */
#ifndef NV_PROBE_BEHAVIOUR_H
#define NV_PROBE_BEHAVIOUR_H

#include "belonging.h"
#include "call.h"
#include "limit.h"

/* Records of a kind that a cgroup may make in a second; more are counted. */
#define DEEDS_PER_SECOND 20
/* Within it the same request is the same system call: several checks may be made for one. */
#define SAME_CALL_NANOS 1000000

/* uapi/linux/capability.h */
#define CAP_SETUID 7
#define CAP_SYS_MODULE 16
#define CAP_SYS_PTRACE 19
#define CAP_SYS_ADMIN 21
#define CAP_BPF 39

#define SIGSTOP 19
#define PTRACE_MODE_ATTACH 2
#define BPF_PROG_LOAD 5
#define PROGRAM_NAME_AT 48 /* union bpf_attr: prog_name */
#define MS_REMOUNT 0x20
#define OPEN_TREE_CLONE 1
#define NEW_NAMESPACES 0x7e020080 /* CLONE_NEW… (uapi/linux/sched.h) */
#define CLONE_NEWUSER 0x10000000

/* What was asked for; kernel side only. */
struct request {
	__u32 deed;
	__u32 flags;
	__u64 argument;
	const char *type; /* in the process' memory */
	const char *from;
	const char *target;
	const char *cgroup; /* in the kernel's memory */
};

/* Tells of it. `actor` did it in the name of `cgroup`; `other` is whom it was done to. */
static __always_inline void tell_deed(struct task_struct *actor, __u64 cgroup, struct request *request,
				      struct task_struct *other)
{
	struct deed_record *record;
	struct record_head head;

	if (!within(cgroup, LIMIT_DEED | request->deed, DEEDS_PER_SECOND)) {
		count(COUNT_LIMITED_DEED);
		return;
	}
	begin_record(&head, RECORD_DEED, BPF_CORE_READ(actor, tgid), cgroup);
	record = bpf_ringbuf_reserve(&ring, sizeof(*record), 0);
	if (!record) {
		count(COUNT_DROPPED_DEED);
		return;
	}
	__builtin_memset(record, 0, sizeof(*record));
	record->head = head;
	record->deed = request->deed;
	record->flags = request->flags;
	record->argument = request->argument;
	record->parent_pid = BPF_CORE_READ(actor, real_parent, tgid);
	record->uid = BPF_CORE_READ(actor, cred, uid.val);
	record->euid = BPF_CORE_READ(actor, cred, euid.val);
	bpf_core_read(record->comm, COMM_BYTES, &actor->comm);
	if (other) {
		record->other_pid = BPF_CORE_READ(other, tgid);
		bpf_core_read(record->other_comm, COMM_BYTES, &other->comm);
	}
	if (request->type)
		bpf_probe_read_user_str(record->type_name, DEED_TYPE_BYTES, request->type);
	if (request->from)
		bpf_probe_read_user_str(record->from, DEED_TEXT_BYTES, request->from);
	if (request->target)
		bpf_probe_read_user_str(record->target, DEED_TEXT_BYTES, request->target);
	if (request->cgroup)
		bpf_probe_read_kernel_str(record->target, DEED_TEXT_BYTES, request->cgroup);
	bpf_ringbuf_submit(record, BPF_RB_FORCE_WAKEUP);
}

/* Tells of it once for each system call. */
static __always_inline void tell_once(struct task_struct *task, struct belonging *known, struct request *request,
				      struct task_struct *other)
{
	__u64 now = bpf_ktime_get_boot_ns();

	if (known->told_deed == request->deed && known->told_argument == request->argument &&
	    now - known->told_at < SAME_CALL_NANOS)
		return;
	known->told_deed = request->deed;
	known->told_argument = request->argument;
	known->told_at = now;
	tell_deed(task, known->cgroup, request, other);
}

/* A user who is not root in its user namespace asks to be root there. */
static __always_inline bool rises(struct task_struct *task, __u32 wanted)
{
	const struct cred *cred = BPF_CORE_READ(task, cred);
	__u32 root = 0;

	if (wanted)
		return false;
	if (!BPF_CORE_READ(cred, user_ns, uid_map.extent[0].first))
		root = BPF_CORE_READ(cred, user_ns, uid_map.extent[0].lower_first);
	return BPF_CORE_READ(cred, uid.val) != root && BPF_CORE_READ(cred, euid.val) != root;
}

/* What a system call asks for; false for what is of no interest. */
static __always_inline bool read_request(struct request *request, struct task_struct *task, __u32 call,
					 unsigned long *argument)
{
	switch (call) {
	case CALL_MOUNT:
		request->deed = argument[3] & MS_REMOUNT ? DEED_REMOUNT : DEED_MOUNT;
		request->argument = argument[3];
		request->from = (const char *)argument[0];
		request->target = (const char *)argument[1];
		request->type = (const char *)argument[2];
		return true;
	case CALL_FSOPEN:
		request->deed = DEED_MOUNT;
		request->type = (const char *)argument[0];
		return true;
	case CALL_OPEN_TREE:
		request->deed = DEED_MOUNT;
		request->from = (const char *)argument[1];
		return argument[2] & OPEN_TREE_CLONE;
	case CALL_FSPICK:
	case CALL_MOUNT_SETATTR:
		request->deed = DEED_REMOUNT;
		request->target = (const char *)argument[1];
		return true;
	case CALL_MOVE_MOUNT:
		request->deed = DEED_MOVE_MOUNT;
		request->from = (const char *)argument[1];
		request->target = (const char *)argument[3];
		return true;
	case CALL_PIVOT_ROOT:
		request->deed = DEED_PIVOT_ROOT;
		request->target = (const char *)argument[0];
		return true;
	case CALL_MODULE:
		request->deed = DEED_MODULE_LOAD;
		return true;
	case CALL_BPF:
		request->deed = DEED_BPF_LOAD;
		request->from = (const char *)argument[1] + PROGRAM_NAME_AT;
		return (__u32)argument[0] == BPF_PROG_LOAD;
	case CALL_SETNS:
		request->deed = DEED_JOIN_NAMESPACE;
		request->argument = (__u32)argument[1];
		return true;
	case CALL_CLONE3:
		if (bpf_probe_read_user(&request->argument, sizeof(request->argument), (void *)argument[0]))
			return false;
		break;
	case CALL_CLONE:
	case CALL_UNSHARE:
		request->argument = argument[0];
		break;
	case CALL_SETUID:
		request->deed = DEED_BECOME_ROOT;
		return rises(task, argument[0]);
	case CALL_SETREUID:
		request->deed = DEED_BECOME_ROOT;
		return rises(task, argument[0]) || rises(task, argument[1]);
	case CALL_SETRESUID:
		request->deed = DEED_BECOME_ROOT;
		return rises(task, argument[0]) || rises(task, argument[1]) || rises(task, argument[2]);
	case CALL_PTRACE:
	case CALL_PROCESS_MEMORY:
		request->deed = DEED_PTRACE;
		return true;
	default:
		return false;
	}
	request->deed = DEED_NEW_NAMESPACE;
	request->argument &= NEW_NAMESPACES;
	return request->argument != 0;
}

/* The kernel was asked whether the current process has a capability. */
static __always_inline void checked(const struct cred *cred, int cap, int answer)
{
	struct task_struct *task;
	struct request request = {};
	unsigned long argument[CALL_ARGUMENTS] = {};
	struct belonging *known;
	__u32 call;

	switch (cap) {
	case CAP_SETUID:
	case CAP_SYS_MODULE:
	case CAP_SYS_PTRACE:
	case CAP_SYS_ADMIN:
	case CAP_BPF:
		break;
	default:
		return;
	}
	task = current_task();
	/* A file system asks for itself meanwhile, as an overlay does with the rights of who mounted it. */
	if (cred != BPF_CORE_READ(task, real_cred))
		return;
	call = current_call(task, argument);
	/* In this order: in the midst of an exec a process runs its new program already, and belongs to nobody yet. */
	if (!call || !read_request(&request, task, call, argument) || !(known = own(task)))
		return;
	/* Programs that try to be root, just in case, and are not let have gained nothing. */
	if (answer && request.deed == DEED_BECOME_ROOT)
		return;
	request.flags = answer ? DEED_REFUSED : 0;
	if (!answer && (request.deed == DEED_MOUNT || request.deed == DEED_MOVE_MOUNT || request.deed == DEED_PIVOT_ROOT))
		note_mount(known);
	tell_once(task, known, &request, NULL);
}

/* Most cgroups between one and the container's. */
#define NESTED 16

/* `task` is in another cgroup now. Within its container that is its own business, and `sent` by the host the host's. */
static __always_inline void moved(struct task_struct *task, struct belonging *known, struct cgroup *cgroup,
				  const char *path, bool sent)
{
	struct request request = { .deed = DEED_LEAVE_CGROUP, .cgroup = path };
	__u32 *left = have_left();

	request.argument = cgroup_id(cgroup);
	for (int step = 0; step < NESTED && cgroup; step++) {
		if (cgroup_id(cgroup) == known->cgroup)
			return;
		cgroup = BPF_CORE_READ(cgroup, self.parent, cgroup);
	}
	if (left)
		*left = 1;
	if (!sent)
		tell_deed(task, known->cgroup, &request, NULL);
}

/* From 6.14, whatever else the kernel allows. */
SEC("?tp_btf/cap_capable")
int BPF_PROG(capability_tracepoint, const struct cred *cred, struct user_namespace *target,
	     const struct user_namespace *capable, int cap, int answer)
{
	checked(cred, cap, answer);
	return 0;
}

SEC("?fexit/security_capable")
int BPF_PROG(capability_fexit, const struct cred *cred, struct user_namespace *target, int cap, unsigned int options,
	     int answer)
{
	checked(cred, cap, answer);
	return 0;
}

static __always_inline void traces(struct task_struct *other, int answer)
{
	struct task_struct *task = current_task();
	struct request request = { .deed = DEED_PTRACE, .flags = answer ? DEED_REFUSED : 0 };
	struct belonging *known = own(task);

	if (!known)
		return;
	request.argument = BPF_CORE_READ(other, tgid);
	tell_once(task, known, &request, other);
}

/* ptrace(2), process_vm_writev(2), /proc/<pid>/mem: whatever reads or steers another process. */
SEC("?fexit/security_ptrace_access_check")
int BPF_PROG(ptrace_fexit, struct task_struct *other, unsigned int mode, int answer)
{
	if (mode & PTRACE_MODE_ATTACH)
		traces(other, answer);
	return 0;
}

/* Where the kernel has no such hook: PTRACE_ATTACH stops the other process by a signal. */
SEC("?tp_btf/signal_generate")
int BPF_PROG(ptrace_tracepoint, int signal, void *info, struct task_struct *other)
{
	unsigned long argument[CALL_ARGUMENTS];

	if (signal == SIGSTOP && current_call(current_task(), argument) == CALL_PTRACE)
		traces(other, 0);
	return 0;
}

/* `task` runs a program, or was made: is it traced, by a process of its container? And has it made a user namespace for
 * itself, for which no capability is asked? */
static __always_inline void notice(struct task_struct *task, struct belonging *known)
{
	struct request request = { .deed = DEED_PTRACE };
	__u32 namespace = user_namespace_of(task);
	struct task_struct *tracer;
	__u64 cgroup;

	if (BPF_CORE_READ(task, ptrace)) {
		struct cgroup_row row;

		tracer = BPF_CORE_READ(task, parent);
		cgroup = cgroup_of(tracer);
		if (row_of(&cgroup, &row) && (row.flags & CGROUP_CONTAINER))
			tell_deed(tracer, cgroup, &request, task);
	}
	if (namespace != known->user_namespace) {
		bool first = !known->user_namespace;

		known->user_namespace = namespace;
		if (first)
			return;
		request.deed = DEED_NEW_NAMESPACE;
		request.argument = CLONE_NEWUSER;
		tell_deed(task, known->cgroup, &request, NULL);
	}
}

#endif
