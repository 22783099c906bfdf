//! Rule sets in ModSecurity's language on the messages of sessions.
//!
//! ```text
//! archive ─► [`files::RuleFiles`] ─► blob ─► (a node) ─► [`nv_seclang::RuleSet`]
//!                                                         │
//! nv-dpi's pieces ─► [`transactions::Transactions`] ─► [`exchange::Exchange`] ─► [`transactions::Found`]
//! ```

pub mod exchange;
pub mod files;
pub mod transactions;
