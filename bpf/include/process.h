/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
 *
 * What probe.bpf.c shares with user space: rows of its maps and records of its ring.
 *
 * Twins of these structs are in crates/io/probe/src/layout.rs; a test compares every offset by the object's BTF.
 * A change here is a change of the ABI: raise `ABI` there, so that no new program adopts old maps.
 */
#ifndef NV_PROCESS_H
#define NV_PROCESS_H

#include "kernel.h"

/* A path with its closing NUL; what a row or a record can hold. */
#define PATH_BYTES 256
/* Longest prefix in a pattern: what an LPM trie leaves beside profile and name. */
#define PREFIX_BYTES 244
#define FILENAME_BYTES 128
#define ARGUMENT_BYTES 256
/* As much of the arguments as conditions look at. */
#define ARGUMENT_HEAD_BYTES 4096
/* Most rules with conditions that one row leads to. */
#define CONDITION_LIST 16
#define CGROUP_PATH_BYTES 512
#define COMM_BYTES 16
/* As far as a dynamic loader's name is looked at. */
#define LOADER_NAME 32
/* Most arguments of a program that is refused. */
#define REFUSED_ARGUMENTS 16
#define DEED_TYPE_BYTES 32
#define DEED_TEXT_BYTES 128
/* Rule of a record that no rule decided. */
#define NO_RULE 0xffffffffU

enum mode { MODE_DISCOVER = 1, MODE_MONITOR = 2, MODE_PROTECT = 3 };
enum baseline { BASELINE_BASIC = 0, BASELINE_ZERO_DRIFT = 1 };
enum action { ACTION_NONE = 0, ACTION_ALLOW = 1, ACTION_DENY = 2, ACTION_LATER = 3 };
enum verdict { VERDICT_OPEN = 0, VERDICT_LEARN = 1, VERDICT_ALLOW = 2, VERDICT_VIOLATE = 3, VERDICT_DENY = 4 };
enum mechanism { MECHANISM_NONE = 0, MECHANISM_BPF_LSM = 1, MECHANISM_FMOD_RET = 2, MECHANISM_TRACEPOINT_KILL = 3 };

/* cgroup_row.flags */
#define CGROUP_CONTAINER 1 /* a container, or below one: its programs have a mount namespace of their own */
#define CGROUP_WATCHED 2   /* made while these programs ran: whoever runs the first program of other mounts in it has started it */

/* profile_row.flags */
#define PROFILE_FAIL_CLOSED 1 /* in Protect, what cannot be judged is stopped */
#define PROFILE_PATTERNS 2    /* it has rules in `patterns`; without it they are not looked for */

/* rule_row.flags */
#define RULE_ALLOW_UPDATE 1 /* the rule excuses a changed file too */
#define RULE_LEARNED 2      /* nobody wrote it: it does not speak for processes that are not of the container's family */

/* A file that processes run: device as the kernel's super block has it, and inode. */
struct executable {
	__u64 inode;
	__u32 device;
	__u32 reserved;
};

/* As long as a word, so that it is read at once: user space puts another one in its place at any time. What the programs
 * find of a container is in tables of its own (belonging.h). */
struct cgroup_row {
	__u32 profile;
	__u32 flags;
};

struct profile_row {
	__u32 mode;
	__u32 baseline;
	__u32 flags;
};

struct exact_key {
	__u32 profile;
	char path[PATH_BYTES];
};

/* prefixlen counts bits: 96 for profile and name, then 8 for each byte of the path. The name is an FNV-1a hash of
 * the file name in two halves (a u64 would pad the key beyond what the trie accepts); 0 means any name. */
struct pattern_key {
	__u32 prefixlen;
	__u32 profile;
	__u32 name_hash[2];
	char path[PREFIX_BYTES];
};

struct rule_row {
	__u8 action;
	__u8 flags;
	__u16 reserved;
	__u32 order;
	__u32 rule;
	__u32 reserved2;
	__u64 conditional; /* first of a list of condition_rows of which one counts instead; 0 for none */
};

/* condition_row.has */
#define CONDITION_UID 1
#define CONDITION_CALLER 2
#define CONDITION_ARGUMENTS 4
#define CONDITION_FROM_BEGIN 8 /* the arguments begin with the text */
#define CONDITION_TO_END 16    /* they end with it */

struct condition_row {
	__u8 action;
	__u8 flags;
	__u8 has;
	__u8 argument_bytes; /* of the text, less one */
	__u32 order;
	__u32 rule;
	__u32 uid;
	__u64 next;
	__u32 caller_bytes; /* that have to be the same; with the closing NUL for a whole path */
	__u32 reserved;
	char caller[PATH_BYTES];
	__u64 argument_masks[256]; /* bit n of a byte's mask: the text has it at n */
};

