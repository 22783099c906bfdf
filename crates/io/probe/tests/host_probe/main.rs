//! Process policy on the real kernel. Needs root: without it the tests fail.

#[cfg(test)]
mod behaviour;
#[cfg(test)]
mod conditions;
#[cfg(test)]
mod escape;
#[cfg(test)]
mod family;
#[cfg(test)]
mod files;
#[cfg(test)]
mod lab;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod pins;
#[cfg(test)]
mod process;
#[cfg(test)]
mod replay;
#[cfg(test)]
mod rewritten;
#[cfg(test)]
mod scripts;
