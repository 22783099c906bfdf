/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
 *
 * Files: who may open and change what, and what was changed.
 *
 * A rule is a row for each inode that it means, in the profile's name: a file has other names by links and mounts and a
 * copy of it in the upper layer keeps the number, so that no name leads around it. A folder's row speaks of what is in
 * it, of all that is below it, or of what lies above a file (for mounts over it). Who may is known by the inode of the
 * executable.
 *
 * Every hook has two programs, of which the trial's choice is loaded: an LSM hook and a modified return of the call.
 */
#ifndef NV_PROBE_FILE_H
#define NV_PROBE_FILE_H

#include "belonging.h"
#include "limit.h"

/* How far up a recursive rule is looked for. Folders that were there have rows of their own; this is for new ones. */
#define ABOVE 8

#define FMODE_WRITE 2
#define FMODE_CREATED 0x100000
#define ATTR_OWNER 6 /* ATTR_UID | ATTR_GID (linux/fs.h) */

/* An array, as its lookup is a few instructions, and every open makes one. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 16384);
	__type(key, __u32);
	__type(value, struct file_profile_row);
} file_profiles SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 262144);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct file_key);
	__type(value, struct file_row);
} files SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct application_key);
	__type(value, __u32);
} applications SEC(".maps");

/* A Bloom filter of one hash: a bit for each file and folder that a row is of, in whatever profile. Most opens are of
 * none, and a look at a bit is a tenth of a look into a hash. */
#define FILTER_WORDS 4096

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, FILTER_WORDS);
	__type(key, __u32);
	__type(value, __u64);
} file_filter SEC(".maps");

static __always_inline bool may_have_row(struct file_key *key)
{
	__u64 hash = (key->inode ^ (__u64)key->device << 32) * 0x9e3779b97f4a7c15ULL;
	__u32 word = hash >> 52;
	__u64 *bits = bpf_map_lookup_elem(&file_filter, &word);

	return bits && (*bits >> (hash >> 46 & 63) & 1);
}

/* Structures are read here as the kernel's own code reads them, without a helper: this is done at every open. */
static __always_inline struct file_row *file_row(__u32 profile, struct inode *inode)
{
	struct file_key key = { .profile = profile };

	if (!inode)
		return NULL;
	key.device = inode->i_sb->s_dev;
	key.inode = inode->i_ino;
	return may_have_row(&key) ? bpf_map_lookup_elem(&files, &key) : NULL;
}

/* The row that speaks of the file, whose own is `row`, or of a folder that it is in. */
static __always_inline bool find_file(struct file_row *found, struct file_row *row, __u32 profile, __u32 flags,
				      struct dentry *dentry, __u8 itself)
{
	if (row && (row->scope & itself)) {
		*found = *row;
		return true;
	}
	if (!(flags & FILES_FOLDERS))
		return false;
	for (int step = 0; step < ABOVE; step++) {
		struct dentry *parent = dentry->d_parent;

		if (parent == dentry)
			return false;
		dentry = parent;
		row = file_row(profile, dentry->d_inode);
		if (row && (row->scope & (step ? SCOPE_BELOW : SCOPE_BELOW | SCOPE_IN))) {
			*found = *row;
			return true;
		}
	}
	return false;
}

static __always_inline bool is_application(__u32 profile, __u32 rule, struct task_struct *task)
{
	struct application_key key = { .profile = profile, .rule = rule };
	struct executable is;

	if (TASK_HAS_TYPE) {
		struct inode *inode = task->mm->exe_file->f_inode;

		if (!inode)
			return false;
		is.device = inode->i_sb->s_dev;
		is.inode = inode->i_ino;
	} else {
		executable_of(task, &is);
	}
	key.device = is.device;
	key.inode = is.inode;
	return bpf_map_lookup_elem(&applications, &key) != NULL;
}

/* What `report_file` is told; kernel side only. */
struct file_event {
	struct dentry *dentry;
	struct vfsmount *mnt;
	__u32 profile;
	__u32 rule;
	__u32 nanos;
	__u8 operation;
	__u8 verdict;
	__u8 mechanism;
	__u8 reserved;
};