/* What a process runs. */
struct caller_row {
	__u32 mounts;  /* inode of its mount namespace then */
	__u32 unknown; /* the path is not known whole */
	char path[PATH_BYTES];
};

/* features */
#define FEATURE_CALLERS 1 /* a rule asks what ran a program */

enum caller { CALLER_UNKNOWN, CALLER_OUTSIDE, CALLER_PROGRAM };
enum arguments { ARGUMENTS_UNKNOWN, ARGUMENTS_HEAD, ARGUMENTS_WHOLE, ARGUMENTS_LATER };

enum record_kind { RECORD_EXEC = 1, RECORD_FORK = 2, RECORD_EXIT = 3, RECORD_CGROUP_MADE = 4, RECORD_CGROUP_GONE = 5, RECORD_FILE = 6, RECORD_DEED = 7 };

/* exec_record.flags */
#define EXEC_CHANGED 1          /* the file is in the overlay's upper layer: new or changed since the image */
#define EXEC_FILELESS 2         /* the file has no name left: memfd or deleted */
#define EXEC_OTHER_MOUNT 4      /* the file is not on the container's root file system */
#define EXEC_TRUNCATED 8        /* path is not whole */
#define EXEC_HOST_MOUNTS 16     /* the caller is in the host's mount namespace */
#define EXEC_RUNTIME 32         /* the runtime's own exec in a container's cgroup, before it enters the container */
#define EXEC_CONTAINER 128      /* the cgroup is a container's */
#define EXEC_FOREIGN 256        /* the path may be of the container's own making: a mount of its own, or the host's file system */
#define EXEC_SCRIPT 512         /* the file is a script, which its interpreter is run for */
#define EXEC_STRANGER 1024      /* the process came into the container by another way than its first program did */

/* exec_record.stdio: what standard input and output are, of the process and of its parent. */
enum stdio {
	STDIO_UNKNOWN = 0, /* closed, or of no kind below */
	STDIO_TERMINAL = 1,
	STDIO_DEVICE = 2,
	STDIO_FILE = 3,
	STDIO_PIPE = 4,
	STDIO_INTERNET_SOCKET = 5, /* IPv4 or IPv6 */
	STDIO_OTHER_SOCKET = 6,
};

struct record_head {
	__u32 kind;
	__u32 pid;
	__u64 at; /* nanoseconds since boot, suspend included */
	__u64 cgroup;
	__u32 cpu;
	__u32 sequence; /* among those of its CPU for this ring; what finds no room has a number too, so that a gap shows */
};

struct exec_record {
	struct record_head head;
	__u64 parent_cgroup; /* the parent process' */
	__u32 parent_pid;
	__u32 uid;
	__u32 euid;
	__u32 flags;
	__u32 profile;
	__u32 rule;
	__u32 decision_nanos; /* from the hook's first instruction to the verdict */
	__u8 verdict;
	__u8 mechanism;
	__u8 mode;
	__u8 baseline;
	__u32 argument_bytes;
	__u8 stdio[2];        /* input, output */
	__u8 parent_stdio[2];
	char comm[COMM_BYTES];
	char parent_comm[COMM_BYTES];
	char path[PATH_BYTES];
	char filename[FILENAME_BYTES];
	char arguments[ARGUMENT_BYTES]; /* NUL between arguments */
};

struct fork_record {
	struct record_head head;
	__u32 parent_pid;
	__u32 reserved;
};

struct exit_record {
	struct record_head head;
	__u32 code; /* as wait(2) gives it */
	__u32 reserved;
};

struct cgroup_record {
	struct record_head head;
	__u64 parent;
	__u32 profile; /* inherited; 0 for none */
	__u32 flags;
	char path[CGROUP_PATH_BYTES];
};

/* What is done to a file; the numbers are nv_model's. */
enum file_operation {
	FILE_OPEN = 1,
	FILE_MODIFY = 2,
	FILE_CREATE = 3,
	FILE_DELETE = 4,
	FILE_RENAME = 5,
	FILE_LINK = 6,
	FILE_TRUNCATE = 7,
	FILE_ATTRIBUTE = 8,
	FILE_MOUNT_OVER = 9,
};
enum file_behavior { FILE_MONITOR = 1, FILE_BLOCK = 2 };

/* file_profile_row.flags */
#define FILES_BLOCK 1   /* a rule of the profile blocks */
#define FILES_FOLDERS 2 /* a rule speaks of a folder */

/* file_row.scope */
#define SCOPE_ITSELF 1 /* this file */
#define SCOPE_IN 2     /* what is in this folder */
#define SCOPE_BELOW 4  /* all that is below it */
#define SCOPE_ABOVE 8  /* a file of the rule is below: a mount over this folder hides it */

