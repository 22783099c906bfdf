/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
 *
 * Where a file is, as its task sees it, and where it comes from.
 */
#ifndef NV_PROBE_PATH_H
#define NV_PROBE_PATH_H

#include "maps.h"

/* Mounts crossed on the way to the root, on top of the components. */
#define MOUNTS 16

/* What loops is a function of its own here, which the verifier looks at once, whatever led to it. */

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

/* Collects the components of a path, the file name first, up to the root of the task's mount namespace: that of its
 * container. The task's own root would be another one after chroot(2), and a copy in there pass for the real file.
 * Without `mnt` up to the root of the file system, whatever is mounted where. */
__noinline int find_parts(__u32 slot)
{
	struct scratch *s = bpf_map_lookup_elem(&scratches, &slot);
	struct dentry *dentry;
	struct vfsmount *mnt;
	struct mount *root;

	if (!s)
		return 0;
	dentry = s->from.dentry;
	mnt = s->from.mnt;
	root = s->from.root;
	s->parts = 0;
	s->headless = 0;
	for (int step = 0; step < PARTS + MOUNTS; step++) {
		struct dentry *mnt_root, *parent;

		parent = BPF_CORE_READ(dentry, d_parent);
		if (!mnt && dentry == parent)
			return 0;
		mnt_root = mnt ? BPF_CORE_READ(mnt, mnt_root) : NULL;
		if (dentry == mnt_root) {
			struct mount *here = mount_of(mnt);
			struct mount *above = BPF_CORE_READ(here, mnt_parent);

			if (here == root)
				return 0;
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
			return 0; /* in no folder: a memfd, which is named `memfd:…` */
		dentry = parent;
	}
	s->headless = 1;
	return 0;
}

static __always_inline void walk_from(struct scratch *s, struct dentry *dentry, struct vfsmount *mnt,
				      struct task_struct *task)
{
	s->from.dentry = dentry;
	s->from.mnt = mnt;
	s->from.root = BPF_CORE_READ(task, nsproxy, mnt_ns, root);
	find_parts(s->slot);
}

/* What an overlay has for an inode in its upper layer. Linux before 5.11 tells no types of modules, as overlay often is
 * one; in all that there are it lies right behind the inode (fs/overlayfs/ovl_entry.h, 4.13 to 6.18). */
static __always_inline struct dentry *upper_of(struct inode *inode)
{
	struct dentry *upper = NULL;

	if (bpf_core_type_exists(struct ovl_inode)) {
		struct ovl_inode *overlay =
			(void *)((char *)inode - bpf_core_field_offset(struct ovl_inode, vfs_inode));

		return BPF_CORE_READ(overlay, __upperdentry);
	}
	bpf_probe_read_kernel(&upper, sizeof(upper), (char *)inode + bpf_core_type_size(struct inode));
	return upper;
}

/* Where a program's file comes from, as EXEC_ flags. `root` is the container's root file system, 0 for a host's program:
 * a host has no image. */
static __always_inline __u32 origin(struct file *file, __u32 root)
{
	struct inode *inode = BPF_CORE_READ(file, f_inode);
	struct super_block *sb = BPF_CORE_READ(inode, i_sb);
	__u32 flags = 0;

	if (!BPF_CORE_READ(inode, i_nlink))
		flags |= EXEC_FILELESS;
	if (!root)
		return flags;
	if (BPF_CORE_READ(sb, s_magic) != OVERLAYFS_SUPER_MAGIC || BPF_CORE_READ(sb, s_dev) != root)
		return flags | EXEC_OTHER_MOUNT;
	return upper_of(inode) ? flags | EXEC_CHANGED : flags;
}

/* A program of the image has the name that it has there: a mount gives it no other one. */
static __always_inline void walk(struct scratch *s, struct file *file, struct task_struct *task, bool of_image)
{
	walk_from(s, BPF_CORE_READ(file, f_path.dentry), of_image ? NULL : BPF_CORE_READ(file, f_path.mnt), task);
}

/* Writes the collected components as a path, padded with NUL. False when it did not fit. */
__noinline int join_parts(__u32 slot)
{
	struct scratch *s = bpf_map_lookup_elem(&scratches, &slot);
	char *path;

	if (!s)
		return 0;
	path = s->exact.path;
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

static __always_inline bool write_path(struct scratch *s)
{
	return join_parts(s->slot);
}

/* FNV-1a, 64 bits, of the file name. */
__noinline int hash_name(__u32 slot)
{
	struct scratch *s = bpf_map_lookup_elem(&scratches, &slot);
	__u64 hash = 0xcbf29ce484222325ULL;
	__u32 length;

	if (!s)
		return 0;
	s->hash = 0;
	length = s->part[0].length;
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
	s->hash = hash ? hash : 1; /* 0 means any name */
	return 0;
}

static __always_inline __u64 name_hash(struct scratch *s)
{
	hash_name(s->slot);
	return s->hash;
}

#endif
