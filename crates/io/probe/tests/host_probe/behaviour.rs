//! Suspicious behaviour of processes of containers on the real kernel.

#![expect(unsafe_code, reason = "system calls that no wrapper makes the way an attacker does")]

use std::io;

use crate::lab::{Bench, Container, behaviour};
use nv_model::behaviour::{Deed, DeedKind};
use nv_model::mode::{Baseline, Mode};
use nv_probe::Event;
use nv_probe::events::DeedEvent;
use rustix::mount::{MountFlags, mount, mount_remount};
use rustix::thread::{UnshareFlags, unshare_unsafe};

fn answer(result: libc::c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Whatever the kernel answers to it: that it was asked for is told.
fn whatever(result: libc::c_long) -> io::Result<()> {
    let _told_anyway = answer(result);
    Ok(())
}

fn covered() -> (Bench, Container) {
    let (bench, container) = (Bench::new(), Container::new(&["/bin/good"]));
    bench.profile(1, Mode::Discover, Baseline::Basic);
    bench.cover(&container, 1);
    (bench, container)
}

/// The next deed of this kind.
fn told(bench: &mut Bench, kind: DeedKind) -> DeedEvent {
    let seen = bench.until(|event| matches!(event, Event::Deed(did) if did.deed.kind == kind));
    match seen.into_iter().last() {
        Some(Event::Deed(did)) => *did,
        other => panic!("no deed: {other:?}"),
    }
}

#[test]
fn the_trial_finds_how_behaviour_is_told_and_names_what_is_not() {
    let found = behaviour();
    println!("{found:#?}");
    assert_eq!(found.works.len(), 2, "{found:?}");
    assert_eq!(found.lost.is_empty(), !found.works.contains(&"ptrace_tracepoint"), "{found:?}");
}

#[test]
fn mounts_of_a_container_are_told_with_what_and_where() {
    let (mut bench, container) = covered();
    container.act_own(&bench, || Ok(mount("tmpfs", "/volume", "tmpfs", MountFlags::NOSUID, None)?)).unwrap();
    let did = told(&mut bench, DeedKind::Mount);
    assert_eq!((did.cgroup, did.uid), (container.id, 0));
    let Deed { refused, file_system, from, target, argument, .. } = did.deed;
    assert_eq!(
        (refused, file_system.as_str(), from.as_str(), target.as_str()),
        (false, "tmpfs", "tmpfs", "/volume")
    );
    assert_eq!(argument & u64::from(MountFlags::NOSUID.bits()), u64::from(MountFlags::NOSUID.bits()));

    container
        .act_own(&bench, || Ok(mount_remount("/volume", MountFlags::BIND | MountFlags::RDONLY, c"")?))
        .unwrap();
    assert_eq!(told(&mut bench, DeedKind::Remount).deed.target, "/volume");
    container
        .act_own(&bench, || {
            let refused = rustix::process::pivot_root("/volume", "/volume/nothing");
            assert!(refused.is_err(), "there is no such folder");
            Ok(())
        })
        .unwrap();
    assert_eq!(told(&mut bench, DeedKind::PivotRoot).deed.target, "/volume");
    // By the newer calls.
    container
        .act_own(&bench, || {
            use rustix::mount::*;
            let system = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
            fsconfig_create(&system)?;
            let detached = fsmount(&system, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
            Ok(move_mount(detached, "", rustix::fs::CWD, "/tmp", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
        })
        .unwrap();
    assert_eq!(told(&mut bench, DeedKind::Mount).deed.file_system, "tmpfs");
    assert_eq!(told(&mut bench, DeedKind::MoveMount).deed.target, "/tmp");
    // One call, one record, although the kernel asks for its capability more than once.
    let rest = bench.events.drain().unwrap();
    assert!(!rest.iter().any(|event| matches!(event, Event::Deed(_))), "{rest:?}");
}

#[test]
fn what_the_kernel_does_not_allow_is_told_as_such() {
    let (mut bench, container) = covered();
    container
        .act_own(&bench, || {
            // SAFETY: numbers alone. Root without any capability.
            unsafe {
                let (header, data) = ([0x2008_0522_u32, 0], [0_u32; 6]);
                answer(libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()))?;
            }
            assert!(mount("none", "/volume", "tmpfs", MountFlags::empty(), None).is_err());
            Ok(())
        })
        .unwrap();
    let did = told(&mut bench, DeedKind::Mount);
    assert!(did.deed.refused, "{did:?}");
}

#[test]
fn namespaces_that_are_made_and_entered_are_told() {
    let (mut bench, container) = covered();
    // SAFETY: the child shares its descriptors with nobody, and ends.
    container
        .act_own(&bench, || Ok(unsafe { unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::NEWIPC) }?))
        .unwrap();
    let did = told(&mut bench, DeedKind::NewNamespace);
    let both = u64::from((UnshareFlags::NEWNS | UnshareFlags::NEWIPC).bits());
    assert_eq!((did.deed.argument, did.deed.refused), (both, false));
    container
        .act_own(&bench, || {
            let own = std::fs::File::open("/proc/self/ns/uts").or_else(|_| {
                mount("proc", "/tmp", "proc", MountFlags::empty(), None)?;
                std::fs::File::open("/tmp/self/ns/uts")
            })?;
            Ok(rustix::thread::move_into_link_name_space(
                std::os::fd::AsFd::as_fd(&own),
                Some(rustix::thread::LinkNameSpaceType::HostNameAndNISDomainName),
            )?)
        })
        .unwrap();
    let did = told(&mut bench, DeedKind::JoinNamespace);
    assert_eq!(did.deed.argument, u64::from(UnshareFlags::NEWUTS.bits()));
    // For a user namespace the kernel asks for nothing; it is told with the next process.
    container
        .act_own(&bench, || {
            // SAFETY: as above; what is forked ends at once.
            unsafe {
                let fork = || {
                    if libc::fork() == 0 {
                        libc::_exit(0);
                    }
                };
                fork();
                unshare_unsafe(UnshareFlags::NEWUSER)?;
                fork();
            }
            Ok(())
        })
        .unwrap();
    let did = told(&mut bench, DeedKind::NewNamespace);
    assert_eq!(did.deed.argument, u64::from(UnshareFlags::NEWUSER.bits()));
}

#[test]
fn modules_bpf_programs_and_the_rights_of_root_are_told() {
    let (mut bench, container) = covered();
    // A program of no instructions is none, but that is looked at later.
    container
        .act_own(&bench, || {
            let mut attributes = [0_u8; 128];
            attributes[0] = 1;
            attributes[48..52].copy_from_slice(b"root");
            // SAFETY: the attributes are as long as is said.
            whatever(unsafe { libc::syscall(libc::SYS_bpf, 5, attributes.as_ptr(), attributes.len()) })
        })
        .unwrap();
    assert_eq!(told(&mut bench, DeedKind::BpfLoad).deed.from, "root");
    container
        .act_own(&bench, || {
            // SAFETY: three numbers. A user without capabilities asks for its way back.
            unsafe {
                answer(libc::syscall(libc::SYS_setresuid, 1000, 1000, 0))?;
                whatever(libc::syscall(libc::SYS_setuid, 0))
            }
        })
        .unwrap();
    let kernel_has_modules = std::path::Path::new("/proc/modules").exists();
    if kernel_has_modules {
        // SAFETY: a module of no bytes.
        container
            .act_own(&bench, || whatever(unsafe { libc::syscall(libc::SYS_init_module, 0, 0, c"".as_ptr()) }))
            .unwrap();
        told(&mut bench, DeedKind::ModuleLoad);
    }
    container
        .act_own(&bench, || {
            // SAFETY: numbers alone; the capability is kept over the change of user.
            unsafe {
                answer(libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0).into())?;
                answer(libc::syscall(libc::SYS_setresuid, 1000, 1000, 1000))?;
                let header = [0x2008_0522_u32, 0];
                let setuid = 1_u32 << 7;
                let data = [setuid, setuid, 0, 0, 0, 0];
                answer(libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()))?;
                answer(libc::syscall(libc::SYS_setuid, 0))
            }
        })
        .unwrap();
    let did = told(&mut bench, DeedKind::BecomeRoot);
    assert_eq!((did.uid, did.euid, did.deed.refused), (1000, 1000, false), "{did:?}");
}

