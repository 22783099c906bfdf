//! Who opens or changes a file, read from `/proc` while the process is there.

use std::io::Read as _;

use nv_probe::fanotify::Inode;

/// Most bytes that are read of one file of `/proc`.
const MAX_BYTES: u64 = 4096;

/// Path of the process's cgroup in the unified hierarchy; where containers are placed in the older ones only, theirs.
pub(in crate::keeper) fn cgroup(pid: u32) -> Option<String> {
    let text = read(&format!("/proc/{pid}/cgroup"))?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let path = |line: &str| line.splitn(3, ':').nth(2).map(str::to_owned);
    match unified_of(&text) {
        Some(unified) if unified != "/" => Some(unified),
        unified => text.lines().find_map(path).or(unified),
    }
}

/// Path of the process's cgroup in the unified hierarchy.
pub(in crate::keeper) fn unified(pid: u32) -> Option<String> {
    unified_of(&String::from_utf8_lossy(&read(&format!("/proc/{pid}/cgroup"))?))
}

fn unified_of(text: &str) -> Option<String> {
    text.lines().find_map(|line| line.strip_prefix("0::")).map(str::to_owned)
}

/// The executable of a process.
pub(in crate::keeper) struct Program {
    /// As its own mount namespace sees it; ` (deleted)` behind it when it has no name any more.
    pub(in crate::keeper) path: String,
    pub(in crate::keeper) inode: Option<Inode>,
}

pub(in crate::keeper) fn program(pid: u32) -> Program {
    let link = format!("/proc/{pid}/exe");
    let path = std::fs::read_link(&link).map(|path| path.to_string_lossy().into_owned()).unwrap_or_default();
    Program { path, inode: Inode::at(&link).ok() }
}

/// What a report says of a process besides its executable.
#[derive(Debug, Default)]
pub(in crate::keeper) struct Facts {
    pub(in crate::keeper) name: String,
    pub(in crate::keeper) command: String,
    pub(in crate::keeper) parent: u32,
    pub(in crate::keeper) real_uid: u32,
    pub(in crate::keeper) effective_uid: u32,
}

pub(in crate::keeper) fn facts(pid: u32) -> Facts {
    let mut facts = Facts::default();
    let Some(status) = read(&format!("/proc/{pid}/status")) else { return facts };
    for line in String::from_utf8_lossy(&status).lines() {
        let Some((key, value)) = line.split_once(':') else { continue };
        let mut numbers = value.split_whitespace().map_while(|word| word.parse::<u32>().ok());
        match key {
            "Name" => facts.name = value.trim().to_owned(),
            "PPid" => facts.parent = numbers.next().unwrap_or_default(),
            "Uid" => {
                facts.real_uid = numbers.next().unwrap_or_default();
                facts.effective_uid = numbers.next().unwrap_or_default();
            }
            _ => {}
        }
    }
    let arguments = read(&format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let cut = u64::try_from(arguments.len()).is_ok_and(|bytes| bytes >= MAX_BYTES);
    facts.command = nv_probe::redact::command(&arguments, cut);
    facts
}

/// The parent of a process.
pub(in crate::keeper) fn parent(pid: u32) -> Option<u32> {
    let status = read(&format!("/proc/{pid}/status"))?;
    let text = String::from_utf8_lossy(&status).into_owned();
    text.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse().ok())
}

fn read(path: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path).ok()?.take(MAX_BYTES).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_who_it_is() {
        let pid = std::process::id();
        let exe = std::env::current_exe().unwrap();
        let program = program(pid);
        assert_eq!(program.path, exe.display().to_string());
        assert_eq!(program.inode, Some(Inode::of(std::fs::File::open(exe).unwrap()).unwrap()));
        assert!(cgroup(pid).unwrap().starts_with('/'));
        assert_eq!(facts(pid).parent, std::os::unix::process::parent_id());
        assert_eq!(parent(pid), Some(std::os::unix::process::parent_id()));
        assert_eq!((cgroup(u32::MAX), super::program(u32::MAX).inode), (None, None));
    }
}
