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

/// Makes a new password and puts it into `file`, which must not exist. Synced before it is used:
/// a repository whose password was lost in a crash would be lost with it.
pub(crate) fn create(file: &Path) -> Result<String, BackupError> {
    let failed = |error| BackupError::io("write the password file", file, error);
    let mut random = [0; RANDOM_BYTES];
    getrandom::fill(&mut random).map_err(|error| failed(error.into()))?;
    let mut password = String::with_capacity(RANDOM_BYTES * 2);
    for byte in random {
        write!(password, "{byte:02x}").expect("writing to a string does not fail");
    }
    let folder = match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    };
    fs::create_dir_all(folder).map_err(failed)?;
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)
        .and_then(|mut open| {
            open.write_all(format!("{password}\n").as_bytes())?;
            open.sync_all()
        })
        .and_then(|()| File::open(folder)?.sync_all());
    if let Err(error) = written {
        // Best effort: half a password must not be taken for one. A file that was there before
        // is not ours to remove.
        if error.kind() != io::ErrorKind::AlreadyExists {
            let _ = fs::remove_file(file);
        }
        return Err(failed(error));
    }
    Ok(password)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_new_password_is_private_random_and_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("keys/one"), dir.path().join("two"));
        let password = create(&one).unwrap();
        assert_eq!(password.len(), 64);
        assert_ne!(password, create(&two).unwrap());
        assert_eq!(fs::metadata(&one).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(read(&one).unwrap(), Some(password));
        assert!(create(&one).is_err(), "an existing password was replaced");
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
