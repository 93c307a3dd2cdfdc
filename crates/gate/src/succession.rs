//! A new program takes the place of the running one, and no client notices.
//!
//! The successor connects to the control socket and asks for everything: the old gate holds its
//! state still, writes what it counts, and sends the sockets and locks themselves (`SCM_RIGHTS`).
//! Both accept for a moment; when the successor says "ready", the old one stops accepting and
//! serves those who came through it to their end. Until then it follows the successor's states and
//! says what it still has in the game, so that "closed, and nothing in flight" stays true.
//!
//! Where anything fails before "ready", the old gate goes on as if nothing had been asked.

use std::ffi::OsString;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use entracte_model::gate::State;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::background;
use crate::bins::Bin;
use crate::bins_file::BinFiles;
use crate::core::{Core, Elder};
use crate::error::GateError;
use crate::sessions::SessionFile;

/// How often the old gate looks whether it has something new to say.
const REPORT_MS: u64 = 50;
/// How long the old gate may take to hand over.
const HAND_OVER_MS: u64 = 15_000;
/// The most sockets and locks that are passed.
const FDS_MAX: usize = 8;
/// The longest line between the two, in bytes.
const LINE_BYTES_MAX: usize = 256 * 1024;

/// The program that takes over from this one, and how it is started.
#[derive(Debug, Clone)]
pub struct Successor {
    /// The program's file. Looked up when it is started: it may be a newer one by then.
    pub program: PathBuf,
    /// Its arguments; they must make it take over.
    pub args: Vec<OsString>,
}

/// What a gate hands on: its sockets and its locks. Both processes hold them for a moment.
#[derive(Debug)]
pub(crate) struct Heirlooms {
    pub(crate) listener: OwnedFd,
    pub(crate) control: OwnedFd,
    pub(crate) state_lock: OwnedFd,
    pub(crate) control_lock: OwnedFd,
    pub(crate) metrics: Option<OwnedFd>,
}

impl Heirlooms {
    fn in_order(&self) -> Vec<BorrowedFd<'_>> {
        let fixed = [&self.listener, &self.control, &self.state_lock, &self.control_lock];
        fixed.into_iter().chain(&self.metrics).map(AsFd::as_fd).collect()
    }

    fn from_order(fds: Vec<OwnedFd>) -> Option<Self> {
        let mut fds = fds.into_iter();
        let heirlooms = Self {
            listener: fds.next()?,
            control: fds.next()?,
            state_lock: fds.next()?,
            control_lock: fds.next()?,
            metrics: fds.next(),
        };
        fds.next().is_none().then_some(heirlooms)
    }
}

/// What goes with the sockets.
#[derive(Debug, Serialize, Deserialize)]
struct Testament {
    handed_over: Handed,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Handed {
    pub(crate) alarm: Option<String>,
    pub(crate) bin: Bin,
    pub(crate) elder: Elder,
}

/// The successor's state, for the one before it.
#[derive(Debug, Serialize, Deserialize)]
struct Followed {
    acts: u64,
    state: State,
}

const READY: &str = "{\"ready\":true}\n";

/// What a successor got, and the line to the one before it.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) heirlooms: Heirlooms,
    pub(crate) handed: Handed,
    pub(crate) line: StdStream,
}

/// Asks the running gate for everything.
pub(crate) fn take(socket: &Path) -> Result<Taken, GateError> {
    let refuse = |problem: String| GateError::TakeOver { path: socket.to_owned(), problem };
    let broken = |error: io::Error| refuse(error.to_string());
    let line = StdStream::connect(socket).map_err(broken)?;
    line.set_read_timeout(Some(Duration::from_millis(HAND_OVER_MS))).map_err(broken)?;
    io::Write::write_all(&mut &line, b"{\"do\":\"hand_over\"}\n").map_err(broken)?;
    let (text, fds) = receive(&line).map_err(broken)?;
    let Ok(testament) = serde_json::from_slice::<Testament>(&text) else {
        let words = String::from_utf8_lossy(&text).trim().chars().take(300).collect();
        return Err(refuse(words));
    };
    let heirlooms = Heirlooms::from_order(fds)
        .ok_or_else(|| refuse("it sent other sockets than expected".to_owned()))?;
    Ok(Taken { heirlooms, handed: testament.handed_over, line })
}

