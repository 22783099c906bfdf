/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
 *
 * The system call that the current process is in: which one of those of interest, and its first arguments.
 */
#ifndef NV_PROBE_CALL_H
#define NV_PROBE_CALL_H

#include "maps.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

/* Registers at the entry of a system call, and what tells 32 bits, as each architecture names them. */
#if defined(__TARGET_ARCH_arm64)
struct pt_regs___call {
	unsigned long long regs[31];
	int syscallno;
};

struct thread_info___call {
	unsigned long flags;
};
#else
struct pt_regs___call {
	unsigned long bx;
	unsigned long cx;
	unsigned long dx;
	unsigned long si;
	unsigned long di;
	unsigned long r10;
	unsigned long orig_ax;
};

struct thread_info___call {
	__u32 status;
};
#endif

struct task_struct___call {
	struct thread_info___call thread_info;
};

#pragma clang attribute pop

/* The calls, whichever table their numbers are of. */
enum call {
	CALL_NONE = 0,
	CALL_EXECVE,
	CALL_EXECVEAT,
	CALL_CLONE,
	CALL_CLONE3,
	CALL_UNSHARE,
	CALL_SETNS,
	CALL_MOUNT,
	CALL_FSOPEN,
	CALL_FSPICK,
	CALL_MOUNT_SETATTR,
	CALL_OPEN_TREE,
	CALL_MOVE_MOUNT,
	CALL_PIVOT_ROOT,
	CALL_MODULE,
	CALL_BPF,
	CALL_SETUID,
	CALL_SETREUID,
	CALL_SETRESUID,
	CALL_PTRACE,
	CALL_PROCESS_MEMORY,
};

#define CALL_ARGUMENTS 4

#define X86_TS_COMPAT 2           /* arch/x86/include/asm/thread_info.h */
#define X86_X32_CALL 0x40000000
#define ARM64_TIF_32BIT (1 << 22) /* arch/arm64/include/asm/thread_info.h */

/* Since Linux 5.1 a new call has the same number in every table. */
static __always_inline __u32 newer_call(__u64 number)
{
	switch (number) {
	case 428: return CALL_OPEN_TREE;
	case 429: return CALL_MOVE_MOUNT;
	case 430: return CALL_FSOPEN;
	case 433: return CALL_FSPICK;
	case 435: return CALL_CLONE3;
	case 442: return CALL_MOUNT_SETATTR;
	}
	return CALL_NONE;
}

#if defined(__TARGET_ARCH_x86)
/* arch/x86/entry/syscalls/syscall_64.tbl and, `narrow`, syscall_32.tbl. A narrow exec's list is of another shape. */
static __always_inline __u32 call_of(__u64 number, bool narrow)
{
	if (narrow) {
		switch (number) {
		case 21: return CALL_MOUNT;
		case 23: case 213: return CALL_SETUID;
		case 26: return CALL_PTRACE;
		case 70: case 203: return CALL_SETREUID;
		case 120: return CALL_CLONE;
		case 128: case 350: return CALL_MODULE;
		case 164: case 208: return CALL_SETRESUID;
		case 217: return CALL_PIVOT_ROOT;
		case 310: return CALL_UNSHARE;
		case 346: return CALL_SETNS;
		case 347: case 348: return CALL_PROCESS_MEMORY;
		case 357: return CALL_BPF;
		}
		return newer_call(number);
	}
	switch (number) {
	case 56: return CALL_CLONE;
	case 59: return CALL_EXECVE;
	case 101: case 521: return CALL_PTRACE;
	case 105: return CALL_SETUID;
	case 113: return CALL_SETREUID;
	case 117: return CALL_SETRESUID;
	case 155: return CALL_PIVOT_ROOT;
	case 165: return CALL_MOUNT;
	case 175: case 313: return CALL_MODULE;
	case 272: return CALL_UNSHARE;
	case 308: return CALL_SETNS;
	case 310: case 311: case 539: case 540: return CALL_PROCESS_MEMORY;
	case 321: return CALL_BPF;
	case 322: return CALL_EXECVEAT;
	}
	return newer_call(number);
}

