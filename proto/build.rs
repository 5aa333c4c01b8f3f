//! Generates the Rust code of our .proto files. protox parses them in-process, so no protoc is needed.

const PROTO: &str = "hello.proto";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed={PROTO}");
    let files = protox::compile([PROTO], ["."])?;
    tonic_prost_build::configure().skip_protoc_run().compile_fds(files)?;
    Ok(())
}
