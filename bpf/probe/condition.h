/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
 *
 * Rules with conditions: who runs the program, out of which executable, with which arguments.
 *
 * A row by path leads to a list of them; the first whose conditions hold counts. What cannot be told lets a denial hold
 * and an allowance not. Arguments lie in the new program's memory, which a hook before the exec cannot read safely (the
 * caller's copy may still change): there such a rule is left to the exec tracepoint, which stops by a signal.
 */
#ifndef NV_PROBE_CONDITION_H
#define NV_PROBE_CONDITION_H

#include "maps.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64);
	__type(value, struct condition_row);
} conditions SEC(".maps");

/* What each process runs, by its id; kept only while a rule asks for it. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, struct caller_row);
} callers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} features SEC(".maps");

/* Bytes of arguments that are matched in a round. */
#define STEP 16

enum answer { HOLDS_NOT, HOLDS, HOLDS_LATER };

static __always_inline bool has_feature(__u32 feature)
{
	__u32 slot = 0, *value = bpf_map_lookup_elem(&features, &slot);

	return value && (*value & feature);
}

/* What the process ran until now. Paths of another mount namespace say nothing here. */
static __always_inline void find_caller(struct scratch *s, struct task_struct *task, bool container)
{
	__u32 pid = BPF_CORE_READ(task, tgid);
	struct caller_row *row = bpf_map_lookup_elem(&callers, &pid);
	struct cgroup_row parent;
	__u64 cgroup;

	s->facts.caller = CALLER_UNKNOWN;
	if (row) {
		__builtin_memcpy(s->caller, row->path, PATH_BYTES);
		if (row->mounts == mounts_of(task))
			s->facts.caller = row->unknown ? CALLER_UNKNOWN : CALLER_PROGRAM;
		else if (container && row->mounts == node.host_mount_namespace)
			s->facts.caller = CALLER_OUTSIDE;
		return;
	}
	if (!container)
		return;
	cgroup = cgroup_of(BPF_CORE_READ(task, real_parent));
	if (!row_of(&cgroup, &parent) || !(parent.flags & CGROUP_CONTAINER))
		s->facts.caller = CALLER_OUTSIDE;
}

/* The arguments, from the NUL that ends the program's name on. */
static __always_inline void read_arguments(struct scratch *s, struct task_struct *task)
{
	struct mm_struct *mm = BPF_CORE_READ(task, mm);
	unsigned long start = BPF_CORE_READ(mm, arg_start), end = BPF_CORE_READ(mm, arg_end);
	long name = bpf_probe_read_user_str(s->text, ARGUMENT_HEAD_BYTES, (void *)start);
	__u64 bytes;

	s->facts.arguments = ARGUMENTS_UNKNOWN;
	s->facts.argument_bytes = 0;
	/* A name that fills the buffer may be a longer one, cut. */
	if (name <= 0 || name >= ARGUMENT_HEAD_BYTES || start + name > end)
		return;
	start += name - 1;
	bytes = end - start;
	s->facts.arguments = bytes > ARGUMENT_HEAD_BYTES ? ARGUMENTS_HEAD : ARGUMENTS_WHOLE;
	asm volatile("" : "+r"(bytes)); /* the bound has to be on the very register that is used */
	if (bytes > ARGUMENT_HEAD_BYTES)
		bytes = ARGUMENT_HEAD_BYTES;
	s->facts.argument_bytes = bytes;
	if (bpf_probe_read_user(s->text, bytes, (void *)start))
		s->facts.arguments = ARGUMENTS_UNKNOWN;
}

/* Everything that conditions ask for; once a judgement. */
static __always_inline void find_facts(struct scratch *s, struct task_struct *task, bool container)
{
	if (s->facts.found)
		return;
	s->facts.found = 1;
	s->facts.uid = BPF_CORE_READ(task, cred, uid.val);
	find_caller(s, task, container);
	if (s->early)
		s->facts.arguments = s->early == EARLY_SCRIPT ? ARGUMENTS_UNKNOWN : ARGUMENTS_LATER;
	else
		read_arguments(s, task);
}

/* Whether the text of the rule `s->asked` is in the arguments where it should be: bit n of `state` says that its first
 * n + 1 bytes end here. A function of its own, as `holds` is, so that the verifier walks its loops once. */
__noinline int is_in_arguments(__u32 slot)
{
	struct scratch *s = bpf_map_lookup_elem(&scratches, &slot);
	struct condition_row *row;
	__u64 state = 0, begin = 1, seen = 0, loose;
	__u32 bytes, rest;

	if (!s)
		return 0;
	row = bpf_map_lookup_elem(&conditions, &s->asked);
	if (!row)
		return 0;
	loose = !(row->has & CONDITION_FROM_BEGIN);
	bytes = s->facts.argument_bytes;
	rest = bytes & ~(STEP - 1);
	/* Several bytes a round: the verifier's work grows with the square of the rounds. */
	for (int i = 0; i < ARGUMENT_HEAD_BYTES; i += STEP) {
		if (i >= rest)
			break;
#pragma unroll
		for (int j = 0; j < STEP; j++) {
			state = ((state << 1) | begin) & row->argument_masks[(__u8)s->text[i + j]];
			begin &= loose;
			seen |= state;
		}
	}
	for (int j = 0; j < STEP - 1; j++) {
		if (rest + j >= bytes)
			break;
		state = ((state << 1) | begin) & row->argument_masks[(__u8)s->text[(rest + j) & (ARGUMENT_HEAD_BYTES - 1)]];
		begin &= loose;
		seen |= state;
	}
	return (row->has & CONDITION_TO_END ? state : seen) >> (row->argument_bytes & 63) & 1;
}

