//! How much a message may hold. A message beyond one of these is refused with the name of the field.

/// Largest gRPC message either way, in bytes. Set it on client and server.
pub const MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;
/// Observations in one batch.
pub const MAX_BATCH: usize = 1024;
/// Workloads of one node.
pub const MAX_WORKLOADS: usize = 8192;
/// Profiles of one node.
pub const MAX_PROFILES: usize = 8192;
/// Lines of one effective profile.
pub const MAX_PROCESS_RULES: usize = 8192;
/// File rules of one effective profile.
pub const MAX_FILE_RULES: usize = 1024;
/// Applications of one file rule.
pub const MAX_FILE_APPLICATIONS: usize = 256;
/// Identities that one node is told of.
pub const MAX_IDENTITIES: usize = 65_536;
/// Identities at one end of a rule.
pub const MAX_RULE_ENDS: usize = 65_536;
/// Addresses that one node is told of.
pub const MAX_ADDRESSES: usize = 262_144;
/// Sensors of one node, and of one group.
pub const MAX_SENSORS: usize = 1024;
/// Rule sets of one node.
pub const MAX_RULE_SETS: usize = nv_model::rule_set::MAX_RULE_SETS;
/// Rules of one sensor.
pub const MAX_SENSOR_RULES: usize = 1024;
/// Patterns of one rule of a sensor.
pub const MAX_SENSOR_PATTERNS: usize = 64;
/// Network rules of one node.
pub const MAX_RULES: usize = 120_000;
/// Applications of one rule.
pub const MAX_APPLICATIONS: usize = 256;
/// Names of hosts of an identity.
pub const MAX_NAMES: usize = 1024;
/// Interfaces of a workload or node.
pub const MAX_INTERFACES: usize = 1024;
/// Listening ports of a workload.
pub const MAX_PORTS: usize = 4096;
/// Labels or annotations of one object.
pub const MAX_LABELS: usize = 256;
/// Mechanisms tried at start, and losses told.
pub const MAX_TRIALS: usize = 64;
/// Bytes of a free text: image reference, command line, label value, reason.
pub const MAX_TEXT_BYTES: usize = 4096;
/// Bytes of a short text: uuid, version, digest, word.
pub const MAX_WORD_BYTES: usize = 256;
/// Bytes of a join token.
pub const MAX_TOKEN_BYTES: usize = 512;
/// Bytes of a certificate signing request or certificate.
pub const MAX_CERTIFICATE_BYTES: usize = 16 * 1024;
/// Certificates in a chain, and roots.
pub const MAX_CERTIFICATES: usize = 8;
/// Bytes of a list of ports in text.
pub const MAX_PORTS_TEXT_BYTES: usize = 16 * 1024;
/// Processes in one answer.
pub const MAX_PROCESSES: usize = 8192;
/// Connections in one answer.
pub const MAX_SESSIONS: usize = 16_384;
/// Captures of packets in one answer.
pub const MAX_CAPTURES: usize = 256;
/// Counters in one answer.
pub const MAX_COUNTERS: usize = 1024;
/// Tasks that one scanner takes at one time.
pub const MAX_CREDITS: u32 = 64;
/// Names of packages that changed between two databases; beyond that every report counts as changed.
pub const MAX_CHANGED_PACKAGES: usize = 65_536;
/// Bytes of one piece of a blob, inventory or report.
pub const MAX_PIECE_BYTES: usize = 1024 * 1024;
/// Bytes of an inventory or report.
pub const MAX_REPORT_BYTES: usize = 256 * 1024 * 1024;
/// Bytes of a vulnerability database's file.
pub const MAX_DATABASE_BYTES: u64 = 2 * 1024 * 1024 * 1024;
/// Most records of layers in one answer.
pub const MAX_CACHE_RECORDS: usize = 16_384;
