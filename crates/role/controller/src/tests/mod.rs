//! The controller with real parts: redb store, event log, mTLS over the loopback, and a simulated enforcer that speaks
//! the contract.

mod ask;
mod changes;
mod link;
mod observed;
mod policy;
mod scans;
mod sim;
mod survive;
mod thresholds;
