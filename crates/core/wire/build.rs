//! Generates the gRPC code from the contract in `/proto`.

fn main() -> std::io::Result<()> {
    println!("cargo::rerun-if-changed=../../../proto");
    tonic_prost_build::configure().btree_map(".").compile_protos(
        &[
            "../../../proto/neuvector/enforcer/v1/enforcer.proto",
            "../../../proto/neuvector/scanner/v1/scanner.proto",
        ],
        &["../../../proto"],
    )
}