static __always_inline __u32 call_in(struct task_struct *task, void *registers, unsigned long *argument)
{
	struct task_struct___call *thread = (void *)task;
	struct pt_regs___call *regs = registers;
	__u64 number = BPF_CORE_READ(regs, orig_ax);
	bool narrow = BPF_CORE_READ(thread, thread_info.status) & X86_TS_COMPAT;
	__u32 call = call_of(narrow ? (__u32)number : number & ~(__u64)X86_X32_CALL, narrow);

	if (!call)
		return CALL_NONE;
	if (narrow) {
		argument[0] = (__u32)BPF_CORE_READ(regs, bx);
		argument[1] = (__u32)BPF_CORE_READ(regs, cx);
		argument[2] = (__u32)BPF_CORE_READ(regs, dx);
		argument[3] = (__u32)BPF_CORE_READ(regs, si);
	} else {
		argument[0] = BPF_CORE_READ(regs, di);
		argument[1] = BPF_CORE_READ(regs, si);
		argument[2] = BPF_CORE_READ(regs, dx);
		argument[3] = BPF_CORE_READ(regs, r10);
	}
	return call;
}
#elif defined(__TARGET_ARCH_arm64)
/* include/uapi/asm-generic/unistd.h and, `narrow`, arch/arm/tools/syscall.tbl. */
static __always_inline __u32 call_of(__u64 number, bool narrow)
{
	if (narrow) {
		switch (number) {
		case 21: return CALL_MOUNT;
		case 23: case 213: return CALL_SETUID;
		case 26: return CALL_PTRACE;
		case 70: case 203: return CALL_SETREUID;
		case 120: return CALL_CLONE;
		case 128: case 379: return CALL_MODULE;
		case 164: case 208: return CALL_SETRESUID;
		case 218: return CALL_PIVOT_ROOT;
		case 337: return CALL_UNSHARE;
		case 375: return CALL_SETNS;
		case 376: case 377: return CALL_PROCESS_MEMORY;
		case 386: return CALL_BPF;
		}
		return newer_call(number);
	}
	switch (number) {
	case 40: return CALL_MOUNT;
	case 41: return CALL_PIVOT_ROOT;
	case 97: return CALL_UNSHARE;
	case 105: case 273: return CALL_MODULE;
	case 117: return CALL_PTRACE;
	case 145: return CALL_SETREUID;
	case 146: return CALL_SETUID;
	case 147: return CALL_SETRESUID;
	case 220: return CALL_CLONE;
	case 221: return CALL_EXECVE;
	case 268: return CALL_SETNS;
	case 270: case 271: return CALL_PROCESS_MEMORY;
	case 280: return CALL_BPF;
	case 281: return CALL_EXECVEAT;
	}
	return newer_call(number);
}

static __always_inline __u32 call_in(struct task_struct *task, void *registers, unsigned long *argument)
{
	struct task_struct___call *thread = (void *)task;
	struct pt_regs___call *regs = registers;
	bool narrow = BPF_CORE_READ(thread, thread_info.flags) & ARM64_TIF_32BIT;
	__u32 call = call_of(BPF_CORE_READ(regs, syscallno), narrow);

	if (!call)
		return CALL_NONE;
	argument[0] = BPF_CORE_READ(regs, regs[0]);
	argument[1] = BPF_CORE_READ(regs, regs[1]);
	argument[2] = BPF_CORE_READ(regs, regs[2]);
	argument[3] = BPF_CORE_READ(regs, regs[3]);
	return call;
}
#else
/* The trial, which makes a call, finds that none is told. */
static __always_inline __u32 call_in(struct task_struct *task, void *registers, unsigned long *argument)
{
	return CALL_NONE;
}
#endif

/* CALL_NONE for a call of no interest. */
static __always_inline __u32 current_call(struct task_struct *task, unsigned long *argument)
{
	return call_in(task, registers_of(task), argument);
}

#endif
