//! A Unix socket that listens at a path.
//!
//! Every user can connect: the kernel says which user it is, and [`LocalUsers`](crate::LocalUsers) decides. The socket
//! is made in a private directory and renamed to its path. So no other user can put something else in its place while
//! its mode is set, and the socket of a dead process is replaced in one step.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, FlockOperation, Mode, OFlags, Stat};
use rustix::io::Errno;
use tokio::net::{UnixListener, UnixStream};

use crate::address::UNIX_SCHEME;
use crate::local_users::user_name;

/// The name of the socket within the directory in which it is made.
const FRESH: &str = "s";

/// Why a Unix socket cannot be made. Its text is one sentence.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another process listens there.
    #[error("process {process} of {user} already listens there; stop it, or choose another path")]
    InUse {
        /// Its number.
        process: String,
        /// Its user.
        user: String,
    },
    /// The path is that of something other than a socket.
    #[error("there is a file that is no socket; remove it, or choose another path")]
    NoSocket,
    /// The directory cannot be opened.
    #[error("its directory {} cannot be used: {error}; make it, and let this user write there", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The operating system reports an error.
    #[error("{0}")]
    System(#[from] io::Error),
}

impl From<Errno> for BindError {
    fn from(errno: Errno) -> Self {
        Self::System(errno.into())
    }
}

/// See the module. Dropping it removes the socket from its path.
#[derive(Debug)]
pub struct UnixSocket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the socket's name.
    identity: (u64, u64),
}

impl fmt::Display for UnixSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{UNIX_SCHEME}{}", self.path.display())
    }
}

impl UnixSocket {
    /// Listens on a path. Replaces the socket of a dead process.
    ///
    /// # Errors
    /// Another process listens there, or the directory cannot be written.
    pub fn bind(path: &Path) -> Result<Self, BindError> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(BindError::NoSocket);
        };
        let failed = |error: Errno| BindError::Directory { path: parent.to_owned(), error: error.into() };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::openat(CWD, parent, flags, Mode::empty()).map_err(failed)?;
        let _lock = lock(&directory, name)?;
        check_free(&directory, path)?;
        let private = Private::make(&directory).map_err(failed)?;
        let listener = UnixListener::bind(through(&private.handle, FRESH))?;
        // No other user can write in there, so the name is still that of the socket.
        rustix::fs::chmodat(&private.handle, FRESH, Mode::from_raw_mode(0o666), AtFlags::empty())?;
        let stat = rustix::fs::statat(&private.handle, FRESH, AtFlags::SYMLINK_NOFOLLOW)?;
        rustix::fs::renameat(&private.handle, FRESH, &directory, name)?;
        Ok(Self { listener, path: path.to_owned(), identity: identity(&stat) })
    }

    /// The path of the socket.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The next connection, and the user that made it.
    pub(crate) async fn accept(&self) -> io::Result<(UnixStream, u32)> {
        let (stream, _) = self.listener.accept().await?;
        let uid = stream.peer_cred()?.uid();
        Ok((stream, uid))
    }
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        let found = rustix::fs::statat(CWD, &self.path, AtFlags::SYMLINK_NOFOLLOW);
        // Another process may have put its own socket there.
        if found.is_ok_and(|stat| identity(&stat) == self.identity) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn identity(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

/// A path to a name in an open directory, which is short however long the directory's own path is.
fn through(directory: &OwnedFd, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{name}", directory.as_fd().as_raw_fd()))
}

/// Keeps other processes that start from replacing a socket of this name between the check and the rename. Only this
/// user can open the lock file, so no other user can delay a start.
fn lock(directory: &OwnedFd, name: &OsStr) -> Result<OwnedFd, BindError> {
    let name = [b".".as_slice(), name.as_bytes(), b".lock"].concat();
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(directory, name, flags, Mode::RUSR | Mode::WUSR)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::AGAIN) => Err(in_use(None)),
        Err(errno) => Err(errno.into()),
    }
}

