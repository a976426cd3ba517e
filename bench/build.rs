//! Compiles the product's own `proto/`, so that both servers read the same message in the same way.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=../proto");
    let files = protox::compile(["envoy/service/auth/v3/external_auth.proto"], ["../proto"])?;
    tonic_prost_build::configure().bytes(".").build_client(false).build_server(true).compile_fds(files)?;
    Ok(())
}
