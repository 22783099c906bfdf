/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
 *
 * What a process' standard input and output are: a shell on an internet socket is someone else's shell.
 */
#ifndef NV_PROBE_STDIO_H
#define NV_PROBE_STDIO_H

#include "maps.h"

/* Of an inode's mode (inode(7)), and majors of terminals (kernel's devices.txt). */
#define TYPE_MASK 0170000
#define TYPE_SOCKET 0140000
#define TYPE_FILE 0100000
#define TYPE_DEVICE 0020000
#define TYPE_PIPE 0010000
#define MAJOR_SHIFT 20
#define MAJOR_TTY 4
#define MAJOR_CONSOLE 5
#define MAJOR_PTY_FIRST 128
#define MAJOR_PTY_LAST 143
#define FAMILY_IPV4 2
#define FAMILY_IPV6 10

static __always_inline __u8 kind_of(struct file *file)
{
	struct inode *inode = BPF_CORE_READ(file, f_inode);
	__u32 major;
	struct socket *socket;
	__u16 family;

	switch (BPF_CORE_READ(inode, i_mode) & TYPE_MASK) {
	case TYPE_FILE:
		return STDIO_FILE;
	case TYPE_PIPE:
		return STDIO_PIPE;
	case TYPE_DEVICE:
		major = BPF_CORE_READ(inode, i_rdev) >> MAJOR_SHIFT;
		if (major == MAJOR_TTY || major == MAJOR_CONSOLE ||
		    (major >= MAJOR_PTY_FIRST && major <= MAJOR_PTY_LAST))
			return STDIO_TERMINAL;
		return STDIO_DEVICE;
	case TYPE_SOCKET:
		socket = BPF_CORE_READ(file, private_data);
		family = BPF_CORE_READ(socket, sk, __sk_common.skc_family);
		return family == FAMILY_IPV4 || family == FAMILY_IPV6 ? STDIO_INTERNET_SOCKET : STDIO_OTHER_SOCKET;
	}
	return STDIO_UNKNOWN;
}

/* A parent that ends in the same moment reads as unknown: its table is gone, and a read of NULL gives nothing. */
static __always_inline void stdio_of(struct task_struct *task, __u8 *stdio)
{
	struct fdtable *table = BPF_CORE_READ(task, files, fdt);
	struct file **files = BPF_CORE_READ(table, fd);
	unsigned int open = BPF_CORE_READ(table, max_fds);
	struct file *file;
	int number;

#pragma unroll
	for (number = 0; number < 2; number++) {
		file = NULL;
		if (number < open)
			bpf_probe_read_kernel(&file, sizeof(file), &files[number]);
		stdio[number] = file ? kind_of(file) : STDIO_UNKNOWN;
	}
}

#endif
