/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
 *
 * Whether a program may run: the cgroup's profile, its rules, and the file's origin.
 */
#ifndef NV_PROBE_JUDGE_H
#define NV_PROBE_JUDGE_H

#include "belonging.h"
#include "condition.h"

/* Takes a row into account: the rule of the lowest order counts. */
static __always_inline void consider(struct scratch *s, struct rule_row *row, struct task_struct *task, bool container)
{
	if (!row || row->order >= s->found.order)
		return;
	if (row->conditional) {
		find_facts(s, task, container);
		s->asked = row->conditional;
		consult(s->slot);
		return;
	}
	s->found.order = row->order;
	s->found.rule = row->rule;
	s->found.flags = row->flags;
	s->found.action = row->action;
}

/* The rule of the lowest order among exact path, patterns with this name, patterns with any name: `s->found`. */
static __always_inline void find_rule(struct scratch *s, __u32 profile, bool whole, bool has_patterns,
				      struct task_struct *task, bool container)
{
	__u64 hash;

	s->found.order = NO_RULE;
	s->found.rule = NO_RULE;
	s->found.flags = 0;
	s->found.action = ACTION_NONE;
	s->facts.found = 0;
	if (whole) {
		s->exact.profile = profile;
		consider(s, bpf_map_lookup_elem(&exact, &s->exact), task, container);
	}
	if (!has_patterns)
		return;
	hash = name_hash(s);
	s->pattern.prefixlen = 8 * (sizeof(s->pattern) - sizeof(s->pattern.prefixlen));
	s->pattern.profile = profile;
	/* Without its beginning a path matches only what may lie anywhere. */
	if (s->headless)
		__builtin_memset(s->pattern.path, 0, PREFIX_BYTES);
	else
		__builtin_memcpy(s->pattern.path, s->exact.path, PREFIX_BYTES);
	s->pattern.name_hash[0] = hash;
	s->pattern.name_hash[1] = hash >> 32;
	consider(s, bpf_map_lookup_elem(&patterns, &s->pattern), task, container);
	s->pattern.name_hash[0] = 0;
	s->pattern.name_hash[1] = 0;
	consider(s, bpf_map_lookup_elem(&patterns, &s->pattern), task, container);
}

/* Whether the file is a dynamic loader by its name (`ld-linux-x86-64.so.2`, `ld-musl-x86_64.so.1`, `ld.so`): it runs
 * whatever program it is given. Under another name it is another file, which is not from the image. */
static __always_inline bool is_loader(struct scratch *s)
{
	__u32 length = s->part[0].length;

	if (!s->parts)
		return false;
	if (length > LOADER_NAME + 2)
		length = LOADER_NAME + 2;
	bpf_probe_read_kernel(s->name, length, s->part[0].name);
	if (length < 5 || s->name[0] != 'l' || s->name[1] != 'd')
		return false;
	for (int i = 2; i < LOADER_NAME; i++) {
		if (i + 3 > length)
			break;
		if (s->name[i] == '.' && s->name[i + 1] == 's' && s->name[i + 2] == 'o')
			return true;
	}
	return false;
}

/* Decides about `file` for the cgroup's row; everything about it lands in `s->record`. A script is judged beside its
 * interpreter: it needs no line of its own, but what is denied or not from the image is not run by it either. */
static __always_inline __u8 judge(struct scratch *s, struct cgroup_row *row, __u64 *cgroup, struct belonging *known,
				  struct task_struct *task, struct file *file, bool script, bool stranger)
{
	struct exec_record *record = &s->record;
	bool container = row->flags & CGROUP_CONTAINER, whole;
	struct profile_row *profile;
	__u32 number = row->profile;
	bool host_mounts = mounts_of(task) == node.host_mount_namespace;
	bool drifted, allowed, excused;
	__u8 action;

	record->flags = origin(file, container && !host_mounts ? root_of(cgroup, known, task) : 0);
	/* Names are the container's own to give where it has mounted something, and mean other files on the host. */
	if (container && (host_mounts || ((record->flags & EXEC_OTHER_MOUNT) && has_mounted(cgroup, known))))
		record->flags |= EXEC_FOREIGN;
	if (container && host_mounts)
		record->flags |= EXEC_OTHER_MOUNT;
	walk(s, file, task, container && !host_mounts && !(record->flags & EXEC_OTHER_MOUNT));
	whole = write_path(s);
	record->profile = number;
	record->rule = NO_RULE;
	record->mode = 0;
	record->baseline = 0;
	if (!whole)
		record->flags |= EXEC_TRUNCATED;
	if (container)
		record->flags |= EXEC_CONTAINER;
	if (script)
		record->flags |= EXEC_SCRIPT;
	if (stranger)
		record->flags |= EXEC_STRANGER;
	if (host_mounts) {
		record->flags |= EXEC_HOST_MOUNTS;
		/* runc starts itself anew in the container's cgroup, from a memfd; refusing that fails every start. What
		 * belongs to the container is no runtime, even if it has found its way out. */
		if (container && !known) {
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
	find_rule(s, number, whole, profile->flags & PROFILE_PATTERNS, task, container);
	action = s->found.action;
	if (action == ACTION_LATER)
		return VERDICT_OPEN;
	record->rule = s->found.rule;
	if (action == ACTION_DENY)
		return profile->mode == MODE_PROTECT ? VERDICT_DENY : VERDICT_VIOLATE;
	/* Also in Discover, where it is not learned: only who writes a rule may let it in. */
	if (stranger && profile->baseline == BASELINE_ZERO_DRIFT &&
	    (action != ACTION_ALLOW || (s->found.flags & RULE_LEARNED))) {
		record->rule = NO_RULE;
		return profile->mode == MODE_PROTECT ? VERDICT_DENY : VERDICT_VIOLATE;
	}
	excused = action == ACTION_ALLOW && (s->found.flags & RULE_ALLOW_UPDATE);
	if (profile->baseline == BASELINE_ZERO_DRIFT)
		allowed = drifted ? excused : action == ACTION_ALLOW || !is_loader(s);
	else if (script)
		return VERDICT_OPEN;
	else
		allowed = action == ACTION_ALLOW && (!(record->flags & EXEC_FOREIGN) || excused);
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

#endif
