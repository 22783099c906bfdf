//! The kernel's side, as root: two pods on a bridge, in network namespaces of their own.

#[cfg(test)]
mod adoption;
#[cfg(test)]
mod detour;
#[cfg(test)]
mod foreign;
#[cfg(test)]
mod lab;
#[cfg(test)]
mod modes;
#[cfg(test)]
mod places;
#[cfg(test)]
mod queue;
#[cfg(test)]
mod records;
#[cfg(test)]
mod sockets;
#[cfg(test)]
mod tap;
#[cfg(test)]
mod translation;
#[cfg(test)]
mod verdicts;
#[cfg(test)]
mod vlan;
