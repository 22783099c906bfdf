// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Programs: which ones a cgroup may run, and what was run.
 *
 * A cgroup has a row (profile, flags); a profile has a mode, a baseline and rules by path. `judge` looks the
 * executable up and decides; three hooks ask it: an LSM hook and a modified return of the LSM call, which refuse
 * with EPERM, and the exec tracepoint, which kills the caller before it returns to user space. The tracepoint runs
 * always: it reports every exec, and it stops what an earlier hook could not decide (a preempted fmod_ret program
 * is skipped by the kernel).
 *
 * A new cgroup inherits its parent's row here, in the kernel, so that a container's first program is already judged.
 */
#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include "process.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Deepest path, in components, that is followed. 255 bytes of shorter names than three letters are no real path. */
#define PARTS 64
/* Mounts crossed on the way to the root, on top of the components. */
#define MOUNTS 16
/* Working memories a CPU: as many judgements can preempt one another on it. */
#define SCRATCHES 4
/* Records wait for a timer of the reader until this many bytes lie in the ring. */
#define WAKE_BYTES (64 * 1024)

/* Inode of the host's mount namespace, set by the loader. */
const volatile __u32 host_mount_namespace = 0;

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
	__u32 busy;
	__u32 parts;
	__u32 offset;
	__u32 name_length;
	__u32 headless; /* the walk ended before the root: how the path begins is not known */
	__u32 reserved;
	struct part part[PARTS];
	/* The others are here only for the object's BTF to tell their layout, which a test compares. */
	union {
		struct exec_record record;
		struct fork_record fork;
		struct exit_record exit;
		struct cgroup_record cgroup;
		enum counter counter;
	};
	struct exact_key exact;
	char beyond[PATH_BYTES]; /* never written, but the verifier sees offset and length apart */
	struct pattern_key pattern;
	char name[PATH_BYTES];
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

static __always_inline __u64 cgroup_id(struct cgroup *cgroup)
{
	return BPF_CORE_READ(cgroup, kn, id);
}

static __always_inline __u64 cgroup_of(struct task_struct *task)
{
	return cgroup_id(BPF_CORE_READ(task, cgroups, dfl_cgrp));
}

static __always_inline __u64 wakeup(bool urgent)
{
	if (urgent || bpf_ringbuf_query(&ring, BPF_RB_AVAIL_DATA) >= WAKE_BYTES)
		return BPF_RB_FORCE_WAKEUP;
	return BPF_RB_NO_WAKEUP;
}

/* A judgement may be preempted by another one on the same CPU, so its memory is taken, not just used. */
static __always_inline struct scratch *take_scratch(void)
{
	/* Unrolled: before 6.14 the verifier forgets the value of a counter whose address is taken. */
#pragma unroll
	for (int i = 0; i < SCRATCHES; i++) {
		__u32 slot = i;
		struct scratch *s = bpf_map_lookup_elem(&scratches, &slot);

		if (s && !__sync_lock_test_and_set(&s->busy, 1))
			return s;
	}
	count(COUNT_SCRATCH_BUSY);
	return NULL;
}

static __always_inline void give_back(struct scratch *s)
{
	__sync_lock_test_and_set(&s->busy, 0);
}

static __always_inline struct mount *mount_of(struct vfsmount *mnt)
{
	return (struct mount *)((char *)mnt - bpf_core_field_offset(struct mount, mnt));
}

static __always_inline bool add_part(struct scratch *s, struct dentry *dentry)
{
	__u32 at = s->parts;

	if (at >= PARTS)
		return false;
	s->part[at].name = BPF_CORE_READ(dentry, d_name.name);
	s->part[at].length = BPF_CORE_READ(dentry, d_name.len);
	s->parts = at + 1;
	return true;
}

