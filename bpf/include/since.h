/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
 *
 * What kernels later than Linux 5.10 have, and what an earlier one does instead. The loader puts the answers of
 * `bpf_core_enum_value_exists` into the code, so that the verifier sees one of the ways alone.
 *
 * What a later kernel does not let a program choose by (an instruction, a kind of argument) is nowhere: no atomic
 * operation gives a value back or is anything but an addition, and no function that is verified by itself takes a
 * pointer (both Linux 5.12).
 */
#ifndef NV_SINCE_H
#define NV_SINCE_H

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

enum bpf_func_id___since {
	BPF_FUNC_get_current_task_btf___since = 158,
	BPF_FUNC_ktime_get_coarse_ns___since = 160,
	BPF_FUNC_task_pt_regs___since = 175,
};

#define KERNEL_HAS(helper) bpf_core_enum_value_exists(enum bpf_func_id___since, BPF_FUNC_##helper##___since)

/* Adds to `*total` and gives what is there then: at least one's own share. Who is interrupted in between by another one
 * that adds sees that one's as well. */
#define ADD_AND_LOOK(total, value) (__sync_fetch_and_add(total, value), *(volatile typeof(*(total)) *)(total))

struct task_struct;

struct task_struct___stack {
	char *stack;
} __attribute__((preserve_access_index));

struct pt_regs___size {
	unsigned long sp;
};

/* Linux 5.11 tells the type of the current task, so that its fields are read without a helper, and storage by task takes
 * it; of an earlier kernel it is a number, which helpers read by. */
#define TASK_HAS_TYPE KERNEL_HAS(get_current_task_btf)

static __always_inline struct task_struct *current_task(void)
{
	if (TASK_HAS_TYPE)
		return bpf_get_current_task_btf();
	return (struct task_struct *)bpf_get_current_task();
}

/* Nanoseconds, monotonic, by the last tick: a read of the exact time, which Linux before 5.11 has alone, costs more. */
static __always_inline __u64 coarse_nanos(void)
{
	if (KERNEL_HAS(ktime_get_coarse_ns))
		return bpf_ktime_get_coarse_ns();
	return bpf_ktime_get_ns();
}

/* Registers of a task in a system call. Before Linux 5.15 they are looked for where they are: at the end of its stack,
 * of 16 KiB where a page has 4. */
static __always_inline void *registers_of(struct task_struct *task)
{
	if (KERNEL_HAS(task_pt_regs))
		return (void *)bpf_task_pt_regs(task);
	return BPF_CORE_READ((struct task_struct___stack *)task, stack) + 16 * 1024 - bpf_core_type_size(struct pt_regs___size);
}

#endif
