//! The policy engine: what an operator says, turned into what a node enforces. Pure and deterministic: no I/O, no
//! clock; the same input gives the same output everywhere, so a verdict can be explained again later.
//!
//! ```text
//! [`state`] ── [`membership`] ── [`compile`] ──► NodePolicy ──► [`lower`] ──► kernel rows
//!    ▲  ▲          (criteria)     (identities)        ├────────► [`decide`] (why?)
//!    │  │                                             └────────► [`layer7`] (application, [`names`] of hosts)
//!    │  └── [`validate`], [`order`], [`modes`]: what operators change
//!    └───── [`learn`]: what nodes have seen
//! ```
//!
//! [`change::Change`] is the one way in which a [`state::State`] is altered; learning, modes and rule edits return
//! lists of them, and whoever stores policy applies the same list to the store and to the state.
#![forbid(unsafe_code)]

pub mod address;
pub mod behaviour;
pub mod change;
pub mod compile;
pub mod condition;
pub mod criteria;
pub mod decide;
pub mod directory;
pub mod file;
pub mod identity;
pub mod layer7;
pub mod learn;
pub mod lower;
pub mod membership;
pub mod modes;
pub mod names;
pub mod order;
pub mod profile;
pub mod state;
pub mod threshold;
pub mod validate;

#[cfg(test)]
mod testing;