/* Whether the rule `s->asked` speaks. */
__noinline int holds(__u32 slot)
{
	struct scratch *s = bpf_map_lookup_elem(&scratches, &slot);
	struct condition_row *row;
	bool unknown = false;
	__u64 differs = 0, word;
	__u32 bytes;

	if (!s)
		return HOLDS_NOT;
	row = bpf_map_lookup_elem(&conditions, &s->asked);
	if (!row)
		return HOLDS_NOT;
	if ((row->has & CONDITION_UID) && row->uid != s->facts.uid)
		return HOLDS_NOT;
	if (row->has & CONDITION_CALLER) {
		if (s->facts.caller == CALLER_OUTSIDE)
			return HOLDS_NOT;
		bytes = row->caller_bytes;
		for (int i = 0; i < PATH_BYTES; i += 8) {
			if (i >= bytes)
				break;
			word = *(__u64 *)(s->caller + i) ^ *(__u64 *)(row->caller + i);
			if (bytes - i < 8)
				word &= (1ULL << (8 * (bytes - i))) - 1;
			differs |= word;
		}
		unknown = s->facts.caller == CALLER_UNKNOWN;
		if (differs && !unknown)
			return HOLDS_NOT;
	}
	if (row->has & CONDITION_ARGUMENTS) {
		if (s->facts.arguments == ARGUMENTS_LATER)
			return HOLDS_LATER;
		if (s->facts.arguments == ARGUMENTS_UNKNOWN) {
			unknown = true;
		} else if (s->facts.arguments == ARGUMENTS_HEAD && (row->has & CONDITION_TO_END)) {
			/* More follows than the text is long, so it is not the whole. */
			if (row->has & CONDITION_FROM_BEGIN)
				return HOLDS_NOT;
			unknown = true;
		} else if (!is_in_arguments(slot)) {
			if (s->facts.arguments == ARGUMENTS_WHOLE || (row->has & CONDITION_FROM_BEGIN))
				return HOLDS_NOT;
			unknown = true;
		}
	}
	return !unknown || row->action == ACTION_DENY ? HOLDS : HOLDS_NOT;
}

/* Asks the list that begins with `s->asked`; what holds is `s->found` then, if it stands before what was found. */
__noinline int consult(__u32 slot)
{
	struct scratch *s = bpf_map_lookup_elem(&scratches, &slot);
	struct condition_row *row;
	int answer;

	if (!s)
		return 0;
	for (int i = 0; i < CONDITION_LIST; i++) {
		row = bpf_map_lookup_elem(&conditions, &s->asked);
		if (!row || row->order >= s->found.order)
			return 0;
		answer = holds(slot);
		if (answer == HOLDS_NOT) {
			s->asked = row->next;
			continue;
		}
		s->found.order = row->order;
		s->found.rule = row->rule;
		s->found.flags = row->flags;
		s->found.action = answer == HOLDS_LATER ? ACTION_LATER : row->action;
		return 0;
	}
	return 0;
}

/* Keeps what a process runs from now on, for its next exec and its children. Without its whole path it is not known. */
static __always_inline void keep_caller(struct scratch *s, struct task_struct *task)
{
	__u32 pid = BPF_CORE_READ(task, tgid);
	struct caller_row *row = (struct caller_row *)s->text;

	if (!has_feature(FEATURE_CALLERS))
		return;
	row->mounts = mounts_of(task);
	/* A runtime's own may be on a mount that is nowhere: it is outside all the same. */
	row->unknown = !!(s->record.flags & EXEC_TRUNCATED);
	__builtin_memcpy(row->path, s->exact.path, PATH_BYTES);
	if (bpf_map_update_elem(&callers, &pid, row, 0))
		count(COUNT_CALLERS_FULL);
}

static __always_inline void inherit_caller(__u32 parent, __u32 child)
{
	struct caller_row *row;

	if (!has_feature(FEATURE_CALLERS))
		return;
	row = bpf_map_lookup_elem(&callers, &parent);
	if (!row)
		bpf_map_delete_elem(&callers, &child);
	else if (bpf_map_update_elem(&callers, &child, row, 0))
		count(COUNT_CALLERS_FULL);
}

static __always_inline void forget_caller(__u32 pid)
{
	if (has_feature(FEATURE_CALLERS))
		bpf_map_delete_elem(&callers, &pid);
}

#endif
