//! The trial of the mechanism, as root.

use nv_capture::trial;
use nv_model::verdict::Mechanism;

#[test]
fn the_trial_puts_the_socket_programs_on_a_cgroup_of_its_own_and_leaves_nothing() {
    assert_eq!(trial::sockets(), Ok(()));
}

#[test]
fn the_trial_drops_a_forbidden_packet_on_this_kernel() {
    let trial::Outcome { capability, hook, .. } = trial::run();
    assert!(capability.works, "{}", capability.reason);
    assert_eq!(capability.mechanism, Mechanism::TrafficControl);
    assert!(hook.is_some());
    println!("{hook:?} in {} us", capability.trial_micros);
}

#[test]
fn the_trial_of_the_detour_has_one_packet_wait_and_come_back_on_this_kernel() {
    let capability = trial::detour();
    assert!(capability.works, "{}", capability.reason);
    assert_eq!(capability.mechanism, Mechanism::Detour);
    println!("in {} us", capability.trial_micros);
}

#[test]
fn the_trial_of_the_queue_refuses_one_packet_and_lets_others_pass_on_this_kernel() {
    let capability = trial::queue();
    assert!(capability.works, "{}", capability.reason);
    assert_eq!(capability.mechanism, Mechanism::Nfqueue);
    println!("in {} us", capability.trial_micros);
}
