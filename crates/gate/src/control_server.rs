//! The gate's end of the control socket.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use entracte_model::UnixMs;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use crate::background::chain;
use crate::bins_file::BinFiles;
use crate::control::{Answer, Ask, Pass};
use crate::core::{Core, SetError};
use crate::error::GateError;
use crate::files::{self, Lock};
use crate::metrics;
use crate::sessions::SessionFile;
use crate::succession;
use crate::who::PASS_HEADER;

/// How long a client of the socket may say nothing.
const IDLE_MS: u64 = 60_000;
/// The longest validity of a tester's pass.
const PASS_MINUTES_MAX: u32 = 1_440;
/// Bins of the files in one answer: about eleven days.
const BINS_MAX: usize = 100_000;
const ACCEPT_PAUSE_MS: u64 = 50;

/// The socket, and the lock that says it is ours.
#[derive(Debug)]
pub(crate) struct ControlSocket {
    listener: UnixListener,
    lock: Lock,
}

impl ControlSocket {
    /// Makes the socket. A socket file that a dead gate left is replaced: the lock beside it tells.
    pub(crate) fn bind(path: &Path) -> Result<Self, GateError> {
        let folder =
            path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if !folder.exists() {
            files::private_dir(folder)?;
        }
        let lock = Lock::take(&lock_beside(path))?;
        match fs::remove_file(path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(GateError::file("remove the old socket", path)(error)),
        }
        let listener =
            UnixListener::bind(path).map_err(GateError::file("make the socket", path))?;
        // Between the two calls only those could connect who may enter the folder, which is ours.
        let private = fs::Permissions::from_mode(0o600);
        fs::set_permissions(path, private).map_err(GateError::file("protect the socket", path))?;
        Ok(Self { listener, lock })
    }

    /// The socket of a gate that handed it over.
    pub(crate) fn inherited(listener: OwnedFd, lock: OwnedFd) -> io::Result<Self> {
        let listener = std::os::unix::net::UnixListener::from(listener);
        listener.set_nonblocking(true)?;
        Ok(Self { listener: UnixListener::from_std(listener)?, lock: Lock::inherited(lock) })
    }

    /// Socket and lock once more, for a successor.
    pub(crate) fn share(&self) -> io::Result<(OwnedFd, OwnedFd)> {
        Ok((self.listener.as_fd().try_clone_to_owned()?, self.lock.share()?))
    }

    /// Serves until dropped.
    pub(crate) async fn serve(self, core: Arc<Core>, files: (BinFiles, SessionFile)) {
        let files = Arc::new(files);
        let room = Arc::new(Semaphore::new(core.config.limits.control_clients_max));
        loop {
            let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let (core, files) = (Arc::clone(&core), Arc::clone(&files));
                    tokio::spawn(async move {
                        let _permit = permit;
                        // The client sees a broken conversation itself; there is nobody else to tell.
                        let _ = talk(&core, &files, stream).await;
                    });
                }
                Err(_) => sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await,
            }
        }
    }
}

fn lock_beside(path: &Path) -> std::path::PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".lock");
    path.with_file_name(name)
}

async fn talk(
    core: &Arc<Core>,
    files: &(BinFiles, SessionFile),
    stream: UnixStream,
) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let line_max = core.config.limits.control_line_bytes_max;
    let bound = u64::try_from(line_max).unwrap_or(u64::MAX);
    let mut reader = BufReader::new(read);
    loop {
        let mut line = Vec::new();
        let one = async { (&mut reader).take(bound).read_until(b'\n', &mut line).await };
        let count = timeout(Duration::from_millis(IDLE_MS), one)
            .await
            .map_err(|_| io::ErrorKind::TimedOut)??;
        if count == 0 {
            return Ok(());
        }
        let whole = line.ends_with(b"\n");
        let answer = if !whole && line.len() >= line_max {
            Answer::Failed(format!("a line of more than {line_max} bytes"))
        } else {
            match serde_json::from_slice::<Ask>(&line) {
                Ok(Ask::HandOver) => {
                    let whole = reader.into_inner().reunite(write).map_err(io::Error::other)?;
                    return succession::give(core, files, whole).await;
                }
                Ok(Ask::Bins { from, to }) => bins(core, &files.0, from, to).await,
                Ok(ask) => act(core, ask).await,
                Err(error) => Answer::Failed(format!("not understood: {error}")),
            }
        };
        let mut text = serde_json::to_vec(&answer)?;
        text.push(b'\n');
        write.write_all(&text).await?;
        if !whole {
            return Ok(());
        }
    }
}

async fn act(core: &Arc<Core>, ask: Ask) -> Answer {
    match ask {
        Ask::Status => status(core).await,
        Ask::Set { goal } => match core.set(&goal).await {
            Ok(()) => status(core).await,
            Err(SetError::Refused(refused)) => Answer::Refused(refused),
            Err(SetError::Gate(error)) => Answer::Failed(chain(&error)),
        },
        Ask::Pass { minutes } => match pass(core, minutes) {
            Ok(pass) => Answer::Pass(pass),
            Err(error) => Answer::Failed(chain(&error)),
        },
        Ask::Hours => Answer::Hours(core.hours()),
        Ask::Metrics => Answer::Metrics(metrics::text(core)),
        Ask::Reload => {
            core.reload();
            status(core).await
        }
        Ask::Upgrade => match succession::upgrade(core).await {
            Ok(pid) => Answer::Upgraded { pid },
            Err(why) => Answer::Failed(why),
        },
        Ask::Bins { .. } | Ask::HandOver => Answer::Failed("asked in another place".to_owned()),
        Ask::ClearAlarm => {
            core.alarm(None);
            status(core).await
        }
    }
}

/// From memory, and what is older from the files.
async fn bins(core: &Core, files: &BinFiles, from: UnixMs, to: UnixMs) -> Answer {
    let (recent, oldest) = (core.bins_between(from, to), core.oldest_bin());
    if from >= oldest {
        return Answer::Bins(recent);
    }
    let (files, to) = (files.clone(), to.min(oldest));
    let old = tokio::task::spawn_blocking(move || files.between(from, to, BINS_MAX)).await;
    Answer::Bins(old.unwrap_or_default().into_iter().chain(recent).collect())
}

async fn status(core: &Core) -> Answer {
    let reachable = core.pool.is_reachable().await;
    Answer::Status(Box::new(core.status(reachable)))
}

fn pass(core: &Core, minutes: u32) -> Result<Pass, GateError> {
    let expires = core.clock.now() + u64::from(minutes.clamp(1, PASS_MINUTES_MAX)) * 60_000;
    Ok(Pass {
        header: (PASS_HEADER.as_str().to_owned(), core.keys.pass(expires, "*")?),
        url_token: core.pass_tokens.give(expires, core.clock.now())?,
        expires,
    })
}
