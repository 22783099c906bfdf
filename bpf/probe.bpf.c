// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Programs: which ones a cgroup may run, and what was run.
 *
 * A cgroup has a row (profile, flags); a profile has a mode, a baseline and rules by path. `judge` looks the
 * executable up and decides; three hooks ask it: an LSM hook and a modified return of the LSM call, which refuse
 * with EPERM, and the exec tracepoint, which kills the caller before it returns to user space. The tracepoint runs
 * always: it reports every exec, and it stops what an earlier hook could not decide (a preempted fmod_ret program
 * is skipped by the kernel).
 *
 * A new cgroup inherits its parent's row here, in the kernel, so that a container's first program is already judged.
 */
#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#include "probe/behaviour.h"
#include "probe/exec.h"
#include "probe/file.h"
#include "probe/lineage.h"
#include "probe/cgroup.h"
