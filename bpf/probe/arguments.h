/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
 *
 * The arguments of an exec that is refused, as its caller gave them. For whoever reads the record: the caller may change
 * them until the kernel takes its copy, so nothing is decided by them.
 */
#ifndef NV_PROBE_ARGUMENTS_H
#define NV_PROBE_ARGUMENTS_H

#include "call.h"

/* Where the caller has the list; NULL when it is not in a system call of 64 bits that runs programs. */
static __always_inline const char *const *asked_list(void)
{
	unsigned long argument[CALL_ARGUMENTS] = {};

	switch (current_call(current_task(), argument)) {
	case CALL_EXECVE: return (const char *const *)argument[1];
	case CALL_EXECVEAT: return (const char *const *)argument[2];
	}
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
