//! The password of a repository: a file that only its owner reads.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use crate::BackupError;

/// Random bytes in a new password.
const RANDOM_BYTES: usize = 32;
/// The longest password file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 4_096;

/// The password in `file`: its first line.
pub(crate) fn read(file: &Path) -> Result<Option<String>, BackupError> {
    let failed = |error| BackupError::io("read the password file", file, error);
    let open = match File::open(file) {
        Ok(open) => open,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let wrong = |problem| BackupError::PasswordFile { password_file: file.to_owned(), problem };
    if open.metadata().map_err(failed)?.mode() & 0o006 != 0 {
        return Err(wrong("can be read or written by everybody: run chmod 600 on it"));
    }
    let mut text = String::new();
    open.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(failed)?;
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(Some(line.to_owned())),
        Some(_) | None => Err(wrong("is empty: put it back from its copy")),
    }
}

/// The password in `file`, which is made with a new one where it is missing. Synced before it is
/// used: a repository whose password was lost in a crash would be lost with it.
///
/// It is written beside and then linked, so that who comes at the same time (the daily backup, a
/// release) finds none or a whole one, and both use the one that was first. A crash can leave the
/// file beside, with a password of nothing.
pub(crate) fn read_or_create(file: &Path) -> Result<String, BackupError> {
    if let Some(password) = read(file)? {
        return Ok(password);
    }
    let failed = |error| BackupError::io("write the password file", file, error);
    let password = hex(&random().map_err(failed)?);
    let folder = match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    };
    fs::create_dir_all(folder).map_err(failed)?;
    let mut part = file.as_os_str().to_owned();
    part.push(format!(".{}.part", hex(&random().map_err(failed)?[..8])));
    let written = write_new(Path::new(&part), &password).and_then(|()| fs::hard_link(&part, file));
    // Best effort: what is left is the password of nothing.
    let _ = fs::remove_file(&part);
    match written {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        other => other.map_err(failed)?,
    }
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
    // Nobody removes it: where it is missing now, something else is wrong.
    read(file)?.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))
}

fn write_new(part: &Path, password: &str) -> io::Result<()> {
    let mut open = OpenOptions::new().write(true).create_new(true).mode(0o600).open(part)?;
    open.write_all(format!("{password}\n").as_bytes())?;
    open.sync_all()
}

fn random() -> io::Result<[u8; RANDOM_BYTES]> {
    let mut random = [0; RANDOM_BYTES];
    getrandom::fill(&mut random)?;
    Ok(random)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string does not fail");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_new_password_is_private_random_and_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("keys/one"), dir.path().join("two"));
        let password = read_or_create(&one).unwrap();
        assert_eq!(password.len(), 64);
        assert_ne!(password, read_or_create(&two).unwrap());
        assert_eq!(fs::metadata(&one).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(read(&one).unwrap(), Some(password.clone()));
        assert_eq!(read_or_create(&one).unwrap(), password, "an existing password was replaced");
        assert_eq!(fs::read_dir(dir.path().join("keys")).unwrap().count(), 1);
    }

    #[test]
    fn who_makes_it_at_the_same_time_gets_the_same_one() {
        let dir = tempfile::tempdir().unwrap();
        for round in 0..50 {
            let file = dir.path().join(round.to_string());
            let all = std::thread::scope(|scope| {
                let threads: Vec<_> =
                    (0..8).map(|_| scope.spawn(|| read_or_create(&file))).collect();
                threads.into_iter().map(|one| one.join().unwrap().unwrap()).collect::<Vec<_>>()
            });
            assert!(all.iter().all(|one| *one == all[0]), "{all:?}");
        }
    }

    #[test]
    fn an_open_or_empty_file_is_refused_and_a_missing_one_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("password");
        assert!(read(&file).unwrap().is_none());
        fs::write(&file, "secret\n").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        let said = read(&file).unwrap_err().to_string();
        assert!(said.contains("chmod 600") && !said.contains("secret"), "{said}");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&file, "").unwrap();
        assert!(matches!(read(&file), Err(BackupError::PasswordFile { .. })));
    }
}
