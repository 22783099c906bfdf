//! From the state of the cluster to the policy of a node.

mod cluster;
mod compiler;
mod fixed;
pub(crate) mod nets;
mod plan;

use nv_model::name::NodeId;
use nv_model::policy::NodePolicy;

pub use cluster::{BOUNDARY_RULE_BASE, is_boundary};
pub use compiler::Compiler;
pub(crate) use fixed::interface_nets;

use crate::identity::Identities;
use crate::membership::Membership;
use crate::state::State;

/// The policy of one node, from nothing. Its revision is 0: whoever sends it numbers it.
///
/// For many nodes, or to follow changes, a [`Compiler`] gives the same and the differences.
#[must_use]
pub fn compile(state: &State, identities: &mut Identities, node: &NodeId) -> NodePolicy {
    let memberships = cluster::memberships(state, &Membership::new(&state.groups));
    let cluster = cluster::Cluster::build(state, identities, &memberships);
    let local = plan::by_node(&cluster).remove(node).unwrap_or_default();
    plan::Plan::build(state, &cluster, node, &local).assemble(&cluster)
}

#[cfg(test)]
mod follow_tests;
#[cfg(test)]
mod tests;