/* Collects the components of the executable's path, the file name first, up to the task's root. */
static __always_inline void walk(struct scratch *s, struct file *file, struct task_struct *task)
{
	struct dentry *root = BPF_CORE_READ(task, fs, root.dentry);
	struct vfsmount *root_mnt = BPF_CORE_READ(task, fs, root.mnt);
	struct dentry *dentry = BPF_CORE_READ(file, f_path.dentry);
	struct vfsmount *mnt = BPF_CORE_READ(file, f_path.mnt);

	s->parts = 0;
	s->headless = 0;
	for (int step = 0; step < PARTS + MOUNTS; step++) {
		struct dentry *mnt_root, *parent;

		if (dentry == root && mnt == root_mnt)
			return;
		mnt_root = BPF_CORE_READ(mnt, mnt_root);
		parent = BPF_CORE_READ(dentry, d_parent);
		if (dentry == mnt_root) {
			struct mount *here = mount_of(mnt);
			struct mount *above = BPF_CORE_READ(here, mnt_parent);

			/* A tree that was mounted nowhere in the task's sight, as a lazily unmounted one: its paths
			 * say nothing, else `/bin/sh` in it would be taken for the real one. */
			if (here == above) {
				if (!s->parts)
					add_part(s, dentry);
				break;
			}
			dentry = BPF_CORE_READ(here, mnt_mountpoint);
			mnt = (struct vfsmount *)((char *)above + bpf_core_field_offset(struct mount, mnt));
			continue;
		}
		if (!add_part(s, dentry))
			break;
		if (dentry == parent)
			return; /* in no folder: a memfd, which is named `memfd:…` */
		dentry = parent;
	}
	s->headless = 1;
}

/* Writes the collected components as a path, padded with NUL. False when it did not fit. */
static __always_inline bool write_path(struct scratch *s)
{
	char *path = s->exact.path;

	__builtin_memset(s->exact.path, 0, PATH_BYTES);
	s->offset = 0;
	for (int i = 0; i < PARTS; i++) {
		__u32 parts = s->parts, offset = s->offset, at, length;

		if (i >= parts)
			return !s->headless;
		at = parts - 1 - i;
		if (at >= PARTS || offset >= PATH_BYTES - 1)
			return false;
		path[offset] = '/';
		offset++;
		length = s->part[at].length;
		if (length > PATH_BYTES - 1 - offset) {
			length = (PATH_BYTES - 1 - offset) & (PATH_BYTES - 1);
			bpf_probe_read_kernel(path + offset, length, s->part[at].name);
			return false;
		}
		bpf_probe_read_kernel(path + offset, length & (PATH_BYTES - 1), s->part[at].name);
		s->offset = offset + length;
	}
	return !s->headless;
}

/* FNV-1a, 64 bits, of the file name. */
static __always_inline __u64 name_hash(struct scratch *s)
{
	__u64 hash = 0xcbf29ce484222325ULL;
	__u32 length = s->part[0].length;

	if (!s->parts)
		return 0;
	if (length > PATH_BYTES - 1)
		length = PATH_BYTES - 1;
	bpf_probe_read_kernel(s->name, length, s->part[0].name);
	s->name_length = length;
	for (int i = 0; i < PATH_BYTES - 1; i++) {
		if (i >= s->name_length)
			break;
		hash ^= (__u8)s->name[i];
		hash *= 0x100000001b3ULL;
	}
	return hash ? hash : 1; /* 0 means any name */
}

/* Where the file comes from, as EXEC_ flags. */
static __always_inline __u32 origin(struct file *file, struct task_struct *task, bool container)
{
	struct inode *inode = BPF_CORE_READ(file, f_inode);
	struct super_block *sb = BPF_CORE_READ(inode, i_sb);
	__u32 flags = 0;

	if (!BPF_CORE_READ(inode, i_nlink))
		flags |= EXEC_FILELESS;
	if (!container)
		return flags; /* a host has no image */
	if (BPF_CORE_READ(sb, s_magic) != OVERLAYFS_SUPER_MAGIC || sb != BPF_CORE_READ(task, fs, root.mnt, mnt_sb))
		return flags | EXEC_OTHER_MOUNT;
	if (!bpf_core_type_exists(struct ovl_inode))
		return flags | EXEC_ORIGIN_UNKNOWN;
	struct ovl_inode *overlay = (void *)((char *)inode - bpf_core_field_offset(struct ovl_inode, vfs_inode));
	if (BPF_CORE_READ(overlay, __upperdentry))
		flags |= EXEC_CHANGED;
	return flags;
}