/// Checks that nothing is at a path, or only the socket of a dead process.
fn check_free(directory: &OwnedFd, path: &Path) -> Result<(), BindError> {
    let name = path.file_name().unwrap_or_default();
    let stat = match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(errno.into()),
    };
    if FileType::from_raw_mode(stat.st_mode) != FileType::Socket {
        return Err(BindError::NoSocket);
    }
    let socket = rustix::net::socket_with(
        rustix::net::AddressFamily::UNIX,
        rustix::net::SocketType::STREAM,
        rustix::net::SocketFlags::CLOEXEC | rustix::net::SocketFlags::NONBLOCK,
        None,
    )?;
    let address = rustix::net::SocketAddrUnix::new(path.as_os_str().as_bytes())?;
    match rustix::net::connect(&socket, &address) {
        Ok(()) => {
            let holder = rustix::net::sockopt::socket_peercred(&socket)?;
            Err(in_use(Some((holder.pid.as_raw_nonzero().get(), holder.uid.as_raw()))))
        }
        // Its queue is full, so its process is alive.
        Err(Errno::AGAIN) => Err(in_use(None)),
        Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

fn in_use(holder: Option<(i32, u32)>) -> BindError {
    let Some((process, uid)) = holder else {
        return BindError::InUse { process: "(busy)".to_owned(), user: "this machine".to_owned() };
    };
    let name = std::fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
    let process = match name.trim() {
        "" => process.to_string(),
        name => format!("{process} ({name})"),
    };
    let user = user_name(uid).unwrap_or_else(|| uid.to_string());
    BindError::InUse { process, user: format!("user {user}") }
}

/// A directory within another one, which only this user can enter. It is removed when this is dropped.
struct Private<'a> {
    parent: &'a OwnedFd,
    name: String,
    handle: OwnedFd,
}

impl<'a> Private<'a> {
    fn make(parent: &'a OwnedFd) -> Result<Self, Errno> {
        let name = format!(".orbit-socket-{:016x}", rand::random::<u64>());
        rustix::fs::mkdirat(parent, &name, Mode::RWXU)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = rustix::fs::openat(parent, &name, flags, Mode::empty())?;
        Ok(Self { parent, name, handle })
    }
}

impl Drop for Private<'_> {
    fn drop(&mut self) {
        let _ = rustix::fs::unlinkat(&self.handle, FRESH, AtFlags::empty());
        let _ = rustix::fs::unlinkat(self.parent, &self.name, AtFlags::REMOVEDIR);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};

    use super::*;

    #[tokio::test]
    async fn every_user_can_connect_to_a_socket_and_it_is_removed_with_its_process() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.sock");
        let socket = UnixSocket::bind(&path).unwrap();
        let meta = std::fs::metadata(&path).unwrap();
        assert!(meta.file_type().is_socket());
        assert_eq!(meta.permissions().mode() & 0o777, 0o666);
        let left: std::collections::BTreeSet<_> =
            std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, [".x.sock.lock".into(), "x.sock".into()].into(), "nothing else is left there");
        let (client, accepted) = tokio::join!(UnixStream::connect(&path), socket.accept());
        client.unwrap();
        assert_eq!(accepted.unwrap().1, rustix::process::geteuid().as_raw());
        drop(socket);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn two_processes_that_start_at_once_do_not_replace_each_other_and_a_locked_directory_holds_none_up()
    {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.sock");
        let handle: OwnedFd = std::fs::File::open(directory.path()).unwrap().into();
        // Any user who can read the directory can do this.
        rustix::fs::flock(&handle, FlockOperation::LockExclusive).unwrap();
        let starting = lock(&handle, OsStr::new("x.sock")).unwrap();
        assert!(matches!(UnixSocket::bind(&path), Err(BindError::InUse { .. })));
        drop(starting);
        UnixSocket::bind(&path).unwrap();
        let mode = std::fs::metadata(directory.path().join(".x.sock.lock")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[tokio::test]
    async fn the_socket_of_a_dead_process_is_replaced_and_that_of_a_living_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.sock");
        // The listener is closed and its file remains, as after a kill.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let socket = UnixSocket::bind(&path).unwrap();
        let error = UnixSocket::bind(&path).unwrap_err();
        let own = std::process::id().to_string();
        assert!(matches!(&error, BindError::InUse { process, .. } if process.contains(&own)), "{error}");
        // One that lost its path to another one does not remove the other's socket.
        std::fs::remove_file(&path).unwrap();
        let second = UnixSocket::bind(&path).unwrap();
        drop(socket);
        assert!(path.exists());
        drop(second);
        std::fs::write(&path, "text").unwrap();
        assert!(matches!(UnixSocket::bind(&path), Err(BindError::NoSocket)));
        assert_eq!(std::fs::read(&path).unwrap(), b"text");
        let missing = UnixSocket::bind(&directory.path().join("none/x.sock")).unwrap_err();
        assert!(missing.to_string().contains("none"), "{missing}");
    }
}