static __noinline int report_file(struct file_event *event)
{
	struct task_struct *task = current_task();
	struct scratch *s;
	struct file_record *record;

	if (!event || !may_tell(bpf_get_current_cgroup_id(),
				event->verdict >= VERDICT_VIOLATE ? LIMIT_AGAINST | RECORD_FILE : RECORD_FILE,
				COUNT_LIMITED_FILE))
		return 0;
	s = take_scratch();
	if (!s) {
		count(COUNT_DROPPED_FILE);
		return 0;
	}
	walk_from(s, event->dentry, event->mnt, task);
	record = &s->file;
	record->flags = write_path(s) ? 0 : EXEC_TRUNCATED;
	begin_record(&record->head, RECORD_FILE, BPF_CORE_READ(task, tgid), bpf_get_current_cgroup_id());
	record->profile = event->profile;
	record->rule = event->rule;
	record->parent_pid = BPF_CORE_READ(task, real_parent, tgid);
	record->uid = BPF_CORE_READ(task, cred, uid.val);
	record->euid = BPF_CORE_READ(task, cred, euid.val);
	record->decision_nanos = event->nanos;
	record->operation = event->operation;
	record->verdict = event->verdict;
	record->mechanism = event->verdict == VERDICT_DENY ? event->mechanism : MECHANISM_NONE;
	record->reserved = 0;
	bpf_core_read(record->comm, COMM_BYTES, &task->comm);
	__builtin_memcpy(record->path, s->exact.path, PATH_BYTES);
	if (bpf_ringbuf_output(&ring, record, sizeof(*record), wakeup(true)))
		count(COUNT_DROPPED_FILE);
	give_back(s);
	return 0;
}

/* Who asks: what most calls end with. */
struct asker {
	__u32 profile;
	__u32 cgroup_flags;
	__u32 files; /* file_profile_row.flags; 0: no file rules */
};

static __always_inline bool has_rules(struct asker *asker)
{
	__u64 cgroup = bpf_get_current_cgroup_id();
	struct cgroup_row row = {};
	bool covered = row_of(&cgroup, &row);
	struct file_profile_row *has;
	__u32 *left;

	if (!(row.flags & CGROUP_CONTAINER) && (left = have_left()) && *left) {
		struct belonging *known = belonging_of(current_task(), false);

		if (known)
			covered = judged_by(known, &cgroup, &row);
	}
	if (!covered)
		return false;
	asker->profile = row.profile;
	asker->cgroup_flags = row.flags;
	has = bpf_map_lookup_elem(&file_profiles, &asker->profile);
	if (!has || !has->flags)
		return false;
	asker->files = has->flags;
	return true;
}

/* What the asker's profile says of something that is done to `dentry`, whose own row is `own`: 0 or -EPERM. */
static __always_inline int judge_file(struct asker *asker, struct file_row *own, struct dentry *dentry,
				      struct vfsmount *mnt, __u8 operation, __u8 mechanism)
{
	__u64 begin = bpf_ktime_get_ns();
	struct profile_row *profile;
	struct task_struct *task;
	struct file_event event = {};
	struct file_row found;
	__u32 number = asker->profile;
	__u8 itself = SCOPE_ITSELF;

	if (operation == FILE_MOUNT_OVER)
		itself |= SCOPE_IN | SCOPE_BELOW | SCOPE_ABOVE;
	if (!find_file(&found, own, number, asker->files, dentry, itself))
		return 0;
	task = current_task();
	/* The runtime prepares the container's root in its cgroup, before it enters it. */
	if ((asker->cgroup_flags & CGROUP_CONTAINER) && mounts_of(task) == node.host_mount_namespace &&
	    !belonging_of(task, false))
		return 0;
	if (found.behavior == FILE_MONITOR) {
		if (operation == FILE_OPEN)
			return 0;
		event.verdict = VERDICT_VIOLATE;
	} else {
		if (is_application(number, found.rule, task))
			return 0;
		profile = bpf_map_lookup_elem(&profiles, &number);
		if (!profile)
			return 0;
		event.verdict = profile->mode == MODE_PROTECT	? VERDICT_DENY :
				profile->mode == MODE_DISCOVER ? VERDICT_LEARN :
								 VERDICT_VIOLATE;
	}
	event.dentry = dentry;
	event.mnt = mnt;
	event.profile = number;
	event.rule = found.rule;
	event.operation = operation;
	event.mechanism = mechanism;
	event.nanos = bpf_ktime_get_ns() - begin;
	report_file(&event);
	return event.verdict == VERDICT_DENY ? -EPERM : 0;
}