struct file_profile_row {
	__u32 flags;
};

/* A file of the machine: device as the kernel's super block has it, and inode. */
struct file_key {
	__u32 profile;
	__u32 device;
	__u64 inode;
};

struct file_row {
	__u32 rule;
	__u8 behavior;
	__u8 scope;
	__u16 reserved;
};

/* An executable that a rule lets in. */
struct application_key {
	__u32 profile;
	__u32 rule;
	__u32 device;
	__u32 reserved;
	__u64 inode;
};

struct file_record {
	struct record_head head;
	__u32 profile;
	__u32 rule;
	__u32 parent_pid;
	__u32 uid;
	__u32 euid;
	__u32 flags; /* EXEC_TRUNCATED */
	__u32 decision_nanos;
	__u8 operation;
	__u8 verdict;
	__u8 mechanism;
	__u8 reserved;
	char comm[COMM_BYTES];
	char path[PATH_BYTES];
};

/* What a process of a container asked the kernel for; the numbers are nv_model's. */
enum deed {
	DEED_MOUNT = 1,
	DEED_REMOUNT = 2,
	DEED_MOVE_MOUNT = 3,
	DEED_PIVOT_ROOT = 4,
	DEED_MODULE_LOAD = 5,
	DEED_BPF_LOAD = 6,
	DEED_JOIN_NAMESPACE = 7,
	DEED_NEW_NAMESPACE = 8,
	DEED_BECOME_ROOT = 9,
	DEED_PTRACE = 10,
	DEED_LEAVE_CGROUP = 11,
};

/* deed_record.flags */
#define DEED_REFUSED 1 /* the kernel's own rules did not allow it */

struct deed_record {
	struct record_head head;
	__u32 deed;
	__u32 flags;
	__u64 argument; /* namespaces and mounts: the flags that it was asked with; a cgroup: its id */
	__u32 parent_pid;
	__u32 uid;
	__u32 euid;
	__u32 other_pid; /* the process that it was done to; 0 for none */
	char comm[COMM_BYTES];
	char other_comm[COMM_BYTES];
	char type_name[DEED_TYPE_BYTES]; /* of a file system */
	char from[DEED_TEXT_BYTES];   /* as the process said it, in its own words */
	char target[DEED_TEXT_BYTES];
};

/* What is known of a process of a container, for as long as it lives, wherever it goes. */
struct belonging {
	__u64 cgroup; /* the container's, in which it, or whom it descends from, ran its first program there */
	struct cgroup_row row; /* that cgroup's when it last counted, should the cgroup be gone */
	__u32 root;            /* the same of `roots`; 0: not known */
	__u32 mounted;         /* the same of `mounters` */
	__u64 told_at;
	__u64 told_argument;
	__u32 told_deed;
	__u32 user_namespace; /* 0: not known yet */
	__u32 stranger;       /* neither it nor whom it descends from was started by the container's runtime */
	__u32 reserved;
};

/* Records of a kind that a cgroup has made in a second. */
struct limit_key {
	__u64 cgroup;
	__u64 kind;
};

struct limit {
	__u64 second;
	__u64 records;
};

/* Slots of the counters, one u64 a CPU. */
enum counter {
	COUNT_DROPPED_EXEC,
	COUNT_DROPPED_FORK,
	COUNT_DROPPED_EXIT,
	COUNT_DROPPED_CGROUP,
	COUNT_CGROUPS_FULL,   /* a new cgroup found no room for its row */
	COUNT_SCRATCH_BUSY,   /* no working memory was free: decided without path */
	COUNT_NO_PROFILE,     /* a cgroup's profile had no row */
	COUNT_KILL_FAILED,    /* the kernel refused the signal */
	COUNT_RUNTIME_EXEC,
	COUNT_OPEN,
	COUNT_LEARN,
	COUNT_ALLOW,
	COUNT_VIOLATE,
	COUNT_DENY,
	COUNT_DROPPED_FILE,
	COUNT_CALLERS_FULL,   /* what a process runs found no room */
	COUNT_DROPPED_DEED,
	COUNT_LIMITED_DEED,   /* more of a kind than a cgroup may make in a second */
	COUNT_LIMITED_EXEC,
	COUNT_LIMITED_FORK,
	COUNT_LIMITED_EXIT,
	COUNT_LIMITED_FILE,
	COUNT_RECORDS,        /* records for the ring, with those that found no room */
	COUNT_CGROUP_RECORDS, /* the same for the ring of cgroups */
	COUNT_CONTAINERS_FULL, /* what is known of a container found no room */
	COUNT_SLOTS,
};

#endif