/* The row of the lowest order among exact path, patterns with this name, patterns with any name. */
static __always_inline struct rule_row *find_rule(struct scratch *s, __u32 profile, bool whole)
{
	struct rule_row *best = NULL, *row;
	__u64 hash = name_hash(s);

	if (whole) {
		s->exact.profile = profile;
		best = bpf_map_lookup_elem(&exact, &s->exact);
	}
	s->pattern.prefixlen = 8 * (sizeof(s->pattern) - sizeof(s->pattern.prefixlen));
	s->pattern.profile = profile;
	/* Without its beginning a path matches only what may lie anywhere. */
	if (s->headless)
		__builtin_memset(s->pattern.path, 0, PREFIX_BYTES);
	else
		__builtin_memcpy(s->pattern.path, s->exact.path, PREFIX_BYTES);
	s->pattern.name_hash[0] = hash;
	s->pattern.name_hash[1] = hash >> 32;
	row = bpf_map_lookup_elem(&patterns, &s->pattern);
	if (row && (!best || row->order < best->order))
		best = row;
	s->pattern.name_hash[0] = 0;
	s->pattern.name_hash[1] = 0;
	row = bpf_map_lookup_elem(&patterns, &s->pattern);
	if (row && (!best || row->order < best->order))
		best = row;
	return best;
}

/* Decides about `file` for the cgroup's row; everything about it lands in `s->record`. */
static __always_inline __u8 judge(struct scratch *s, struct cgroup_row *row, struct task_struct *task,
				  struct file *file)
{
	struct exec_record *record = &s->record;
	bool container = row->flags & CGROUP_CONTAINER, whole;
	struct profile_row *profile;
	struct rule_row *rule;
	__u32 number = row->profile;
	bool drifted, allowed;

	walk(s, file, task);
	whole = write_path(s);
	record->profile = number;
	record->rule = NO_RULE;
	record->mode = 0;
	record->baseline = 0;
	record->flags = origin(file, task, container);
	if (!whole)
		record->flags |= EXEC_TRUNCATED;
	if (container)
		record->flags |= EXEC_CONTAINER;
	if (BPF_CORE_READ(task, nsproxy, mnt_ns, ns.inum) == host_mount_namespace) {
		record->flags |= EXEC_HOST_MOUNTS;
		/* runc starts itself anew in the container's cgroup, from a memfd; refusing that fails every start. */
		if (container) {
			record->flags |= EXEC_RUNTIME;
			count(COUNT_RUNTIME_EXEC);
			return VERDICT_OPEN;
		}
	}
	profile = bpf_map_lookup_elem(&profiles, &number);
	if (!profile) {
		count(COUNT_NO_PROFILE);
		return VERDICT_OPEN;
	}
	record->mode = profile->mode;
	record->baseline = profile->baseline;
	drifted = record->flags & (EXEC_CHANGED | EXEC_FILELESS | EXEC_OTHER_MOUNT);
	rule = find_rule(s, number, whole);
	if (rule)
		record->rule = rule->rule;
	if (rule && rule->action == ACTION_DENY)
		return profile->mode == MODE_PROTECT ? VERDICT_DENY : VERDICT_VIOLATE;
	if (profile->baseline == BASELINE_ZERO_DRIFT)
		allowed = !drifted || (rule && (rule->flags & RULE_ALLOW_UPDATE));
	else
		allowed = rule != NULL;
	if (allowed)
		return VERDICT_ALLOW;
	if (profile->mode == MODE_DISCOVER)
		return VERDICT_LEARN;
	return profile->mode == MODE_PROTECT ? VERDICT_DENY : VERDICT_VIOLATE;
}

/* What there is no memory to judge is stopped in Protect where the group fails closed; else it passes, counted. */
static __always_inline bool refuse_unjudged(struct cgroup_row *row)
{
	__u32 number = row->profile;
	struct profile_row *profile = bpf_map_lookup_elem(&profiles, &number);

	return profile && profile->mode == MODE_PROTECT && (profile->flags & PROFILE_FAIL_CLOSED);
}

