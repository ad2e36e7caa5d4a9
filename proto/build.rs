//! Compiles `orbit/v1/*.proto` in-process, so that no `protoc` has to be installed.

use std::path::{Path, PathBuf};

use prost_types::FileDescriptorSet;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?);
    println!("cargo::rerun-if-changed=orbit");
    let mut files: Vec<PathBuf> = std::fs::read_dir(root.join("orbit/v1"))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "proto"));
    files.sort();
    // Source information is kept: its comments are what `grpcurl describe` prints.
    let mut compiler = protox::Compiler::new([&root])?;
    compiler.include_source_info(true).include_imports(true).open_files(&files)?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("orbit_descriptor.bin"), compiler.encode_file_descriptor_set())?;
    generate(&compiler, &out)
}

/// The data plane is generated apart from the rest because its messages go through a codec of their own.
fn generate(compiler: &protox::Compiler, out: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let (data_plane, control): (Vec<_>, Vec<_>) = compiler
        .file_descriptor_set()
        .file
        .into_iter()
        .partition(|file| file.name().ends_with("/transfer.proto"));
    let data_plane_out = out.join("data_plane");
    std::fs::create_dir_all(&data_plane_out)?;
    // Without `connect` constructors: SessionService has a method of that name. Clients are made from a channel.
    let configure =
        || tonic_prost_build::configure().bytes(".").build_transport(false).emit_rerun_if_changed(false);
    configure().out_dir(out).compile_fds(FileDescriptorSet { file: control })?;
    configure()
        .out_dir(data_plane_out)
        .codec_path("crate::codec::DataPlaneCodec")
        .compile_fds(FileDescriptorSet { file: data_plane })?;
    Ok(())
}