/// One line, and what was sent with it.
fn receive(line: &StdStream) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let (mut text, mut fds) = (Vec::new(), Vec::new());
    while !text.ends_with(b"\n") {
        let mut buffer = [0; 4_096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let got = recvmsg(
            line,
            &mut [IoSliceMut::new(&mut buffer)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        )?;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = message {
                fds.extend(received);
            }
        }
        if got.bytes == 0 || got.flags.contains(ReturnFlags::CTRUNC) || text.len() > LINE_BYTES_MAX
        {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        text.extend_from_slice(&buffer[..got.bytes]);
    }
    Ok((text, fds))
}

/// Sends the line with the sockets on its first bytes.
async fn send(stream: &UnixStream, mut text: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut fds = Some(fds);
    while !text.is_empty() {
        stream.writable().await?;
        let sent = stream.try_io(Interest::WRITABLE, || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if let Some(fds) = fds {
                control.push(SendAncillaryMessage::ScmRights(fds));
            }
            Ok(sendmsg(stream, &[IoSlice::new(text)], &mut control, SendFlags::NOSIGNAL)?)
        });
        match sent {
            Ok(count) => {
                text = &text[count..];
                fds = None;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The old gate's part, on the connection on which its successor asked. Returns when either of
/// the two has ended, or when the successor did not become ready.
pub(crate) async fn give(
    core: &Arc<Core>,
    files: &(BinFiles, SessionFile),
    stream: UnixStream,
) -> io::Result<()> {
    let _no_goal_meanwhile = core.hold_still().await;
    if *core.retired.borrow() {
        return refuse(&stream, "it has handed over to another one already").await;
    }
    if let Err(error) = background::write_last(core, &files.0, &files.1) {
        return refuse(&stream, &background::chain(&error)).await;
    }
    let (acts, _) = core.state();
    let (bin, alarm) = core.unfinished();
    let handed = Handed { alarm, bin, elder: Elder { acts: 0, ..core.as_elder(acts) } };
    let mut text = serde_json::to_vec(&Testament { handed_over: handed })?;
    text.push(b'\n');
    // Taken out and not borrowed: nothing under this lock may wait.
    let Some(heirlooms) = core.take_heirlooms() else {
        return refuse(&stream, "another program is about to take over").await;
    };
    let told = hear_ready(core, stream, &text, &heirlooms).await;
    let Some((reader, writer)) = told else {
        core.keep_heirlooms(heirlooms);
        return Ok(());
    };
    core.retired.send_replace(true);
    drop(heirlooms);
    follow(core, reader, writer).await
}

/// Hands over and waits for the word. Nothing where it does not come.
async fn hear_ready(
    core: &Core,
    stream: UnixStream,
    text: &[u8],
    heirlooms: &Heirlooms,
) -> Option<(BufReader<OwnedReadHalf>, OwnedWriteHalf)> {
    send(&stream, text, &heirlooms.in_order()).await.ok()?;
    let (read, writer) = stream.into_split();
    let mut reader = BufReader::new(read);
    let mut line = String::new();
    let limit = Duration::from_millis(core.config.limits.upgrade_ready_ms);
    let heard = timeout(limit, reader.read_line(&mut line)).await;
    (matches!(heard, Ok(Ok(_))) && line == READY).then_some((reader, writer))
}

async fn refuse(stream: &UnixStream, why: &str) -> io::Result<()> {
    let mut text = serde_json::to_vec(&crate::control::Answer::Failed(why.to_owned()))?;
    text.push(b'\n');
    send(stream, &text, &[]).await
}

/// Does as the successor says, and says what is left here.
async fn follow(
    core: &Arc<Core>,
    reader: BufReader<OwnedReadHalf>,
    mut writer: OwnedWriteHalf,
) -> io::Result<()> {
    let mut lines = reader.lines();
    let mut tick = interval(Duration::from_millis(REPORT_MS));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut acts, mut said) = (0, None);
    loop {
        tokio::select! {
            line = lines.next_line() => match line? {
                Some(line) => {
                    let followed: Followed = serde_json::from_str(&line)?;
                    core.follow(followed.state);
                    acts = followed.acts;
                }
                // It died: this one goes on with those whom it has, in the last state it heard of.
                None => return Ok(()),
            },
            _ = tick.tick() => {}
        }
        let now = core.as_elder(acts);
        if said != Some(now) {
            let mut text = serde_json::to_vec(&now)?;
            text.push(b'\n');
            writer.write_all(&text).await?;
            said = Some(now);
        }
    }
}

/// The successor's part: tells every state, and hears what is left there. Ends with the old gate.
pub(crate) async fn lead(core: Arc<Core>, line: UnixStream) {
    let (read, mut writer) = line.into_split();
    let mut lines = BufReader::new(read).lines();
    let mut phase = core.phase.subscribe();
    let _: io::Result<()> = async {
        writer.write_all(READY.as_bytes()).await?;
        loop {
            tokio::select! {
                line = lines.next_line() => match line? {
                    Some(line) => core.heard_of_elder(Some(serde_json::from_str(&line)?)),
                    None => return Ok(()),
                },
                _ = phase.changed() => {
                    let (acts, state) = core.state();
                    let mut text = serde_json::to_vec(&Followed { acts, state })?;
                    text.push(b'\n');
                    writer.write_all(&text).await?;
                }
            }
        }
    }
    .await;
    core.heard_of_elder(None);
}

/// Starts the successor's program and waits until it has taken over. Its process number, or why
/// this gate goes on.
pub(crate) async fn upgrade(core: &Core) -> Result<u32, String> {
    let Some(successor) = &core.successor else {
        return Err("this gate was not started so that it can be upgraded; \
                    run it as `entracte gate serve`, or restart it"
            .to_owned());
    };
    let mut child = tokio::process::Command::new(&successor.program)
        .args(&successor.args)
        .stdin(std::process::Stdio::null())
        .spawn()
        .map_err(|error| format!("{}: {error}", successor.program.display()))?;
    let pid = child.id().unwrap_or(0);
    let mut retired = core.retired.subscribe();
    // A little more than the wait for its word, which is the better explanation.
    let limit = Duration::from_millis(core.config.limits.upgrade_ready_ms + 2_000);
    let told = async {
        // Only the word counts, not the borrowed value.
        retired.wait_for(|retired| *retired).await.is_ok()
    };
    let ended = tokio::select! {
        _ = told => return Ok(pid),
        ended = child.wait() => Some(ended),
        () = sleep(limit) => None,
    };
    match ended {
        Some(ended) => {
            let how = ended.map_or_else(|error| error.to_string(), |status| status.to_string());
            Err(format!("the new program ended before it was ready ({how}); this gate goes on"))
        }
        None => {
            // It must not come up later, when nobody expects it.
            let _ = child.kill().await;
            Err("the new program was not ready in time; this gate goes on".to_owned())
        }
    }
}
