//! The limits of the machine, measured between the runs of the programs: the smallest part of the work that no way of
//! copying a tree can avoid. Each limit is given as the time for a whole data set.

use std::fs::File;
use std::io::{self, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use crate::data_set::{DataSet, Size};
use crate::measure::{Cost, now, sync};
use crate::plane;
use crate::secured::Secured;

/// Names of the limits in the report.
pub(crate) const WRITE: &str = "(limit) write + fsync";
pub(crate) const MEMCPY: &str = "(limit) memcpy";
pub(crate) const CHUNK: &str = "(limit) chunk + hash";
pub(crate) const PLANE: &str = "(limit) data plane";
pub(crate) const PLANE_TLS: &str = "(limit) data plane, TLS";
pub(crate) const TCP: &str = "(limit) loopback TCP";
pub(crate) const TLS: &str = "(limit) loopback TLS";
pub(crate) const CREATE: &str = "(limit) create, 1 thr.";
pub(crate) const CREATE_TWICE: &str = "(limit) create, 2 thr.";

const BLOCK_BYTES: usize = 1 << 20;
/// Size of the data that is chunked and hashed repeatedly, in bytes, so that it comes from memory.
const BUFFER_BYTES: usize = 64 << 20;
/// Amount of work in bytes from which the speed is computed.
const SAMPLE_BYTES: u64 = 512 << 20;
const CREATED_FILE_BYTES: usize = 4096;
const FILES_PER_DIRECTORY: u64 = 250;

/// The limits for the data set in `tree`. Files are written to `directory`.
pub(crate) fn measure(
    set: DataSet,
    size: Size,
    tree: &Path,
    directory: &Path,
) -> Result<Vec<(&'static str, Cost)>, String> {
    let failed = |error: io::Error| format!("limits: {error}");
    let timed = |wall: Duration| Cost { wall, synced: wall, ..Cost::default() };
    let mut found = Vec::new();
    match set {
        DataSet::L => {
            found.push((MEMCPY, timed(copy_memory(size.bytes))));
            found.push((CHUNK, timed(chunk_and_hash(size.bytes))));
            found.push((TCP, timed(loopback(size.bytes).map_err(failed)?)));
            found.push((PLANE, timed(plane::measure(tree, false)?)));
            found.push((TLS, timed(secured_loopback(size.bytes).map_err(failed)?)));
            found.push((PLANE_TLS, timed(plane::measure(tree, true)?)));
            found.push((WRITE, timed(write(directory, size.bytes).map_err(failed)?)));
        }
        DataSet::S | DataSet::S1M => {
            found.push((CREATE, timed(create(directory, size.files, 1).map_err(failed)?)));
            found.push((CREATE_TWICE, timed(create(directory, size.files, 2).map_err(failed)?)));
        }
        DataSet::D | DataSet::M => {}
    }
    Ok(found)
}

/// Incompressible bytes.
fn noise(count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
}

/// How long `bytes` would take at the speed of a sample.
fn scaled(taken: Duration, sample: u64, bytes: u64) -> Duration {
    taken.mul_f64(bytes as f64 / sample as f64)
}

/// Copies memory to memory.
fn copy_memory(bytes: u64) -> Duration {
    let from = noise(BUFFER_BYTES);
    let mut to = vec![1; BUFFER_BYTES];
    let rounds = SAMPLE_BYTES / BUFFER_BYTES as u64;
    let start = now();
    for _ in 0..rounds {
        to.copy_from_slice(std::hint::black_box(&from));
        std::hint::black_box(&to);
    }
    scaled(start.elapsed(), rounds * BUFFER_BYTES as u64, bytes)
}

/// Cuts and hashes chunks as a Star does, on one core.
fn chunk_and_hash(bytes: u64) -> Duration {
    let content = noise(BUFFER_BYTES);
    let rounds = (bytes.min(SAMPLE_BYTES) / BUFFER_BYTES as u64).max(1);
    let start = now();
    for _ in 0..rounds {
        for chunk in orbit_star::chunker::cut(&content, true) {
            std::hint::black_box(orbit_star::chunker::hash(&content[chunk]));
        }
    }
    scaled(start.elapsed(), rounds * BUFFER_BYTES as u64, bytes)
}

/// Sends bytes through a loopback connection, with one thread at each end.
fn loopback(bytes: u64) -> io::Result<Duration> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let block = noise(BLOCK_BYTES);
    std::thread::scope(|scope| {
        let start = now();
        let sender =
            scope.spawn(move || -> io::Result<()> { send(&mut TcpStream::connect(address)?, &block, bytes) });
        let (mut connection, _) = listener.accept()?;
        drain(&mut connection)?;
        let taken = start.elapsed();
        sender.join().map_err(|_| io::Error::other("the sender panicked"))??;
        Ok(taken)
    })
}

