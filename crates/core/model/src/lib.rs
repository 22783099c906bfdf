//! The words of the product, without I/O, clock or async.
//!
//! Read in this order: [`mod@name`] and [`time`] (what things are called, when they happened), [`workload`] and
//! [`node`] (what runs), [`group`] (selectors over workloads), [`mode`], [`rule`], [`profile`] and [`sensor`]
//! (what an operator allows), [`policy`] (what one node is told), [`observation`] (what one node tells), [`verdict`]
//! (what was decided), [`record`] (what is logged), [`question`] (what a controller asks a node), [`scan`] and
//! [`scan_report`] (what is looked at for vulnerabilities, and what was found).

pub mod application;
pub mod behaviour;
pub mod condition;
pub mod conversation;
pub mod file;
pub mod group;
pub mod mode;
pub mod name;
pub mod node;
pub mod observation;
pub mod policy;
pub mod port;
pub mod profile;
pub mod question;
pub mod record;
pub mod registry;
pub mod rule;
pub mod rule_set;
pub mod scan;
pub mod scan_report;
pub mod sensor;
pub mod signature;
pub mod system;
pub mod threat;
pub mod time;
pub mod verdict;
pub mod vitals;
pub mod workload;
