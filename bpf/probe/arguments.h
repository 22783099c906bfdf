/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
 *
 * The arguments of an exec that is refused, as its caller gave them. For whoever reads the record: the caller may change
 * them until the kernel takes its copy, so nothing is decided by them.
 */
#ifndef NV_PROBE_ARGUMENTS_H
#define NV_PROBE_ARGUMENTS_H

#include "maps.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

/* Registers at the entry of a system call. */
struct pt_regs___x86 {
	unsigned long dx;
	unsigned long si;
	unsigned long orig_ax;
};

struct pt_regs___arm64 {
	unsigned long long regs[31];
	int syscallno;
};

#pragma clang attribute pop

enum bpf_func_id___regs { BPF_FUNC_task_pt_regs___regs = 175 };

#define X86_EXECVE 59
#define X86_EXECVEAT 322
#define ARM64_EXECVE 221
#define ARM64_EXECVEAT 281

/* Where the caller has the list; NULL when it is not in a system call of 64 bits that runs programs. */
static __always_inline const char *const *asked_list(void)
{
	void *regs;

	/* Linux 5.15. */
	if (!bpf_core_enum_value_exists(enum bpf_func_id___regs, BPF_FUNC_task_pt_regs___regs))
		return NULL;
	regs = (void *)bpf_task_pt_regs((struct task_struct *)bpf_get_current_task_btf());
#if defined(__TARGET_ARCH_x86)
	struct pt_regs___x86 *x86 = regs;
	unsigned long call = BPF_CORE_READ(x86, orig_ax);

	if (call == X86_EXECVE)
		return (const char *const *)BPF_CORE_READ(x86, si);
	if (call == X86_EXECVEAT)
		return (const char *const *)BPF_CORE_READ(x86, dx);
#elif defined(__TARGET_ARCH_arm64)
	struct pt_regs___arm64 *arm64 = regs;
	int call = BPF_CORE_READ(arm64, syscallno);

	if (call == ARM64_EXECVE)
		return (const char *const *)BPF_CORE_READ(arm64, regs[1]);
	if (call == ARM64_EXECVEAT)
		return (const char *const *)BPF_CORE_READ(arm64, regs[2]);
#endif
	return NULL;
}

/* Copies them, NUL between; gives how many bytes. What is not in memory at the moment is left out. */
static __always_inline __u32 asked_arguments(char *to)
{
	const char *const *list = asked_list();
	__u32 at = 0;

	if (!list)
		return 0;
	for (int i = 0; i < REFUSED_ARGUMENTS; i++) {
		const char *argument = NULL;
		long bytes;

		if (at >= ARGUMENT_BYTES || bpf_probe_read_user(&argument, sizeof(argument), &list[i]) || !argument)
			break;
		bytes = bpf_probe_read_user_str(to + at, ARGUMENT_BYTES - at, argument);
		if (bytes <= 0)
			break;
		at += bytes;
	}
	return at;
}

#endif
