//! Files whose size is meaningless: those of /proc report 0 and have content, those of /sys report 4096 and have a few
//! bytes. They are read to their end at once, into memory, and have the size that was read.

use orbit_shared::entry::display_path;
use orbit_shared::session::Failure;
use rustix::fd::OwnedFd;
use rustix::fs::Stat;
use rustix::io::Errno;

use crate::failures::{at_source, permanent};
use crate::limits::{HELD_BYTES_MAX, HELD_SIZE_MAX};

/// The content of a file, if its reported size is meaningless.
pub(crate) fn hold(file: &OwnedFd, stat: &Stat, shown: &[u8]) -> Result<Option<Vec<u8>>, Failure> {
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    // A file on a disk has blocks there, or is small and read quickly.
    if stat.st_blocks != 0 || size > HELD_SIZE_MAX {
        return Ok(None);
    }
    let mut content = Vec::new();
    loop {
        content.reserve(HELD_SIZE_MAX as usize);
        let offset = content.len() as u64;
        match rustix::io::pread(file, rustix::buffer::spare_capacity(&mut content), offset) {
            Ok(0) => break,
            Ok(_) if size > 0 && content.len() as u64 >= size => return Ok(None),
            Ok(_) if content.len() > HELD_BYTES_MAX => {
                return Err(permanent(format!(
                    "{} is empty by its size and has more than {HELD_BYTES_MAX} bytes: exclude it",
                    display_path(shown)
                )));
            }
            Ok(_) | Err(Errno::INTR) => {}
            // Reading it would wait for data, or is not possible.
            Err(errno @ (Errno::AGAIN | Errno::INVAL | Errno::NODATA | Errno::SPIPE)) => {
                let failure = at_source(errno, "read", shown);
                return Err(permanent(format!("{}: exclude it", failure.message)));
            }
            Err(errno) => return Err(at_source(errno, "read", shown)),
        }
    }
    Ok((content.len() as u64 != size).then_some(content))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(path: &str) -> Result<Option<Vec<u8>>, Failure> {
        let file = OwnedFd::from(std::fs::File::open(path).unwrap());
        let stat = rustix::fs::fstat(&file).unwrap();
        hold(&file, &stat, path.as_bytes())
    }

    #[test]
    fn files_of_the_kernel_are_read_to_their_end() {
        let content = held("/proc/sys/kernel/ostype").unwrap().unwrap();
        assert_eq!(content, b"Linux\n");
        let file = "/sys/kernel/mm/transparent_hugepage/enabled";
        if let Ok(shown) = std::fs::read(file) {
            assert_eq!(held(file).unwrap(), Some(shown));
        }
    }

    #[test]
    fn files_on_a_disk_are_not_held_whatever_their_size() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        for (content, size) in [("", 0), ("x", 1), ("", 1000), ("", 1 << 30)] {
            std::fs::write(&path, content).unwrap();
            std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(size).unwrap();
            assert_eq!(held(path.to_str().unwrap()).unwrap(), None, "{size}");
        }
    }
}
