// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * A record once more, as often as wanted: through the ring that the programs of probe.bpf.c write to, as they write to
 * it, so that what reads it can be measured. Loaded for that alone.
 */
#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#include "probe/maps.h"

/* Most records of one run. */
#define MOST 64

/* The record, as user space has filled it in. */
struct exec_record recorded;

/* Puts `wanted` copies into the ring; how many found room. */
SEC("?syscall")
int replay_records(__u32 *wanted)
{
	__u32 most = *wanted, kept = 0;

	for (__u32 i = 0; i < MOST && i < most; i++) {
		begin_record(&recorded.head, RECORD_EXEC, recorded.head.pid, recorded.head.cgroup);
		if (bpf_ringbuf_output(&ring, &recorded, sizeof(recorded), wakeup(false)))
			count(COUNT_DROPPED_EXEC);
		else
			kept++;
	}
	return kept;
}