/* The call that is made most. */
static __always_inline int opened(struct file *file, __u8 mechanism)
{
	struct asker asker;
	struct file_row *own;
	__u32 mode;
	__u8 operation;

	if (!has_rules(&asker))
		return 0;
	mode = file->f_mode;
	/* Who only looks is of interest where somebody may not. */
	if (!(mode & (FMODE_WRITE | FMODE_CREATED)) && !(asker.files & FILES_BLOCK))
		return 0;
	own = file_row(asker.profile, file->f_inode);
	if (!own && !(asker.files & FILES_FOLDERS))
		return 0;
	operation = mode & FMODE_CREATED ? FILE_CREATE : mode & FMODE_WRITE ? FILE_MODIFY : FILE_OPEN;
	return judge_file(&asker, own, file->f_path.dentry, file->f_path.mnt, operation, mechanism);
}

static __always_inline int done_to(struct dentry *dentry, struct vfsmount *mnt, __u8 operation, __u8 mechanism)
{
	struct asker asker;

	if (!has_rules(&asker))
		return 0;
	return judge_file(&asker, file_row(asker.profile, dentry->d_inode), dentry, mnt, operation, mechanism);
}

static __always_inline int in_folder(const struct path *dir, struct dentry *dentry, __u8 operation, __u8 mechanism)
{
	return done_to(dentry, dir->mnt, operation, mechanism);
}

static __always_inline int at_path(const struct path *path, __u8 operation, __u8 mechanism)
{
	return done_to(path->dentry, path->mnt, operation, mechanism);
}

/* What loses its name, and what had the new one. */
static __always_inline int renamed(const struct path *from, struct dentry *old, const struct path *to,
				   struct dentry *new, __u8 mechanism)
{
	int refused = in_folder(from, old, FILE_RENAME, mechanism);

	if (refused)
		return refused;
	return in_folder(to, new, new->d_inode ? FILE_DELETE : FILE_CREATE, mechanism);
}

/* For path_chown, which takes the users by value as no program does before Linux 6.0. It has no mount: the path that is
 * told is that in the file system. */
static __always_inline int given_away(struct dentry *dentry, struct iattr *attributes, __u8 mechanism)
{
	return attributes->ia_valid & ATTR_OWNER ? done_to(dentry, NULL, FILE_ATTRIBUTE, mechanism) : 0;
}

#define FILE_HOOK(hook, body, ...)                                                                                     \
	SEC("?lsm/" #hook) long BPF_PROG(hook##_lsm, __VA_ARGS__)                                                       \
	{                                                                                                              \
		__u8 mechanism = MECHANISM_BPF_LSM;                                                                    \
		return (body) ? -EPERM : 0;                                                                            \
	}                                                                                                              \
	SEC("?fmod_ret/security_" #hook) long BPF_PROG(hook##_fmod_ret, __VA_ARGS__)                                    \
	{                                                                                                              \
		__u8 mechanism = MECHANISM_FMOD_RET;                                                                   \
		return (body) ? -EPERM : 0;                                                                            \
	}

FILE_HOOK(file_open, opened(file, mechanism), struct file *file)
FILE_HOOK(path_unlink, in_folder(dir, dentry, FILE_DELETE, mechanism), const struct path *dir, struct dentry *dentry)
FILE_HOOK(path_rmdir, in_folder(dir, dentry, FILE_DELETE, mechanism), const struct path *dir, struct dentry *dentry)
FILE_HOOK(path_mkdir, in_folder(dir, dentry, FILE_CREATE, mechanism), const struct path *dir, struct dentry *dentry)
FILE_HOOK(path_symlink, in_folder(dir, dentry, FILE_CREATE, mechanism), const struct path *dir, struct dentry *dentry)
FILE_HOOK(path_rename, renamed(from, old, to, new, mechanism), const struct path *from, struct dentry *old,
	  const struct path *to, struct dentry *new)
FILE_HOOK(path_link, in_folder(dir, old, FILE_LINK, mechanism), struct dentry *old, const struct path *dir)
FILE_HOOK(path_truncate, at_path(path, FILE_TRUNCATE, mechanism), const struct path *path)
FILE_HOOK(path_chmod, at_path(path, FILE_ATTRIBUTE, mechanism), const struct path *path)
FILE_HOOK(path_chown, at_path(path, FILE_ATTRIBUTE, mechanism), const struct path *path)
FILE_HOOK(inode_setattr, given_away(dentry, attributes, mechanism), struct dentry *dentry, struct iattr *attributes)
FILE_HOOK(sb_mount, at_path(path, FILE_MOUNT_OVER, mechanism), const char *device, const struct path *path)
FILE_HOOK(move_mount, at_path(to, FILE_MOUNT_OVER, mechanism), const struct path *from, const struct path *to)

#endif
