//! Curated lists from the ecosystems' own specifications and test suites: each line is older than the next, and the
//! versions on one line are equal.

use std::cmp::Ordering;

use crate::version::{Scheme, compare};

fn holds(scheme: Scheme, lines: &[&[&str]]) {
    for (at, line) in lines.iter().enumerate() {
        for a in *line {
            for b in *line {
                assert_eq!(
                    compare(scheme, a.as_bytes(), b.as_bytes()),
                    Ordering::Equal,
                    "{scheme:?} {a} = {b}"
                );
            }
            for later in &lines[at + 1..] {
                for b in *later {
                    let found = compare(scheme, a.as_bytes(), b.as_bytes());
                    assert_eq!(found, Ordering::Less, "{scheme:?} {a} < {b}");
                    assert_eq!(
                        compare(scheme, b.as_bytes(), a.as_bytes()),
                        Ordering::Greater,
                        "{scheme:?} {b} > {a}"
                    );
                }
            }
        }
    }
}

#[test]
fn debian_versions_are_in_the_order_of_policy_5_6_12() {
    holds(
        Scheme::Deb,
        &[
            // The policy's own example: parts before, at and after the end.
            &["~~"],
            &["~~a"],
            &["~"],
            &["", "0", "0:0", "0-0", "-0"],
            &["1~~"],
            &["1~~a"],
            &["1~"],
            &["1~bpo1"],
            &["1", "1-0", "0:1", "01", "1-"],
            &["1-0ubuntu1"],
            &["1-0ubuntu1.1"],
            &["1-1~deb11u1"],
            &["1-1"],
            &["1-1+b1"],
            &["1-1+deb11u1"],
            &["1-1.1"],
            &["1-2"],
            &["1-10"],
            &["1a"],
            &["1+b"],
            &["1.0~rc1"],
            &["1.0~rc1+git1"],
            &["1.0", "1.", "1.0-0", "1.00"],
            &["1.0a"],
            &["1.0+dfsg-1"],
            &["1.0.1"],
            &["1.2.24-0ubuntu1"],
            &["1.18.36"],
            &["1.18.36+esm1"],
            &["3.0.2-0ubuntu1.10"],
            &["20220101"],
            &["1:0.1"],
            &["1:1.0"],
            &["2:0"],
        ],
    );
}

#[test]
fn rpm_versions_are_in_the_order_of_rpms_own_test_suite() {
    holds(
        Scheme::Rpm,
        &[
            &["~rc1"],
            &[""],
            &["a", ".a"],
            &["b"],
            &["xyz.4"],
            &["0"],
            &["1.0~rc1~git123"],
            &["1.0~rc1"],
            &["1.0~rc1^git1"],
            &["1.0~rc2"],
            &["1.0", "1_0", "1.00", "0:1.0", "1.0."],
            &["1.0^~"],
            &["1.0^"],
            &["1.0^20160101"],
            &["1.0^20160102"],
            &["1.0a"],
            &["1.0.1^20160101~git1"],
            &["1.0.1^20160102"],
            &["1.0.2"],
            &["1.9xyz"],
            &["2.0", "2_0"],
            &["2.0.1"],
            &["2.0.1a", "2.0.1.a"],
            &["2.50"],
            &["5.5p1"],
            &["5.5p2"],
            &["5.5p10"],
            &["6.0"],
            &["6.5.0"],
            &["8u"],
            &["8.4-1.el8", "8.4-1_el8"],
            &["8.4-1.el8_10"],
            &["8.4-1.el9"],
            &["8.4-2.el8"],
            &["10.0001", "10.1", "10.0001."],
            &["10.0039"],
            &["20101121"],
            &["20101122"],
            &["1:0.9"],
            &["4:1.0-1.el8"],
        ],
    );
}

