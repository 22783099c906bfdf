//! Any bytes are a layer of an image, as they are or compressed, or a manifest, or are refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nv_layer::{LayerDigests, Manifest, walk_layer};

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fuzz_target!(|bytes: &[u8]| {
    let mut take = |entry: &nv_layer::LayerEntry<'_>, file: &mut dyn nv_layer::ReadFile| {
        assert!(!entry.path.starts_with('/'), "{:?} is below the root", entry.path);
        assert!(!entry.path.split('/').any(|part| part == ".."), "{:?} leads out", entry.path);
        let _refused = std::hint::black_box(file.whole(1 << 20));
    };
    let _damaged = walk_layer(bytes, &LayerDigests::default(), &mut take, &mut |_| {});
    if let Ok(Manifest::Image(image)) = Manifest::parse(DIGEST, bytes) {
        let _refused = std::hint::black_box(image.image(bytes));
    }
});
