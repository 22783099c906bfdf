/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
 *
 * Recorded records once more, through the ring as it is: how fast its reader is. Loaded for that alone.
 */
#ifndef NV_PROBE_REPLAY_H
#define NV_PROBE_REPLAY_H

#include "maps.h"

/* Most records of one run. */
#define REPLAY_RECORDS 64

struct replay {
	__u32 records;
	__u32 reserved;
	struct exec_record record;
};

/* Puts `records` copies into the ring; how many found room. The process ids count up, so that each is another one. */
SEC("?syscall")
int replay_records(struct replay *run)
{
	__u32 kept = 0;

	for (int i = 0; i < REPLAY_RECORDS; i++) {
		if (i >= run->records)
			break;
		run->record.head.pid += 1;
		if (bpf_ringbuf_output(&ring, &run->record, sizeof(run->record), wakeup(false)))
			count(COUNT_DROPPED_EXEC);
		else
			kept += 1;
	}
	return kept;
}

#endif