#[test]
fn apk_versions_are_in_the_order_of_apk_tools() {
    holds(
        Scheme::Apk,
        &[
            &["0.1.0_alpha"],
            &["0.1.0_alpha1"],
            &["0.1.0_alpha1.2_beta"],
            &["0.1.0_beta1"],
            &["0.1.0_pre2"],
            &["0.1.0_rc1"],
            &["0.1.0_rc1-r1"],
            &["0.1.0"],
            &["0.1.0-r0"],
            &["0.1.0-r1"],
            &["0.1.0-r10"],
            &["0.1.0_cvs2"],
            &["0.1.0_git20230101"],
            &["0.1.0_p1"],
            &["0.1.0_p1-r1"],
            &["0.1.0_p2"],
            &["0.1.0a"],
            &["0.1.0b"],
            &["0.1.3"],
            &["0.2"],
            &["0.2.0"],
            &["0.12"],
            &["1.01"],
            &["1.1"],
            &["1.1.1k-r0"],
            &["1.1.1l-r0"],
            &["1.1.1t-r2"],
            &["1.2.3-r4"],
            &["1.2.3-r5"],
            &["2.0", "2.0"],
            &["13.0.1"],
            &["20230506-r0"],
        ],
    );
}

#[test]
fn semantic_versions_are_in_the_order_of_section_11_and_go_pseudo_versions_lie_between_their_tags() {
    holds(
        Scheme::Semver,
        &[
            &["latest"],
            &["0.0.0-0"],
            &["v0.0.0-20191109021931-daa7c04131f5"],
            &["v0.0.0-20200101000000-aaaaaaaaaaaa"],
            &["0.0.0", "0"],
            &["1.0.0-0.3.7"],
            &["1.0.0-alpha"],
            &["1.0.0-alpha.1"],
            &["1.0.0-alpha.beta"],
            &["1.0.0-beta"],
            &["1.0.0-beta.2"],
            &["1.0.0-beta.11"],
            &["1.0.0-rc.1", "1.0.0-rc.1+build.7"],
            &["1.0.0", "1", "1.0", "v1.0.0", "=1.0.0", "1.0.0+20130313144700", "1.0.0.0"],
            &["1.0.0.1"],
            &["1.2.3-pre.0.20210101000000-abcdefabcdef"],
            &["v1.2.3"],
            &["v1.2.4-0.20191109021931-daa7c04131f5"],
            &["v1.2.4"],
            &["1.9.0"],
            &["1.10.0"],
            &["1.11.0"],
            &["v2.0.0+incompatible"],
            &["2.1.0"],
            &["2.1.1"],
            &["99999999999999999999.0.0"],
            &["100000000000000000000.0.0"],
        ],
    );
}

#[test]
fn python_versions_are_in_the_order_of_pep_440() {
    holds(
        Scheme::Pep440,
        &[
            &["no version"],
            &["1.0.dev456", "1.0dev456", "1.0-dev456"],
            &["1.0a1", "1.0-alpha.1", "1.0.ALPHA-1", "v1.0a1", "1a01"],
            &["1.0a2.dev456"],
            &["1.0a12.dev456"],
            &["1.0a12"],
            &["1.0b1.dev456"],
            &["1.0b2"],
            &["1.0b2.post345.dev456"],
            &["1.0b2.post345"],
            &["1.0rc1.dev456"],
            &["1.0rc1", "1.0c1", "1.0-preview1", "1.0pre1"],
            &["1.0", "1", "1.0.0", "0!1.0", " 1.0 "],
            &["1.0+abc.5"],
            &["1.0+abc.7"],
            &["1.0+5"],
            &["1.0.post456.dev34"],
            &["1.0.post456", "1.0-456", "1.0.r456", "1.0rev456"],
            &["1.0.1"],
            &["1.1.dev1"],
            &["1.10"],
            &["1.10.0.1"],
            &["2012.4"],
            &["1!0.1"],
        ],
    );
}