/* Fills what the verdict does not need, and hands the record over. */
static __always_inline void report(struct scratch *s, struct task_struct *task, struct linux_binprm *bprm,
				   const struct cred *cred, __u64 cgroup, __u8 mechanism, bool with_arguments)
{
	struct exec_record *record = &s->record;
	struct task_struct *parent = BPF_CORE_READ(task, real_parent);
	bool denied = record->verdict == VERDICT_DENY;

	record->head.kind = RECORD_EXEC;
	record->head.pid = BPF_CORE_READ(task, tgid);
	record->head.at = bpf_ktime_get_boot_ns();
	record->head.cgroup = cgroup;
	record->parent_cgroup = cgroup_of(parent);
	record->parent_pid = BPF_CORE_READ(parent, tgid);
	record->uid = BPF_CORE_READ(cred, uid.val);
	record->euid = BPF_CORE_READ(cred, euid.val);
	record->mechanism = denied ? mechanism : MECHANISM_NONE;
	record->reserved = 0;
	bpf_core_read(record->comm, COMM_BYTES, &task->comm);
	bpf_core_read(record->parent_comm, COMM_BYTES, &parent->comm);
	__builtin_memcpy(record->path, s->exact.path, PATH_BYTES);
	__builtin_memset(record->filename, 0, FILENAME_BYTES);
	bpf_probe_read_kernel_str(record->filename, FILENAME_BYTES, BPF_CORE_READ(bprm, filename));
	__builtin_memset(record->arguments, 0, ARGUMENT_BYTES);
	record->argument_bytes = 0;
	if (with_arguments) {
		struct mm_struct *mm = BPF_CORE_READ(task, mm);
		unsigned long start = BPF_CORE_READ(mm, arg_start);
		unsigned long bytes = BPF_CORE_READ(mm, arg_end) - start;

		if (bytes > ARGUMENT_BYTES)
			bytes = ARGUMENT_BYTES;
		if (!bpf_probe_read_user(record->arguments, bytes, (void *)start))
			record->argument_bytes = bytes;
	}
	if (bpf_ringbuf_output(&ring, record, sizeof(*record), wakeup(denied)))
		count(COUNT_DROPPED_EXEC);
	if (record->flags & EXEC_RUNTIME)
		return;
	count(COUNT_OPEN + (record->verdict & 7));
}

/* For the hooks that refuse before the exec: reports only what they refuse, the tracepoint reports the rest. */
static __always_inline int refuse(struct linux_binprm *bprm, __u8 mechanism)
{
	__u64 begin = bpf_ktime_get_ns(), cgroup = bpf_get_current_cgroup_id();
	struct cgroup_row *row = bpf_map_lookup_elem(&cgroups, &cgroup);
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct scratch *s;
	char magic[2] = {};
	__u8 verdict;

	if (!row)
		return 0;
	/* A script is asked for again as its interpreter, which is the program that runs. */
	bpf_core_read(magic, sizeof(magic), &bprm->buf);
	if (magic[0] == '#' && magic[1] == '!')
		return 0;
	s = take_scratch();
	if (!s)
		return refuse_unjudged(row) ? -EPERM : 0;
	verdict = judge(s, row, task, BPF_CORE_READ(bprm, file));
	if (verdict == VERDICT_DENY) {
		s->record.verdict = verdict;
		s->record.decision_nanos = bpf_ktime_get_ns() - begin;
		report(s, task, bprm, BPF_CORE_READ(bprm, cred), cgroup, mechanism, false);
	}
	give_back(s);
	return verdict == VERDICT_DENY ? -EPERM : 0;
}

SEC("?lsm/bprm_check_security")
int BPF_PROG(exec_lsm, struct linux_binprm *bprm, int earlier)
{
	return earlier ? earlier : refuse(bprm, MECHANISM_BPF_LSM);
}

SEC("?fmod_ret/security_bprm_check")
int BPF_PROG(exec_fmod_ret, struct linux_binprm *bprm, int earlier)
{
	return earlier ? earlier : refuse(bprm, MECHANISM_FMOD_RET);
}

SEC("?tp_btf/sched_process_exec")
int BPF_PROG(exec_tracepoint, struct task_struct *task, int old_pid, struct linux_binprm *bprm)
{
	__u64 begin = bpf_ktime_get_ns(), cgroup = bpf_get_current_cgroup_id();
	struct cgroup_row *row = bpf_map_lookup_elem(&cgroups, &cgroup);
	struct scratch *s;

	if (!row)
		return 0;
	s = take_scratch();
	if (!s) {
		if (refuse_unjudged(row) && bpf_send_signal(SIGKILL))
			count(COUNT_KILL_FAILED);
		return 0;
	}
	s->record.verdict = judge(s, row, task, BPF_CORE_READ(bprm, file));
	/* In the caller's own context: the signal is pending before the first user instruction. */
	if (s->record.verdict == VERDICT_DENY && bpf_send_signal(SIGKILL))
		count(COUNT_KILL_FAILED);
	s->record.decision_nanos = bpf_ktime_get_ns() - begin;
	report(s, task, bprm, BPF_CORE_READ(task, cred), cgroup, MECHANISM_TRACEPOINT_KILL, true);
	give_back(s);
	return 0;
}