#[test]
fn a_hold_on_another_process_is_told_with_whom() {
    let (mut bench, container) = covered();
    container
        .act_own(&bench, || {
            // SAFETY: the child waits to be killed by its parent, which has taken hold of it.
            unsafe {
                let child = libc::fork();
                if child == 0 {
                    loop {
                        libc::pause();
                    }
                }
                answer(libc::ptrace(libc::PTRACE_ATTACH, child, 0, 0))?;
                libc::waitpid(child, std::ptr::null_mut(), 0);
                libc::kill(child, libc::SIGKILL);
                libc::waitpid(child, std::ptr::null_mut(), 0);
            }
            Ok(())
        })
        .unwrap();
    let did = told(&mut bench, DeedKind::Ptrace);
    let (other, _) = did.deed.other.clone().unwrap();
    assert!(other > 0 && other != did.pid && did.cgroup == container.id, "{did:?}");
}

#[test]
fn what_the_host_does_is_not_told_and_a_flood_is_counted() {
    let (mut bench, container) = covered();
    // What prepares the container is not the container.
    let prepare = || Ok(mount("tmpfs", "/volume", "tmpfs", MountFlags::empty(), None)?);
    container.act(prepare).unwrap();
    container
        .act_own(&bench, || {
            for number in 0..200 {
                let flags = if number % 2 == 0 { MountFlags::NOSUID } else { MountFlags::NODEV };
                assert!(mount("none", "/volume", "nosuchfs", flags, None).is_err());
            }
            Ok(())
        })
        .unwrap();
    let mut deeds = Vec::new();
    while let batch = bench.events.drain().unwrap()
        && !batch.is_empty()
    {
        deeds.extend(batch.into_iter().filter_map(|event| match event {
            Event::Deed(did) => Some(*did),
            _ => None,
        }));
    }
    assert!(deeds.iter().all(|did| did.deed.file_system == "nosuchfs"), "the host's: {deeds:?}");
    let counters = bench.tables.counters().unwrap();
    assert!((1..=80).contains(&deeds.len()), "{} were told", deeds.len());
    assert_eq!(deeds.len() as u64 + counters.limited_deed, 200, "{counters:?}");
}