#[test]
fn maven_versions_are_in_the_order_of_comparable_version() {
    // Maven's own ComparableVersionTest.
    holds(
        Scheme::Maven,
        &[
            &["1-alpha2snapshot"],
            &["1-alpha2", "1a2", "1.0.alpha2", "1.0a2", "1-a2"],
            &["1-alpha-123"],
            &["1-beta-2"],
            &["1-beta123"],
            &["1-m2", "1-milestone2"],
            &["1-m11"],
            &["1-rc", "1-cr", "1-CR"],
            &["1-rc2"],
            &["1-rc123"],
            &["1-SNAPSHOT", "1-snapshot"],
            &["1", "1.0", "1.0.0", "1-ga", "1.final", "1-0", "1-RELEASE", "1.0-0"],
            &["1-sp"],
            &["1-sp2"],
            &["1-abc"],
            &["1-def"],
            &["1-pom-1"],
            &["1-1-snapshot"],
            &["1-1"],
            &["1-2"],
            &["1.0.1"],
            &["1.1"],
            &["2.0.1-xyz"],
            &["2.0.1-123"],
            &["2.1"],
        ],
    );
    holds(
        Scheme::Maven,
        &[
            &["2.0.1.MR", "2.0.1-mr"],
            &["5.3.18"],
            &["5.3.20.RELEASE", "5.3.20"],
            &["20031129"],
            &["20031129.200310"],
        ],
    );
    // A date does not overflow.
    holds(
        Scheme::Maven,
        &[
            &["20190126.230843"],
            &["1234567890.12345"],
            &["123456789012345.1H.5-beta"],
            &["12345678901234567890.1H.5-beta"],
        ],
    );
}

#[test]
fn gem_versions_are_in_the_order_of_rubygems() {
    holds(Scheme::Gem, &[&["0.0.beta"], &["0.0.beta.1"], &["", "0", "0.0"]]);
    holds(
        Scheme::Gem,
        &[
            &["1.0.a"],
            &["1.0.a.1"],
            &["1.0.a.2"],
            &["1.0.b.10"],
            &["1.0.pre.1", "1.0-1", "1.pre.1"],
            &["1.0.rc1"],
            &["1", "1.0", "1.0.0", " 1.0 "],
            &["1.0.1"],
            &["1.2.b1"],
            &["1.2"],
            &["1.8.2.a"],
            &["1.8.2.a10"],
            &["1.8.2.b"],
            &["1.8.2"],
            &["1.9.a.0.0.b"],
            &["1.9.a.0.1"],
            &["1.9"],
            &["22.1.50.0"],
        ],
    );
}

#[test]
fn nuget_versions_have_four_parts_and_labels_without_case() {
    holds(
        Scheme::Nuget,
        &[
            &["1.0.0-Alpha", "1.0.0-alpha"],
            &["1.0.0-ALPHA.2"],
            &["1.0.0-alpha.10"],
            &["1.0.0-beta"],
            &["1.0.0", "1.0", "1.0.0.0", "1.0.0+META"],
            &["1.0.0.1-rc"],
            &["1.0.0.1"],
            &["1.0.1"],
            &["4.7.0"],
            &["4.10.0"],
        ],
    );
}

#[test]
fn composer_versions_are_in_the_order_of_its_normal_form() {
    holds(
        Scheme::Composer,
        &[
            &["dev-master"],
            &["1.0.0-dev", "1.0.x-dev"],
            &["1.0.0-alpha1", "1.0a1", "v1.0.0-a.1"],
            &["1.0.0-alpha2"],
            &["1.0.0-beta2-dev"],
            &["1.0.0-beta2", "1.0.0b2"],
            &["1.0.0-RC1", "1.0-rc1"],
            &["1.0.0", "1.0", "v1.0.0.0", "1", "1.0.0+build"],
            &["1.0.0-patch1", "1.0.0-p1", "1.0.0pl1"],
            &["1.0.1"],
            &["1.0.10"],
            &["2012.06.05"],
        ],
    );
}