/// Writes `bytes` bytes by repeating a block.
fn send(to: &mut impl io::Write, block: &[u8], bytes: u64) -> io::Result<()> {
    let mut left = bytes;
    while left > 0 {
        let length = left.min(block.len() as u64);
        to.write_all(&block[..length as usize])?;
        left -= length;
    }
    Ok(())
}

/// Reads to the end, in blocks.
fn drain(from: &mut impl io::Read) -> io::Result<()> {
    let mut buffer = vec![0; BLOCK_BYTES];
    while from.read(&mut buffer)? > 0 {}
    Ok(())
}

/// As [`loopback`], through TLS with the settings of the data plane.
fn secured_loopback(bytes: u64) -> io::Result<Duration> {
    let secured = Secured::new("source", "sink").map_err(io::Error::other)?;
    let (mut receiving, mut sending) = secured.raw().map_err(io::Error::other)?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let block = noise(BLOCK_BYTES);
    std::thread::scope(|scope| {
        let start = now();
        let sender = scope.spawn(move || -> io::Result<()> {
            let mut socket = TcpStream::connect(address)?;
            let mut connection = rustls::Stream::new(&mut sending, &mut socket);
            send(&mut connection, &block, bytes)?;
            connection.conn.send_close_notify();
            connection.flush()
        });
        let (mut socket, _) = listener.accept()?;
        let mut connection = rustls::Stream::new(&mut receiving, &mut socket);
        drain(&mut connection)?;
        let taken = start.elapsed();
        sender.join().map_err(|_| io::Error::other("the sender panicked"))??;
        Ok(taken)
    })
}

/// Writes bytes to one new file, in order, with one fsync at the end.
fn write(directory: &Path, bytes: u64) -> io::Result<Duration> {
    let (path, block) = (directory.join("written"), noise(BLOCK_BYTES));
    sync(directory)?;
    let start = now();
    let mut file = File::create(&path)?;
    send(&mut file, &block, bytes)?;
    file.sync_all()?;
    Ok(start.elapsed())
}

/// Creates small files from several threads, each in its own directories, and syncs the file system at the end.
fn create(directory: &Path, files: u64, threads: u64) -> io::Result<Duration> {
    let (top, content) = (directory.join(format!("created-{threads}")), noise(CREATED_FILE_BYTES));
    let content = &content;
    std::fs::create_dir(&top)?;
    sync(directory)?;
    let start = now();
    std::thread::scope(|scope| {
        let start_thread = |thread: u64| {
            let top = top.join(thread.to_string());
            scope.spawn(move || create_some(&top, files / threads, content))
        };
        let running: Vec<_> = (0..threads).map(start_thread).collect();
        running.into_iter().try_for_each(|thread| {
            thread.join().map_err(|_| io::Error::other("a thread that creates files panicked"))?
        })
    })?;
    sync(directory)?;
    Ok(start.elapsed())
}

fn create_some(top: &Path, files: u64, content: &[u8]) -> io::Result<()> {
    for index in 0..files {
        let directory = top.join((index / FILES_PER_DIRECTORY).to_string());
        if index % FILES_PER_DIRECTORY == 0 {
            std::fs::create_dir_all(&directory)?;
        }
        std::fs::write(directory.join(index.to_string()), content)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_measured() {
        let directory = tempfile::tempdir().unwrap();
        let size = Size { files: 10, bytes: 3 << 20 };
        let names = |set| -> Vec<&str> {
            measure(set, size, directory.path(), directory.path())
                .unwrap()
                .into_iter()
                .map(|(name, _)| name)
                .collect()
        };
        assert_eq!(names(DataSet::S), [CREATE, CREATE_TWICE]);
        assert_eq!(loopback(size.bytes).unwrap().as_nanos().min(1), 1);
        assert_eq!(write(directory.path(), size.bytes).unwrap().as_nanos().min(1), 1);
    }
}
