//! Networks that may lie in one another.

use std::collections::BTreeMap;

use ipnet::IpNet;

/// A map from networks to values that can be asked from inside out.
#[derive(Clone, Debug)]
pub(crate) struct NetMap<T>(pub(crate) BTreeMap<IpNet, T>);

impl<T> Default for NetMap<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T> NetMap<T> {
    /// Every held network that `net` lies in, itself included, the longest prefix first.
    pub(crate) fn covering(&self, net: IpNet) -> impl Iterator<Item = (IpNet, &T)> {
        let mut next = if self.0.is_empty() { None } else { Some(net.trunc()) };
        std::iter::from_fn(move || {
            while let Some(net) = next {
                next = net.supernet();
                if let Some(value) = self.0.get(&net) {
                    return Some((net, value));
                }
            }
            None
        })
    }
}
