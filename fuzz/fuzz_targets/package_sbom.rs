//! Any bytes are a bill of materials or are refused; a package URL that is written is read as the same package.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nv_package::distribution::{parse_os_release, parse_red_hat_release};
use nv_package::purl::{parse_purl, write_purl};
use nv_package::sbom::parse_sbom;

fuzz_target!(|bytes: &[u8]| {
    std::hint::black_box((parse_os_release(bytes), parse_red_hat_release(bytes)));
    if let Ok(purl) = parse_purl(&String::from_utf8_lossy(bytes)) {
        std::hint::black_box(purl);
    }
    let Ok(sbom) = parse_sbom(bytes) else { return };
    for (_, package) in &sbom.packages {
        let purl = write_purl(package, sbom.distribution.as_ref());
        std::hint::black_box(parse_purl(&purl).is_ok());
    }
});