SEC("?tp_btf/sched_process_fork")
int BPF_PROG(fork_tracepoint, struct task_struct *parent, struct task_struct *child)
{
	__u32 pid = BPF_CORE_READ(child, pid);
	__u64 cgroup;
	struct fork_record *record;

	if (pid != BPF_CORE_READ(child, tgid))
		return 0; /* a thread */
	cgroup = cgroup_of(child);
	if (!bpf_map_lookup_elem(&cgroups, &cgroup))
		return 0;
	record = bpf_ringbuf_reserve(&ring, sizeof(*record), 0);
	if (!record) {
		count(COUNT_DROPPED_FORK);
		return 0;
	}
	record->head.kind = RECORD_FORK;
	record->head.pid = pid;
	record->head.at = bpf_ktime_get_boot_ns();
	record->head.cgroup = cgroup;
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
	struct exit_record *record;

	if (pid != BPF_CORE_READ(task, tgid) || !bpf_map_lookup_elem(&cgroups, &cgroup))
		return 0;
	record = bpf_ringbuf_reserve(&ring, sizeof(*record), 0);
	if (!record) {
		count(COUNT_DROPPED_EXIT);
		return 0;
	}
	record->head.kind = RECORD_EXIT;
	record->head.pid = pid;
	record->head.at = bpf_ktime_get_boot_ns();
	record->head.cgroup = cgroup;
	record->code = BPF_CORE_READ(task, exit_code);
	record->reserved = 0;
	bpf_ringbuf_submit(record, wakeup(false));
	return 0;
}

static __always_inline void report_cgroup(__u32 kind, __u64 id, __u64 parent, struct cgroup_row *row,
					  const char *path)
{
	struct cgroup_record *record = bpf_ringbuf_reserve(&ring, sizeof(*record), 0);

	if (!record) {
		count(COUNT_DROPPED_CGROUP);
		return;
	}
	record->head.kind = kind;
	record->head.pid = bpf_get_current_pid_tgid() >> 32;
	record->head.at = bpf_ktime_get_boot_ns();
	record->head.cgroup = id;
	record->parent = parent;
	record->profile = row ? row->profile : 0;
	record->flags = row ? row->flags : 0;
	__builtin_memset(record->path, 0, CGROUP_PATH_BYTES);
	bpf_probe_read_kernel_str(record->path, CGROUP_PATH_BYTES, path);
	bpf_ringbuf_submit(record, wakeup(true));
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
	struct cgroup_row *row;

	if (!is_unified(cgroup))
		return 0;
	id = cgroup_id(cgroup);
	parent = cgroup_id(BPF_CORE_READ(cgroup, self.parent, cgroup));
	row = bpf_map_lookup_elem(&cgroups, &parent);
	if (row) {
		struct cgroup_row inherited = *row;

		/* User space may have been faster; its row stays. */
		if (bpf_map_update_elem(&cgroups, &id, &inherited, BPF_NOEXIST) &&
		    !bpf_map_lookup_elem(&cgroups, &id))
			count(COUNT_CGROUPS_FULL);
	}
	report_cgroup(RECORD_CGROUP_MADE, id, parent, row, path);
	return 0;
}

SEC("?tp_btf/cgroup_rmdir")
int BPF_PROG(cgroup_gone, struct cgroup *cgroup, const char *path)
{
	__u64 id, parent;

	if (!is_unified(cgroup))
		return 0;
	id = cgroup_id(cgroup);
	parent = cgroup_id(BPF_CORE_READ(cgroup, self.parent, cgroup));
	bpf_map_delete_elem(&cgroups, &id);
	report_cgroup(RECORD_CGROUP_GONE, id, parent, NULL, path);
	return 0;
}
